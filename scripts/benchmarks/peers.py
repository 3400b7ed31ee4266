"""Seconds of the fit and test RMSE of ratinglab and other libraries: pip install 'ratinglab[bench]', then

    python scripts/benchmarks/peers.py                                the demo data
    python scripts/benchmarks/peers.py --root ml-100k                 MovieLens 100K, the published split u1
    python scripts/benchmarks/peers.py --rows 5000000                 synthetic ratings
    python scripts/benchmarks/peers.py --root ml-100k --tune          find the peers' settings on validation rows

Each fit runs in a process of its own, all with the same number of threads, and the systems take turns. Seconds are
those of the fit alone: trainer.fit, with ordering and validation, or the peer's own fit. Predictions are clipped to the
same rating scale, and test RMSE is over all test rows. settings.yaml has the settings.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from measurement import (
    Measurement,
    argument_parser,
    call_in_process,
    distinct_pairs,
    environment,
    median,
    median_ratio,
    peak_mib,
    print_table,
    take_turns,
    train,
)
from numpy.typing import NDArray
from peer_fits import PEERS, Ratings, fit_peer

SETTINGS = Path(__file__).with_name("settings.yaml")
NUM_USERS, NUM_ITEMS = 138_000, 27_000
MANY_ROWS = 10_000_000
"""Synthetic rows from which Surprise is left out by default: it would take minutes per fit."""
SHARES = (0.03, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Shares of the epochs that the figure shows."""
LABELS = {
    "ratinglab": "ratinglab, block_sgd",
    "ratinglab_gibbs": "ratinglab, biased_mf by gibbs",
    "ratinglab_svdpp": "ratinglab, svdpp by gibbs",
    "ratinglab_timesvdpp": "ratinglab, timesvdpp by gibbs",
    "cornac": "Cornac MF",
    "surprise": "Surprise SVD",
    "myfm": "myFM",
    "myfm_svdpp": "myFM, as svdpp",
    "myfm_timesvdpp": "myFM, as timesvdpp",
}


class Task(NamedTuple):
    """The table that all systems fit, as an .npz whose first rows are for test, and the settings of each."""

    table: Path
    num_test: int
    settings: dict[str, Any]


def main() -> None:
    """Measure and print one table, or tune the peers."""
    parser = argument_parser(__doc__)
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--root", type=Path, help="folder with MovieLens 100K's u.data")
    data.add_argument("--rows", type=int, help="this many synthetic ratings, of 138,000 users and 27,000 items")
    parser.add_argument("--systems", nargs="+", choices=LABELS, help="default: all that settings.yaml has for the data")
    parser.add_argument("--figure", type=Path, help="also draw test RMSE against seconds into this file")
    parser.add_argument("--tune", type=int, nargs="?", const=20, metavar="TRIALS", help="trials per peer (default: 20)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        task = prepare(folder, root=arguments.root, rows=arguments.rows)
        if arguments.tune:
            tune(task, trials=arguments.tune, threads=arguments.threads)
            return
        systems = chosen_systems(parser, arguments, task)
        fit = {system: fit_in_process(system, task, threads=arguments.threads) for system in systems}
        print_results(take_turns(fit, repeats=arguments.repeats), repeats=arguments.repeats)
        if arguments.figure:
            draw(arguments.figure, systems, task, threads=arguments.threads, repeats=arguments.repeats)


def chosen_systems(parser: argparse.ArgumentParser, arguments: argparse.Namespace, task: Task) -> list[str]:
    """Return the systems to measure; exit if settings.yaml lacks one of them for these data."""
    for system in arguments.systems or []:
        if system not in task.settings:
            parser.error(f"--systems: settings.yaml has no {system} for these data; it has {', '.join(task.settings)}")
    slow = {"surprise"} if (arguments.rows or 0) >= MANY_ROWS else set()
    return arguments.systems or [system for system in task.settings if system not in slow]


def prepare(folder: Path, *, root: Path | None, rows: int | None) -> Task:
    """Write the ratings into a folder, and complete ratinglab's settings with where they are."""
    all_settings = yaml.safe_load(SETTINGS.read_text())
    if root:
        name, ratings, num_test = "MovieLens 100K, split u1", movielens_100k(root), 20_000
        settings, source = all_settings["movielens_100k"], [f"data.root={root.resolve()}"]
    else:
        ratings = generate_ratings(rows) if rows else demo()
        name, num_test = f"{rows:,} synthetic ratings" if rows else "the demo data", len(ratings.user) // 10
        settings, source = all_settings["synthetic"], write_parquet(folder, ratings, num_test=num_test)
    for system in settings.keys() - PEERS.keys():
        settings[system] = [*settings[system], *source, "logger=none"]
    table = folder / "ratings.npz"
    np.savez(table, **ratings._asdict())
    print(f"{name}: {len(ratings.user) - num_test:,} ratings to train on, {num_test:,} to test")
    return Task(table, num_test, settings)


def movielens_100k(root: Path) -> Ratings:
    """Read u.data, whose first 20,000 rows are the test rows of u1."""
    user, item, rating, seconds = np.loadtxt(root / "u.data", dtype=np.int64).T
    return indexed(user, item, rating)._replace(day=(seconds // 86_400).astype(np.int32))


def demo() -> Ratings:
    """Generate the demo data, whose order is random."""
    from ratinglab.datasets.demo import generate

    table = generate(0).ratings
    return indexed(*(table[name].to_numpy() for name in ("user_id", "item_id", "rating")))


def generate_ratings(rows: int) -> Ratings:
    """Generate long-tailed ratings in random order: biases, 8 true factors and noise, in half stars."""
    random = np.random.default_rng(0)
    pairs = random.permutation(distinct_pairs(rows, num_users=NUM_USERS, num_items=NUM_ITEMS, random=random))
    user, item = (pairs // NUM_ITEMS).astype(np.int32), (pairs % NUM_ITEMS).astype(np.int32)
    user_bias, item_bias = random.normal(0, 0.4, NUM_USERS), random.normal(0, 0.5, NUM_ITEMS)
    user_factor, item_factor = (
        random.normal(0, 0.5, (count, 8)).astype(np.float32) for count in (NUM_USERS, NUM_ITEMS)
    )
    rating = np.empty(rows, dtype=np.float32)
    for start in range(0, rows, 1_000_000):
        u, i = user[start : start + 1_000_000], item[start : start + 1_000_000]
        true = 3.5 + user_bias[u] + item_bias[i] + (user_factor[u] * item_factor[i]).sum(axis=1)
        rating[start : start + len(u)] = np.clip(np.round(2 * (true + random.normal(0, 0.7, len(u)))) / 2, 0.5, 5)
    return indexed(user, item, rating)


def indexed(user_id: NDArray[Any], item_id: NDArray[Any], rating: NDArray[Any]) -> Ratings:
    """Number users and items from 0: three arrays (N,)."""
    user, item = (np.unique(ids, return_inverse=True)[1].astype(np.int32) for ids in (user_id, item_id))
    return Ratings(user, item, rating.astype(np.float32), day=np.zeros(len(user), dtype=np.int32))


def write_parquet(folder: Path, ratings: Ratings, *, num_test: int) -> list[str]:
    """Write the ratings for ratinglab, and return the settings by which train.py reads and splits them."""
    path = folder / "ratings.parquet"
    pd.DataFrame({"user_id": ratings.user, "item_id": ratings.item, "rating": ratings.rating}).to_parquet(path)
    return [
        "data=csv", f"data.path={path}", "data.cache=null",
        "split=rows", "split.test_start=0", f"split.test_stop={num_test}", "split.validation=0.01",
    ]  # fmt: skip


def fit_in_process(system: str, task: Task, *, threads: int, settings: Any = None) -> Callable[[], Measurement]:
    """Return a function that fits a system once: `seconds` of the fit, test `rmse`, `peak_mib` with imports.

    Args:
        system: a key of LABELS.
        task: the data.
        threads: the thread limit of the process.
        settings: by default those of the task.
    """
    settings = task.settings[system] if settings is None else settings
    if system not in PEERS:
        return partial(fit_ratinglab, settings, folder=task.table.parent, threads=threads)
    arguments = system, str(task.table), str(task.num_test), json.dumps(settings), str(threads)
    return partial(call_in_process, fit_peer, *arguments, env=environment(threads=threads))


def fit_ratinglab(settings: Sequence[str], *, folder: Path, threads: int) -> Measurement:
    """Train through the command line."""
    metrics = train(settings, folder=folder, env=environment(threads=threads))
    return {"seconds": metrics["fit/seconds"], "rmse": metrics["test/rmse"], "peak_mib": metrics["peak_mib"]}


def print_results(measured: Mapping[str, Sequence[Measurement]], *, repeats: int) -> None:
    """Print a row per system: medians, and their ratios to the first system."""
    reference = next(iter(measured.values()))
    rows = {
        LABELS[system]: [
            median(fits, "seconds"),
            median_ratio(fits, reference, "seconds"),
            median(fits, "rmse"),
            peak_mib(fits),
        ]
        for system, fits in measured.items()
    }
    columns = {"fit s": ".2f", "ratio": ".2f", "test RMSE": ".4f"}
    print_table(f"median of {repeats}", {**columns, "peak MiB": ",.0f"}, rows)


def tune(task: Task, *, trials: int, threads: int) -> None:
    """Print the best settings of each peer by RMSE on a tenth of the training rows; test rows are not used."""
    random = np.random.default_rng(0)
    with np.load(task.table) as arrays:
        rows = random.permutation(np.arange(task.num_test, len(arrays["user"])))
        training = {name: column[rows] for name, column in arrays.items()}
    table = task.table.with_name("training.npz")
    np.savez(table, **training)
    validation = Task(table, num_test=len(rows) // 10, settings={})
    for system, peer in PEERS.items():
        grid = [dict(zip(peer.space, values, strict=True)) for values in itertools.product(*peer.space.values())]
        drawn = [grid[index] for index in random.permutation(len(grid))[:trials]]
        fits = [fit_in_process(system, validation, threads=threads, settings=settings)() for settings in drawn]
        best = min(range(len(drawn)), key=lambda trial: fits[trial]["rmse"])
        print(f"{system}: {drawn[best]}  # validation RMSE {fits[best]['rmse']:.4f}, the best of {len(drawn)}")


def draw(path: Path, systems: Sequence[str], task: Task, *, threads: int, repeats: int) -> None:
    """Draw test RMSE against the seconds of fits of more and more epochs: one line per system, medians of `repeats`.

    Solid lines are ratinglab's.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for system in systems:
        points = []
        for share in SHARES:
            settings = shorten(system, task.settings[system], share)
            fit = fit_in_process(system, task, threads=threads, settings=settings)
            measured = sorted((fit() for _ in range(repeats)), key=itemgetter("seconds"))
            points.append(measured[repeats // 2])
            print(f"{LABELS[system]}: {points[-1]['seconds']:.2f} s, test RMSE {points[-1]['rmse']:.4f}", flush=True)
        seconds, rmse = ([fit[figure] for fit in points] for figure in ("seconds", "rmse"))
        axes.plot(seconds, rmse, "o--" if system in PEERS else "o-", label=LABELS[system])
    axes.set(xscale="log", xlabel="seconds of the fit", ylabel="test RMSE")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def shorten(system: str, settings: Any, share: float) -> Any:
    """Return the settings with a share of their epochs, at least 2."""
    if system in PEERS:
        key = PEERS[system].epochs
        return {**settings, key: max(2, round(share * settings[key]))}
    values = dict(setting.split("=", 1) for setting in settings)
    epochs = max(2, round(share * int(values["trainer.max_epochs"])))
    burn_in = values.get("optimizer.burn_in")
    shorter = [] if burn_in is None else [f"optimizer.burn_in={min(int(burn_in), epochs // 3)}"]
    return [*settings, f"trainer.max_epochs={epochs}", *shorter]


if __name__ == "__main__":
    main()
