"""How fast and how good ratinglab is beside its peers: pip install 'ratinglab[bench]', then

    python scripts/benchmark.py                                     the demo data
    python scripts/benchmark.py --root ml-100k                      MovieLens 100K, the published split u1
    python scripts/benchmark.py --rows 5000000                      a generated table
    python scripts/benchmark.py --root ml-100k --tune               the settings of the peers, on validation rows

Each fit is a process of its own with the same number of threads, and the systems take turns. The settings stand in
conf/benchmark.yaml. Seconds are those of the fit alone: of trainer.fit, ordering and validation included, and of the
peers' own fit. Every rating is predicted on the same scale; test RMSE is over all test rows.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import yaml
from benchmark_reading import distinct_pairs

CONF = Path(__file__).parents[1] / "conf"
NUM_USERS, NUM_ITEMS = 138_000, 27_000
SYSTEMS = {
    "ratinglab": "ratinglab, block_sgd",
    "ratinglab_gibbs": "ratinglab, gibbs",
    "cornac": "Cornac MF",
    "surprise_svd": "Surprise SVD",
    "myfm": "myFM, Gibbs",
}
SPACES = {
    "cornac": {"k": [10, 32, 64], "max_iter": [25, 40, 60], "learning_rate": [0.005, 0.01, 0.02],
               "lambda_reg": [0.05, 0.08, 0.11]},
    "surprise_svd": {"n_factors": [20, 64, 100], "n_epochs": [20, 40, 60], "lr_all": [0.005, 0.01, 0.02],
                     "reg_all": [0.05, 0.08, 0.11]},
    "myfm": {"rank": [6, 10, 16], "n_iter": [200, 300, 400]},
}  # fmt: skip
"""What --tune draws the peers' settings from."""


def main() -> None:
    """Measure, and print one table; or tune."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--root", type=Path, help="folder with MovieLens 100K's u.data")
    data.add_argument("--rows", type=int, help="ratings of a generated table of 138,000 users and 27,000 items")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, help="default: all, without Surprise from 10 million rows on"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--figure", type=Path, help="draw RMSE against seconds into this file: fits of fewer epochs too"
    )
    parser.add_argument("--tune", type=int, nargs="?", const=20, metavar="TRIALS", help="print the best of 20 settings")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        system, path, settings = arguments.one
        print(json.dumps(fit_peer(system, dict(np.load(path)), json.loads(settings), threads=arguments.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = prepare(arguments, Path(folder))
        if arguments.tune:
            tune(Path(folder), trials=arguments.tune, threads=arguments.threads)
            return
        slow = {"surprise_svd"} if (arguments.rows or 0) >= 10_000_000 else set()
        chosen = arguments.systems or [system for system in SYSTEMS if system not in slow]
        systems = [system for system in chosen if system in settings]
        taken: dict[str, list[dict[str, float]]] = {system: [] for system in systems}
        for _ in range(arguments.repeats):
            for system in systems:
                taken[system].append(run(system, settings[system], Path(folder), threads=arguments.threads))
        print_table(taken)
        if arguments.figure:
            draw(arguments.figure, systems, settings, Path(folder), threads=arguments.threads)


def prepare(arguments: argparse.Namespace, folder: Path) -> dict:
    """Write the table: for the peers as arrays, for ratinglab as it takes it; the settings of all systems."""
    settings = yaml.safe_load((CONF / "benchmark.yaml").read_text())
    if arguments.root:
        user, item, rating, _ = np.loadtxt(arguments.root / "u.data", dtype=np.int64).T
        num_test, own = 20_000, settings["movielens_100k"]
        for system in ("ratinglab", "ratinglab_gibbs"):
            own[system] += [f"data.root={arguments.root.resolve()}"]
        name = "MovieLens 100K, split u1"
    else:
        user, item, rating = generated(arguments.rows) if arguments.rows else demo(folder)
        num_test, own = len(user) // 10, settings["generated"]
        name = f"{len(user):,} generated ratings" if arguments.rows else "the demo data"
        import pandas as pd

        pd.DataFrame({"user_id": user, "item_id": item, "rating": rating}).to_parquet(folder / "ratings.parquet")
        own["ratinglab"] += [
            "data=csv", f"data.path={folder / 'ratings.parquet'}", "data.cache=null", "split=rows",
            "split.test_start=0", f"split.test_stop={num_test}", "split.validation=0.01",
        ]  # fmt: skip
    user, item = (np.unique(ids, return_inverse=True)[1].astype(np.int32) for ids in (user, item))
    np.savez(folder / "table.npz", user=user, item=item, rating=rating.astype(np.float32), num_test=num_test)
    print(f"{name}: {len(user) - num_test:,} to train on, {num_test:,} to test; {arguments.threads} threads")
    return own


def demo(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The demo data, in its own order, which is random."""
    from ratinglab.ratings.demo import generate

    ratings = generate(0).ratings
    return tuple(ratings[name].to_numpy() for name in ("user_id", "item_id", "rating"))  # type: ignore[return-value]


def generated(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Long-tailed ratings in random order: biases, 8 true factors and noise, in half stars."""
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
    return user, item, rating


def run(system: str, settings: object, folder: Path, *, threads: int) -> dict[str, float]:
    """One fit, in a process of its own; its peak memory includes the data and all imports."""
    if system.startswith("ratinglab"):
        command = [sys.executable, str(Path(__file__).with_name("train.py")), *settings, "logger=none"]  # type: ignore[misc]
    else:
        command = [sys.executable, __file__, "--threads", str(threads), "--one", system, str(folder / "table.npz"),
                   json.dumps(settings)]  # fmt: skip
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "NUMBA", "OPENBLAS", "MKL")}
    measured = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024\n"
        "print(json.dumps([done.returncode, done.stdout, done.stderr, peak]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", measured, *command],
        check=True, capture_output=True, text=True, cwd=folder, env={**os.environ, **limits},
    )  # fmt: skip
    status, stdout, stderr, peak = json.loads(done.stdout)
    if status:
        raise SystemExit(f"{system} has failed: {stderr}")
    if system.startswith("ratinglab"):
        metrics = json.loads((folder / stdout.splitlines()[-1] / "metrics.json").read_text())
        found = {
            "seconds": metrics["fit/seconds"],
            "speed": metrics["fit/ratings_per_second"],
            "rmse": metrics["test/rmse"],
        }
    else:
        found = json.loads(stdout.splitlines()[-1])
    return {**found, "peak_mib": peak}


def print_table(taken: dict[str, list[dict[str, float]]]) -> None:
    """A row a system: medians, and how many times ours they are."""
    ours = next(iter(taken.values()))
    print(f"{'median of ' + str(len(ours)):24}{'fit s':>9}{'ratio':>8}{'M ratings/s':>13}{'ratio':>8}{'test RMSE':>11}"
          f"{'peak MiB':>10}")  # fmt: skip
    for system, fits in taken.items():
        cells = []
        for name in ("seconds", "speed"):
            ratios = [theirs[name] / own[name] for theirs, own in zip(fits, ours, strict=True)]
            cells += [statistics.median(fit[name] for fit in fits), statistics.median(ratios)]
        rmse = statistics.median(fit["rmse"] for fit in fits)
        peak = max(fit["peak_mib"] for fit in fits)
        print(f"{SYSTEMS[system]:24}{cells[0]:9.2f}{cells[1]:8.2f}{cells[2] / 1e6:13.2f}{cells[3]:8.3f}{rmse:11.4f}"
              f"{peak:10,.0f}")  # fmt: skip


def fit_peer(system: str, table: dict[str, np.ndarray], settings: dict, *, threads: int) -> dict[str, float]:
    """Fit a peer, and tell the seconds, ratings a second, and the RMSE on the test rows."""
    num_test = int(table["num_test"])
    test, train = ({name: table[name][part] for name in ("user", "item", "rating")}
                   for part in (slice(None, num_test), slice(num_test, None)))  # fmt: skip
    fit = {"cornac": fit_cornac, "surprise_svd": fit_surprise, "myfm": fit_myfm}[system]
    seconds, predicted, epochs = fit(train, test, settings, threads)
    scale = table["rating"].min(), table["rating"].max()
    error = np.clip(predicted, *scale) - test["rating"]
    rmse = float(np.sqrt(np.mean(error.astype(np.float64) ** 2)))
    return {"seconds": seconds, "speed": epochs * len(train["user"]) / seconds, "rmse": rmse}


def fit_cornac(train: dict, test: dict, settings: dict, threads: int) -> tuple[float, np.ndarray, int]:
    """Cornac's biased MF: Cython and OpenMP."""
    from cornac.data import Dataset
    from cornac.models import MF

    num_users, num_items = (max(train[name].max(), test[name].max()) + 1 for name in ("user", "item"))
    ids = [{each: each for each in range(count)} for count in (num_users, num_items)]
    columns = train["user"].astype(np.int64), train["item"].astype(np.int64), train["rating"].astype(np.float64)
    data = Dataset(num_users, num_items, *ids, columns, seed=0)
    model = MF(**settings, use_bias=True, num_threads=threads, seed=0, verbose=False)
    started = perf_counter()
    model.fit(data)
    seconds = perf_counter() - started
    predicted = model.global_mean + model.u_biases[test["user"]] + model.i_biases[test["item"]]
    predicted += np.einsum("nd,nd->n", model.u_factors[test["user"]], model.i_factors[test["item"]])
    return seconds, predicted, settings["max_iter"]


def fit_surprise(train: dict, test: dict, settings: dict, threads: int) -> tuple[float, np.ndarray, int]:
    """Surprise's SVD: Cython, one thread."""
    import pandas as pd
    from surprise import SVD, Dataset, Reader

    scale = float(train["rating"].min()), float(train["rating"].max())
    data = Dataset.load_from_df(pd.DataFrame(train), Reader(rating_scale=scale)).build_full_trainset()
    model = SVD(**settings, random_state=0)
    started = perf_counter()
    model.fit(data)
    seconds = perf_counter() - started
    predicted = [model.predict(*pair).est for pair in zip(test["user"], test["item"], strict=True)]
    return seconds, np.array(predicted), settings["n_epochs"]


def fit_myfm(train: dict, test: dict, settings: dict, threads: int) -> tuple[float, np.ndarray, int]:
    """myFM's Bayesian factorization machine on user and item, by Gibbs sampling: one thread."""
    import myfm
    from scipy import sparse

    num_users, num_items = (max(train[name].max(), test[name].max()) + 1 for name in ("user", "item"))

    def one_hot(rows: dict) -> sparse.csr_matrix:
        count = len(rows["user"])
        columns = np.stack([rows["user"], rows["item"] + num_users], axis=1).ravel()
        return sparse.csr_matrix(
            (np.ones(2 * count), columns, np.arange(0, 2 * count + 1, 2)), shape=(count, num_users + num_items)
        )

    features = one_hot(train)
    groups = [0] * num_users + [1] * num_items
    model = myfm.MyFMRegressor(rank=settings["rank"], random_seed=0)
    started = perf_counter()
    model.fit(features, train["rating"].astype(np.float64), n_iter=settings["n_iter"],
              n_kept_samples=settings["n_iter"] // 2, grouping=groups)  # fmt: skip
    seconds = perf_counter() - started
    return seconds, model.predict(one_hot(test)), settings["n_iter"]


def tune(folder: Path, *, trials: int, threads: int) -> None:
    """The best of `trials` settings of each peer, on a tenth of the training rows; no test row is read."""
    table = dict(np.load(folder / "table.npz"))
    random = np.random.default_rng(0)
    train = random.permutation(np.arange(int(table["num_test"]), len(table["user"])))
    rows = {name: table[name][train] for name in ("user", "item", "rating")}
    np.savez(folder / "table.npz", **rows, num_test=len(train) // 10)
    for system, space in SPACES.items():
        every = [{}]
        for name, values in space.items():
            every = [{**one, name: value} for one in every for value in values]
        drawn = random.permutation(len(every))[:trials]
        found = [(run(system, every[draw], folder, threads=threads)["rmse"], every[draw]) for draw in drawn]
        rmse, best = min(found, key=lambda each: each[0])
        print(f"{system}: {best}  # validation RMSE {rmse:.4f}, the best of {len(found)}")


def draw(path: Path, systems: list[str], settings: dict, folder: Path, *, threads: int) -> None:
    """RMSE on the test rows against the seconds of fits of more and more epochs, a line a system."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for system in systems:
        fits = []
        for share in (0.1, 0.2, 0.4, 0.7, 1.0):
            three = [run(system, shortened(system, settings[system], share), folder, threads=threads) for _ in range(3)]
            fits.append(sorted(three, key=lambda fit: fit["seconds"])[1])
        axes.plot([fit["seconds"] for fit in fits], [fit["rmse"] for fit in fits], "o-", label=SYSTEMS[system])
    axes.set(xscale="log", xlabel="seconds of the fit", ylabel="test RMSE")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def shortened(system: str, settings: object, share: float) -> object:
    """The settings with a share of their epochs."""
    if system.startswith("ratinglab"):
        whole = next((one for one in settings if one.startswith("trainer.max_epochs=")), "trainer.max_epochs=50")  # type: ignore[attr-defined]
        epochs = max(2, round(share * int(whole.partition("=")[2])))
        burn_in = [f"optimizer.burn_in={epochs // 2}"] if system == "ratinglab_gibbs" else []
        return [*settings, f"trainer.max_epochs={epochs}", *burn_in]  # type: ignore[misc]
    key = {"cornac": "max_iter", "surprise_svd": "n_epochs", "myfm": "n_iter"}[system]
    return {**settings, key: max(2, round(share * settings[key]))}  # type: ignore[dict-item, index]


if __name__ == "__main__":
    main()
