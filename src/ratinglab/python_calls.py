"""Calls from Python: restoring global state, logging to a file, and interruption."""

import gc
import logging
import os
import random
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numba
import numpy as np
import pytorch_lightning  # noqa: F401  (its import sets the levels of its loggers, which `isolated` restores)
import torch
from pytorch_lightning.utilities import rank_zero_only

from ratinglab.errors import UserError
from ratinglab.process.interrupts import StoppedError
from ratinglab.process.program import shown_path
from ratinglab.process.startup import sleeping_threads

LOGGER_NAMES = ("ratinglab", "pytorch_lightning")
"""Loggers that training writes to."""
CALL_LOCK = threading.RLock()
"""Allows one call at a time: training changes loggers and random states of the whole process."""


@contextmanager
def isolated() -> Iterator[None]:
    """Run a call with the process settings that training needs, and restore the caller's settings afterwards.

    The settings are threads, random states, warning filters, logging levels, garbage collection, environment variables,
    the module search path, and torch's modes and default type. The causes of a UserError are removed, because a
    notebook would print them above its one line.
    """
    with CALL_LOCK, ExitStack() as restored:
        restored.enter_context(warnings.catch_warnings())
        restored.enter_context(torch.inference_mode(False))  # also enables gradients
        restored.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        restored.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        restored.callback(random.setstate, random.getstate())
        restored.callback(np.random.set_state, np.random.get_state())
        restored.callback(torch.set_num_threads, torch.get_num_threads())
        restored.callback(numba.set_num_threads, numba.get_num_threads())
        restored.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
        restored.callback(setattr, rank_zero_only, "rank", rank_zero_only.rank)  # type: ignore[attr-defined]
        restored.callback(gc.set_threshold, *gc.get_threshold())
        loggers = (logging.root, *logging.root.manager.loggerDict.values())
        restored.callback(_restore_levels, {log: log.level for log in loggers if isinstance(log, logging.Logger)})
        restored.callback(os.environ.update, dict(os.environ))
        restored.callback(os.environ.clear)
        restored.callback(sys.path.__setitem__, slice(None), list(sys.path))
        restored.enter_context(sleeping_threads())
        try:
            yield
        except Exception as error:
            if _is_interrupted(error):  # Ctrl-C inside a library that replaces exceptions by its own
                raise KeyboardInterrupt from error
            if isinstance(error, UserError):
                raise error from None
            raise


def _restore_levels(levels: Mapping[logging.Logger, int]) -> None:
    for logger, level in levels.items():
        if logger.level != level:  # setting a level clears the caches of all loggers, and torch has hundreds
            logger.setLevel(level)


def _is_interrupted(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def log_to_file(path: Path, *, on_screen: bool) -> Iterator[None]:
    """Append the log of training to a file, as the command does, and print it if `on_screen`."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [file, *([logging.StreamHandler(sys.stdout)] if on_screen else [])]
    with ExitStack() as restored:
        restored.callback(file.close)
        restored.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.NOTSET)
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if isinstance(logger, logging.Logger) and name.startswith(LOGGER_NAMES):
                restored.callback(setattr, logger, "disabled", logger.disabled)
                logger.disabled = False  # as logging.config leaves loggers that it does not name
        for logger in map(logging.getLogger, LOGGER_NAMES):
            restored.callback(setattr, logger, "propagate", logger.propagate)
            logger.propagate = False  # the caller's handlers would print each line once more
            for handler in handlers:
                logger.addHandler(handler)
                restored.callback(logger.removeHandler, handler)
        logging.getLogger("ratinglab").setLevel(logging.INFO)
        yield


@contextmanager
def interruptible(folder: Path, *, frames: Sequence[str]) -> Iterator[None]:
    """Raise KeyboardInterrupt for a fit that Ctrl-C has stopped after its epoch, and SystemExit for other signals.

    The message names the call that resumes the run. `frames` are the keywords of its data frames.
    """
    try:
        yield
    except StoppedError as error:
        if error.status != 130:
            raise SystemExit(error.status) from error
        arguments = [repr(f"resume={shown_path(folder)}"), *(f"{name}={name}" for name in frames)]
        raise KeyboardInterrupt(f"{error}; to resume: ratinglab.train({', '.join(arguments)})") from None
