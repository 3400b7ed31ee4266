"""How commands end: a mistake or a signal prints one line on stderr, and the exit status follows convention."""

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

from ratinglab.errors import CONTROL_CHARACTERS, RunFailedError, UserError
from ratinglab.process.interrupts import StoppedError, raise_on_signals
from ratinglab.process.program import process_rank, started_by_slurm, started_by_torchrun

STORAGE_FAULTS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR),
)
"""errno values of storage faults, such as a full or protected disk. They are reported without a traceback."""
RANK_ZERO_WAIT_SECONDS = 10.0
"""Time that another rank waits before it reports a mistake, because rank 0 usually reports the same one."""


@contextmanager
def clean_exit(folder: Path | None = None) -> Iterator[None]:
    """End the process without a traceback if a `with` block ends with an error that is not a bug in ratinglab.

    The exit status is 2 for a user's mistake, 1 for a run that fails or a disk that cannot be written to, 128 + the
    number of a signal, and 141 for a closed pipe. The message about a disk names `folder`, by default the working
    folder, if the error names no file. Also makes stdout and stderr print `?` for characters that the terminal's
    encoding does not have.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # a stream is flushed here, and its terminal may be gone
                stream.reconfigure(errors="replace")
    try:
        with raise_on_signals():
            yield
    except UserError as error:
        if process_rank() > 0 and (started_by_torchrun() or started_by_slurm()):
            time.sleep(RANK_ZERO_WAIT_SECONDS)  # meanwhile, the launcher ends this process if rank 0 has ended
        exit_with(f"error: {str(error).translate(CONTROL_CHARACTERS)}", status=2)
    except StoppedError as error:
        exit_with(str(error), status=error.status)
    except RunFailedError as error:
        exit_with(f"error: {error}", status=1)
    except BrokenPipeError:  # a command such as head has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        exit_on_storage_fault(error, folder or Path.cwd())
        raise


def exit_with(message: str, *, status: int) -> NoReturn:
    """Print a line on stderr, unless the terminal is gone, and end the process."""
    try:
        print(message, file=sys.stderr, flush=True)
    finally:
        sys.exit(status)


def silence_storage_faults_of_threads() -> None:
    """Suppress tracebacks of storage faults in other threads, because the main thread reports such a fault."""
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
