"""How commands exit: with one line on stderr for a mistake or a signal, and a conventional status."""

import errno
import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from ratinglab.errors import UserError
from ratinglab.process.interrupts import StoppedError, raise_on_signals
from ratinglab.process.program import process_rank, started_by_slurm, started_by_torchrun

LINE_BREAKS = {ord(character): repr(character)[1:-1] for character in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"}
"""Characters at which str.splitlines splits, with their escapes: names of files, keys and cells in a message may have
them."""
STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR)
"""errno values of storage problems, which are reported without a traceback."""
RANK_ZERO_WAIT_SECONDS = 10.0
"""Time that a process waits before it reports a mistake that rank 0 also reports."""


@contextmanager
def clean_exit() -> Iterator[None]:
    """End the process with status 2 on a user's mistake, 128 + number on a signal, 141 on a closed pipe.

    Makes stdout and stderr print `?` for characters that the terminal's encoding lacks.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # a terminal in place of a file
                stream.reconfigure(errors="replace")
    try:
        with raise_on_signals():
            yield
    except UserError as error:
        if process_rank() > 0 and (started_by_torchrun() or started_by_slurm()):
            time.sleep(RANK_ZERO_WAIT_SECONDS)  # the launcher ends this process once rank 0 has ended
        exit_with(f"error: {str(error).translate(LINE_BREAKS)}", status=2)
    except StoppedError as error:
        exit_with(str(error), status=error.status)
    except BrokenPipeError:  # a command such as head has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def exit_with(message: str, *, status: int) -> NoReturn:
    """Print a line on stderr, unless the terminal is gone, and end the process."""
    try:
        print(message, file=sys.stderr, flush=True)
    finally:
        sys.exit(status)


def silence_storage_faults_of_threads() -> None:
    """Suppress tracebacks of storage errors in threads; the main thread reports them."""
    print_traceback = threading.excepthook

    def print_unless_storage_fault(arguments: threading.ExceptHookArgs) -> None:
        error = arguments.exc_value
        if not (isinstance(error, OSError) and error.errno in STORAGE_FAULTS):
            print_traceback(arguments)

    threading.excepthook = print_unless_storage_fault


def exit_on_storage_fault(error: Exception, folder: Path) -> None:
    """End the process with status 1 if the disk is full, protected or broken."""
    if isinstance(error, OSError) and error.errno in STORAGE_FAULTS:
        exit_with(f"error: {error.filename or folder}: {os.strerror(error.errno)}", status=1)
