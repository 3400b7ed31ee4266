"""Seconds that the digests of a run cost, in its fit and when it is loaded.

    python scripts/benchmarks/digest_cost.py --root ml-100k
    python scripts/benchmarks/digest_cost.py --rows 20000000

Fits MovieLens 100K, or synthetic ratings of 138,000 users over 27,000 items with 64 factors, and writes last.ckpt after
every epoch. The seconds of digests are measured inside the fit; a run is loaded with and without them in turn.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from measurement import print_table

import ratinglab
from ratinglab.fitting.callbacks.checkpoints import AtomicCheckpointIO
from ratinglab.runs import digests

USERS, ITEMS = 138_000, 27_000
MEASURED = ("seal_archive", "check_archive", "check_file", "write_with_digests")
"""Functions of `ratinglab.runs.digests` that the other modules call."""


def main() -> None:
    """Fit, load and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder of MovieLens 100K")
    parser.add_argument("--rows", type=int, default=20_000_000, help="synthetic ratings, without --root")
    parser.add_argument("--optimizers", nargs="+", default=["block_sgd", "als"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=7, help="times a run is loaded in each way")
    arguments = parser.parse_args()
    if arguments.root is not None:
        train = partial(ratinglab.train, "data=movielens_100k", f"data.root={arguments.root}")
    else:
        random = np.random.default_rng(0)
        pairs = np.unique(random.integers(0, USERS * ITEMS, arguments.rows))
        columns = {"user_id": pairs // ITEMS, "item_id": pairs % ITEMS}
        frame = pd.DataFrame({**columns, "rating": random.integers(1, 6, len(pairs)).astype(np.float32)})
        train = partial(ratinglab.train, ratings=frame)
    fit = partial(measure, train, epochs=arguments.epochs, repeats=arguments.repeats)
    rows = {optimizer: fit(optimizer) for optimizer in arguments.optimizers}
    formats = dict.fromkeys(["fit", "checkpoints", "digests in fit"], ".3g") | {"share of fit, %": ".2f"}
    formats |= dict.fromkeys(["a checkpoint", "its digest", "load", "load without"], ".3g")
    print_table("seconds", formats, rows)


def measure(train: Callable[..., ratinglab.Run], optimizer: str, *, epochs: int, repeats: int) -> list[float]:
    """Fit and load a run; return the row of the table."""
    spent: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, replaced(lambda name, call: timed(name, call, spent)):
        save = timed("save", AtomicCheckpointIO.save_checkpoint, spent)
        with patch.object(AtomicCheckpointIO, "save_checkpoint", save):
            settings = ("callbacks.checkpoint.last_every_seconds=0", "callbacks.early_stopping.patience=null")
            run = train(
                *settings, "logger=none", model="biased_mf", optimizer=optimizer, embedding_dim=64, max_epochs=epochs,
                folder=Path(folder) / "run", verbose=False,
            )  # fmt: skip
        fit = run.metrics["fit/seconds"]
        in_fit = sum(map(sum, (spent[name] for name in MEASURED)))
        with_digests, without = [], []
        for _ in range(repeats):
            with replaced(forgetful):
                with_digests.append(seconds_of(lambda: ratinglab.load(run.folder).tables.train_counts))
            with replaced(lambda name, call: lambda *_, **__: True):
                without.append(seconds_of(lambda: ratinglab.load(run.folder).tables.train_counts))
    saves = spent["save"]
    return [
        fit, len(saves), in_fit, 100 * in_fit / fit, statistics.median(saves), statistics.median(spent["seal_archive"]),
        statistics.median(with_digests), statistics.median(without),
    ]  # fmt: skip


@contextmanager
def replaced(replace: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Replace the measured functions in all modules that use them."""
    originals = {name: getattr(digests, name) for name in MEASURED}
    modules = [module for name, module in sys.modules.items() if name.startswith("ratinglab")]
    uses = [(module, name) for module in modules for name in MEASURED if hasattr(module, name)]
    before = [(module, name, getattr(module, name)) for module, name in uses]
    for module, name in uses:
        setattr(module, name, replace(name, originals[name]))
    try:
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


def timed(name: str, call: Callable[..., Any], spent: dict[str, list[float]]) -> Callable[..., Any]:
    """Let a function add its seconds to those of its name."""
    spent.setdefault(name, [])

    @wraps(call)
    def measured(*arguments: Any, **keywords: Any) -> Any:
        started = perf_counter()
        try:
            return call(*arguments, **keywords)
        finally:
            spent[name].append(perf_counter() - started)

    return measured


def forgetful(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function compute its digests anew, as the first load of a process does."""
    digests._compute_digest.cache_clear()
    digests._check_archive_once.cache_clear()
    return call


def seconds_of(call: Callable[[], object]) -> float:
    """Measure a call."""
    started = perf_counter()
    call()
    return perf_counter() - started


if __name__ == "__main__":
    main()
