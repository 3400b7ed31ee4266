"""Output of a command when one of its threads fails."""

import errno
import threading
from pathlib import Path

import pytest

from ratinglab.errors import RunFailedError
from ratinglab.process.exits import clean_exit, silence_storage_faults_of_threads


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RunFailedError("val/mse is nan"), "val/mse is nan"),
        (OSError(errno.ENOSPC, "no space"), "outputs/run: No space left on device"),
        (OSError(errno.EFBIG, "too large"), "outputs/run: File too large"),
        (OSError(errno.EACCES, "no access", "a.csv"), "a.csv: Permission denied"),
    ],
)
def test_failed_run_and_full_disk_end_a_command_with_status_1_and_one_line(capsys, error, message):
    with pytest.raises(SystemExit) as raised, clean_exit(Path("outputs/run")):
        raise error
    assert raised.value.code == 1
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(("error", "is_printed"), [(OSError(errno.EROFS, "Read-only"), False), (ValueError("x"), True)])
def test_thread_that_a_full_or_read_only_disk_ends_prints_nothing(monkeypatch, error, is_printed):
    printed = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    silence_storage_faults_of_threads()

    def fail():
        raise error

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert bool(printed) == is_printed
