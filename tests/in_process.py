"""Commands in the tests' own process, whose state they leave unchanged."""

import logging
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

INSTALLED = [folder for folder in sys.path if folder]
"""Folders of modules that commands import. Others are from --config-dir."""


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

    handlers, modules = list(logging.root.handlers), set(sys.modules)
    signals = {number: signal.getsignal(number) for number in interrupts.STOP_SIGNALS}
    try:
        with isolated(), hide_hydra_app(), pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", [*argv])
            patch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
            patch.setattr(threading, "excepthook", threading.excepthook)
            patch.setattr(interrupts, "_is_command", False)
            patch.delitem(sys.modules, "ipykernel", raising=False)  # a notebook would have a progress bar
            yield patch
    finally:
        for number, handler in signals.items():
            signal.signal(number, handler)
        _restore_handlers(handlers)
        _drop_modules(set(sys.modules) - modules)


def _drop_modules(names: Collection[str]) -> None:
    """Drop the modules whose files lie in a folder of --config-dir."""
    for name in names:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and not any(map(Path(file).is_relative_to, INSTALLED)):
            del sys.modules[name]


def _restore_handlers(handlers: Sequence[logging.Handler]) -> None:
    for handler in set(logging.root.handlers).difference(handlers):  # Hydra's
        handler.close()
    logging.root.handlers[:] = handlers
