"""metrics.csv of a run: Lightning's CSVLogger, which continues the table of a resumed run."""

import csv
import io
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from ratinglab.files import write_atomically


class EpochTable(CSVLogger):
    """Lightning's CSV logger, writing metrics.csv and hparams.yaml into the run's folder after every epoch."""

    def __init__(self, run_folder: Path, *, first_epoch: int) -> None:
        """Continue the table in `run_folder`, if there is one, without the rows from first_epoch on."""
        super().__init__(run_folder, name="", version="", flush_logs_every_n_steps=1)
        self._experiment = _ResumableWriter(run_folder, first_epoch=first_epoch)


class _ResumableWriter(ExperimentWriter):
    """Lightning's writer, which appends to the rows of an earlier process instead of deleting them."""

    def __init__(self, folder: Path, *, first_epoch: int) -> None:
        super().__init__(str(folder))
        path = Path(self.metrics_file_path)
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            complete = [row for row in rows if None not in row.values()]  # a kill can cut off the last row
            self.metrics_keys = list(rows[0]) if rows else []
            self._write_rows([row for row in complete if int(row["step"]) < first_epoch])

    def _record_new_keys(self) -> set[str]:
        """Add columns in the order in which they are logged, so that the curves come before the final metrics."""
        logged = dict.fromkeys(["step", *(key for row in self.metrics for key in row)])
        new = [key for key in logged if key not in self.metrics_keys]
        self.metrics_keys += new
        return set(new)

    def _check_log_dir_exists(self) -> None:
        """Do nothing. Lightning's own deletes the table."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """Add columns. Lightning's own would lose the table if the process were killed meanwhile."""
        with Path(self.metrics_file_path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self._write_rows(rows)

    def _write_rows(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(Path(self.metrics_file_path), lambda file: file.write(text.getvalue().encode()))
