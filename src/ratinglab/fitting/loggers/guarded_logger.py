"""A Lightning logger whose failure does not stop training."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers import Logger

from ratinglab.options import as_yaml

log = logging.getLogger(__name__)


class GuardedLogger(Logger):
    """Logger that starts when it is first used. After a failure, it warns once and discards everything else."""

    def __init__(
        self, title: str, start: Callable[[], Any], *, end: Callable[[Any, str], object] | None = None
    ) -> None:
        """Wrap the logger that `start` makes, such as one of Lightning's.

        Args:
            title: name of the logger in messages.
            start: makes the logger, at the first use.
            end: ends the logger, given the logger and the status of the fit. None if the logger needs no end.
        """
        super().__init__()
        self._title, self._start, self._end = title, start, end
        self._status = "failed"
        self._logger: Any = None
        self._failed = False

    @property
    def name(self) -> str:
        return self._title

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any]) -> None:  # type: ignore[override]
        self._try(lambda logger: logger.log_hyperparams(format_settings(params)))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log scalars; the step is the number of finished epochs."""
        self._try(lambda logger: logger.log_metrics(metrics, step))

    def finalize(self, status: str) -> None:
        """Record the status of the fit, "success" or "failed". The final metrics are still to come."""
        self._status = status

    def close(self) -> None:
        """End the logger, after the final metrics."""
        if self._logger is not None and (end := self._end) is not None:
            self._try(lambda logger: end(logger, self._status))

    def _try(self, write: Callable[[Any], object]) -> None:
        if self._failed:
            return
        try:
            if self._logger is None:
                self._logger = self._start()
            write(self._logger)
        except Exception as error:  # clients of services can raise anything
            self._failed = True
            log.debug("%s has failed", self._title, exc_info=True)
            reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
            log.warning("warning: could not write to %s: %s; the run continues without it", self._title, reason)


def format_settings(values: Mapping[str, Any]) -> dict[str, int | float | str]:
    """Format all values except numbers and texts as in YAML."""
    return {key: value if isinstance(value, int | float | str) else as_yaml(value) for key, value in values.items()}
