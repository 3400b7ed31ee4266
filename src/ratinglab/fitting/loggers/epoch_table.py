"""metrics.csv of a run, with one row per epoch, and hparams.yaml."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.core.saving import save_hparams_to_yaml

from ratinglab.files import write_atomically


class EpochTable:
    """Writer of metrics.csv and hparams.yaml, the files of Lightning's CSVLogger.

    CSVLogger itself would delete the table of a resumed run. EpochTable continues it.
    """

    def __init__(self, run_folder: Path, *, first_epoch: int) -> None:
        """Continue the table in `run_folder`, if there is one, without the rows from first_epoch on."""
        self._folder, self._path = run_folder, run_folder / "metrics.csv"
        self._columns: list[str] = []
        rows = self._read_rows()
        if rows:
            self._columns = list(rows[0])
            complete = [row for row in rows if None not in row.values()]  # a kill can cut off the last row
            self._write_rows(row for row in complete if int(row["step"]) < first_epoch)

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Write hparams.yaml."""
        save_hparams_to_yaml(self._folder / "hparams.yaml", params)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a row, and a column for each new metric."""
        row = {"step": step, **metrics}
        new_columns = [column for column in row if column not in self._columns]
        if new_columns:
            rows = self._read_rows()
            self._columns += new_columns
            self._write_rows([*rows, row])
        else:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def _read_rows(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        with self._path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def _write_rows(self, rows: Iterable[Mapping[str, object]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self._path, lambda file: file.write(text.getvalue().encode()))
