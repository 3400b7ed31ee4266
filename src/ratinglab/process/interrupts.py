"""Signals that stop a process: SIGINT (Ctrl-C), SIGTERM and SIGHUP.

A command stops at once with a StoppedError (`raise_on_signals`). A fit finishes its epoch first (`StopRequest`).
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType

from ratinglab.process.program import shell_command, shown_path

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

SAME_REQUEST_SECONDS = 1.0
"""Signals within this many seconds count as one, because a closed terminal and `timeout` send two."""


class StoppedError(BaseException):
    """Request by a signal to stop the process. Not an Exception, so no library handles it as a failure.

    Attributes:
        status: exit status by convention, 128 + the signal's number.
    """

    def __init__(self, signal_number: int, when: str = "") -> None:
        """Write the message from the signal and, if given, the moment, such as "after 3 of 10 epochs"."""
        super().__init__(" ".join(filter(None, ["stopped by", signal.Signals(signal_number).name, when])))
        self.status = 128 + signal_number


_is_command = False
"""Whether the process runs a command. If so, ratinglab handles its signals."""


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise StoppedError in the main thread on the first stop signal in a `with` block. The second kills the process.

    After the block, Ctrl-C also kills the process, because a KeyboardInterrupt would print a traceback if Python were
    already shutting down.
    """
    handlers_before = {number: signal.getsignal(number) for number in signals_to_handle()}
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        for other in handlers_before:
            signal.signal(other, signal.SIG_DFL)
        raise StoppedError(number)

    for number in handlers_before:
        signal.signal(number, stop)
    global _is_command
    _is_command = True
    try:
        yield
    except Exception as error:
        if received:  # a library's clean-up after StoppedError has failed, and has raised this error in its place
            raise StoppedError(received[0]) from error
        raise
    finally:
        _is_command = False
        for number, handler in handlers_before.items():
            signal.signal(number, signal.SIG_DFL if handler is signal.default_int_handler else handler)


def signals_to_handle() -> list[signal.Signals]:
    """List the stop signals that the process does not ignore; nohup makes it ignore SIGHUP. Lists none in a thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in STOP_SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def resume_hint(folder: Path) -> str:
    """Return "to resume: ratinglab train resume=FOLDER"."""
    return f"to resume: {shell_command('train', f'resume={shown_path(folder)}')}"


class StopRequest:
    """A signal's request to stop a fit after the current epoch. A second signal ends a command at once.

    A thread reads the signals, because Python's own handlers run only between bytecodes, and compiled code can run for
    many seconds. In a call from Python, the second signal raises StoppedError instead, so a notebook keeps its
    variables.

    Attributes:
        signal_number: number of the first signal since `watch`, or None if there was no signal.
    """

    def __init__(self, folder: Path) -> None:
        """Store the folder of the run, which a message names if the process ends at once."""
        self.signal_number: int | None = None
        self._folder = folder
        self._sender: socket.socket | None = None
        self._first_time: float | None = None
        self._is_command = _is_command

    def watch(self, *, is_silent: bool = False) -> None:
        """Record signals from now on, instead of raising StoppedError. Prints messages unless `is_silent`."""
        self._is_silent = is_silent
        self._handlers_before = {number: signal.getsignal(number) for number in signals_to_handle()}
        if not self._handlers_before:
            return
        receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        threading.Thread(target=self._read, args=[receiver], daemon=True).start()
        self._wakeup_before = signal.set_wakeup_fd(self._sender.fileno())
        for number in self._handlers_before:
            # with SIG_IGN, the thread would not receive the signal
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        """Raise StoppedError on the second signal in a call from Python. In a command, `_read` ends the process."""
        now = monotonic()
        if self._first_time is None:
            self._first_time = now
        elif not self._is_command and now > self._first_time + SAME_REQUEST_SECONDS:
            raise StoppedError(number, "within the epoch")

    def close(self) -> None:
        """Handle signals as before `watch`."""
        if self._sender is None:
            return
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        self._sender.close()  # ends the thread
        self._sender = None

    def _read(self, receiver: socket.socket) -> None:
        """Record the first signal; end the process of a command on the second."""
        first_time = 0.0
        with receiver:
            while received := receiver.recv(1):
                if received[0] not in self._handlers_before:
                    continue
                name = signal.Signals(received[0]).name
                if self.signal_number is None:
                    self.signal_number, first_time = received[0], monotonic()
                    self._print(f"{name}: the run stops after this epoch; a second signal stops it at once")
                elif self._is_command and monotonic() >= first_time + SAME_REQUEST_SECONDS:
                    self._print(f"stopped by {name} within the epoch; {resume_hint(self._folder)}")
                    os._exit(128 + received[0])

    def _print(self, message: str) -> None:
        """Write a line to stderr, below a progress bar if there is one. Does nothing if the terminal is gone."""
        try:
            if not self._is_silent:
                print("\n" if sys.stderr.isatty() else "", message, sep="", file=sys.stderr, flush=True)
        except OSError:
            return
