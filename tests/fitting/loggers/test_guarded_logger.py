"""Loggers that fail."""

import errno
import logging
import os

import pytest
from pytorch_lightning.loggers import CSVLogger

from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
from ratinglab.process.interrupts import StoppedError


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (RuntimeError("no\n  answer"), "no answer"),
    ],
)
@pytest.mark.parametrize("starts", [True, False])
def test_failure_gives_one_warning(tmp_path, caplog, error, reason, starts):
    inner = CSVLogger(tmp_path)
    inner.log_metrics = failing(error)
    log = GuardedLogger("MLflow", (lambda: inner) if starts else failing(error))
    with caplog.at_level(logging.WARNING):
        log.log_hyperparams({"lr": 0.1})
        for epoch in (1, 2):
            log.log_metrics({"val/mse": 1.0}, epoch)
        log.finalize("success")
        log.close()
    messages = [record.message for record in caplog.records]
    assert messages == [f"warning: could not write to MLflow: {reason}; the run continues without it"]


def test_stop_is_no_failure(tmp_path):
    log = GuardedLogger("MLflow", failing(StoppedError(2)))
    with pytest.raises(StoppedError):
        log.log_metrics({"val/mse": 1.0}, 1)


@pytest.mark.parametrize("status", ["success", "failed"])
def test_logger_is_started_at_its_first_use_and_ended_with_its_status(tmp_path, status):
    calls = []

    def start():
        calls.append("start")
        return CSVLogger(tmp_path)

    log = GuardedLogger("W&B", start, end=lambda logger, status: calls.append((type(logger), status)))
    log.finalize(status)
    log.close()
    assert calls == []
    log.log_metrics({"val/mse": 1.0}, 1)
    log.finalize(status)
    log.close()
    assert calls == ["start", (CSVLogger, status)]
