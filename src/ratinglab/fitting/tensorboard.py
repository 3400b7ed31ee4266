"""TensorBoard events of one run."""

from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger


class EventLog(TensorBoardLogger):
    """Lightning's logger, in the run's own folder, and open beyond the fit.

    Lightning closes its logger when the fit ends, and whatever is logged afterwards opens a second event file. Here
    `close` closes it, when the test errors are written too.
    """

    def __init__(self, run_folder: Path) -> None:
        super().__init__(run_folder, name="", version="", default_hp_metric=False)

    def finalize(self, status: str) -> None:
        """Write what is logged so far."""
        self.experiment.flush()

    def save(self) -> None:
        """Write what is logged so far; no hparams.yaml, which would be empty: run.json has the options."""
        self.experiment.flush()

    def close(self) -> None:
        """Write everything and close the file."""
        self.experiment.close()
