"""Isolation of calls from Python, which leave the process as it was."""

import gc
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numba
import numpy as np
import pytorch_lightning  # noqa: F401  (its import sets the levels of its loggers, which `isolated` restores)
import torch
from pytorch_lightning.utilities import rank_zero_only

from ratinglab.interrupts import StoppedError, resume_hint
from ratinglab.openmp import sleeping_threads

LOGGED = ("ratinglab", "pytorch_lightning")
"""Loggers that training writes to."""


@contextmanager
def isolated() -> Iterator[None]:
    """Restore the state of the process at the end of a `with` block.

    Restores threads, random states, warning filters, logging levels, garbage collection, environment variables, the
    command line, the module search path and torch's deterministic mode.
    """
    with ExitStack() as restored:
        restored.enter_context(warnings.catch_warnings())
        restored.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        restored.callback(random.setstate, random.getstate())
        restored.callback(np.random.set_state, np.random.get_state())
        restored.callback(torch.set_num_threads, torch.get_num_threads())
        restored.callback(numba.set_num_threads, numba.get_num_threads())
        restored.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
        restored.callback(setattr, rank_zero_only, "rank", rank_zero_only.rank)  # type: ignore[attr-defined]
        restored.callback(gc.set_threshold, *gc.get_threshold())
        for logger in (logging.root, *logging.root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                restored.callback(logger.setLevel, logger.level)
        restored.callback(os.environ.update, dict(os.environ))
        restored.callback(os.environ.clear)
        for changed in (sys.argv, sys.path):
            restored.callback(changed.__setitem__, slice(None), list(changed))
        restored.enter_context(sleeping_threads())
        yield


@contextmanager
def logged(file: Path, *, on_screen: bool) -> Iterator[None]:
    """Append the log of training to a file, as the command does, and print it if `on_screen`."""
    handlers: list[logging.Handler] = [logging.FileHandler(file, encoding="utf-8")]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    if on_screen:
        handlers.append(logging.StreamHandler(sys.stdout))
    loggers = [logging.getLogger(name) for name in LOGGED]
    before = [(each, each.propagate) for each in loggers]
    for each in loggers:
        each.propagate = False  # the caller's handlers would print each line again
        for handler in handlers:
            each.addHandler(handler)
    logging.getLogger("ratinglab").setLevel(logging.INFO)
    try:
        yield
    finally:
        for each, propagate in before:
            each.propagate = propagate
            for handler in handlers:
                each.removeHandler(handler)
        handlers[0].close()


@contextmanager
def interruptible(folder: Path) -> Iterator[None]:
    """Raise KeyboardInterrupt if Ctrl-C stopped the fit, and SystemExit for other signals."""
    try:
        yield
    except StoppedError as error:
        if error.status != 130:
            raise SystemExit(error.status) from error
        raise KeyboardInterrupt(f"{error}; {resume_hint(folder)}") from None
