"""Commands in the tests' own process, whose state they leave unchanged."""

import logging
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def act_as_command(*argv: str, folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """Set the arguments and the folder of this process for a command; restore the state of the process afterwards.

    Restores what `isolated` restores, Hydra's state, and the handlers of signals and of the root logger. Drops the
    command's modules of --config-dir, because another folder may have modules with the same names. Yields a MonkeyPatch
    for further changes.
    """
    from ratinglab.config.hydra_api import hide_hydra_app
    from ratinglab.process import interrupts
    from ratinglab.python_calls import isolated

    handlers, modules, folders = list(logging.root.handlers), set(sys.modules), set(sys.path)
    signals = {number: signal.getsignal(number) for number in interrupts.STOP_SIGNALS}
    try:
        with isolated(), hide_hydra_app(), pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", [*argv])
            patch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
            patch.setattr(threading, "excepthook", threading.excepthook)
            patch.setattr(interrupts, "_is_command", False)
            patch.delitem(sys.modules, "ipykernel", raising=False)  # a notebook would have a progress bar
            try:
                yield patch
            finally:
                # a command puts the folder of --config-dir on the path, and imports nothing else from there
                _drop_modules(set(sys.modules) - modules, folders=set(sys.path) - folders)
    finally:
        for number, handler in signals.items():
            signal.signal(number, handler)
        _restore_handlers(handlers)


def _drop_modules(names: Collection[str], *, folders: Collection[str]) -> None:
    """Drop the modules whose files lie in one of the folders."""
    for name in names:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and any(Path(file).is_relative_to(folder) for folder in folders):
            del sys.modules[name]


def _restore_handlers(handlers: Sequence[logging.Handler]) -> None:
    for handler in set(logging.root.handlers).difference(handlers):  # Hydra's
        handler.close()
    logging.root.handlers[:] = handlers
