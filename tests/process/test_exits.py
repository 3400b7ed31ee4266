"""Output of a command when one of its threads fails."""

import errno
import threading

import pytest

from ratinglab.process.exits import silence_storage_faults_of_threads


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
