"""Figures of lists under the protocols of conf/protocol: popularity, other systems, and the recipes.

    pip install -e . implicit
    python scripts/benchmarks/list_protocols.py movielens_100k_leave_last ml-100k

The settings of the other systems are the best of a small grid by NDCG@10 on validation rows, which are the last rating
before the test one, or a tenth of each user's; then they are fitted to all rows that are not test rows. Ours are the
recipes as they are, with three seeds; `ials` and `ease` also with the best settings of a grid of the same size. See
list_orders.py for the candidates and the grids of the others.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from list_orders import METRICS, Figures, Split, choose_settings, measure_run, print_row
from measurement import print_markdown_row

import ratinglab
from ratinglab.inference.run import Run

RECIPES = ["item_knn", "ease", "ials", "fast", "svdpp_gibbs"]
NUM_FACTORS = [32, 128]
"""Numbers of factors that implicit chooses from."""
TUNED: dict[str, dict[str, list[float]]] = {
    "ials": {
        "model.min_stars": [1, 4],
        "model.regularization": [2, 5, 10, 20],
        "model.unrated_weight": [0.05, 0.1, 0.25, 0.5],
        "model.embedding_dim": [32, 128],
    },
    "ease": {"model.min_stars": [1, 4], "model.ridge": [30, 100, 300, 1000]},
}
"""Grids of our recipes: as many settings as for implicit's ALS and EASE."""
VALIDATION = {"leave_last": "split.validation=1", "per_user": "split.validation=0.1"}
"""Setting that holds out validation rows, by the last words of a protocol's name."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", help="name of a protocol of lists")
    parser.add_argument("root", type=Path, help="folder of its data set")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of each recipe (default: %(default)s)")
    arguments = parser.parse_args()
    print_markdown_row(["", *METRICS], is_header=True)
    for system, by_seed in measure(arguments.protocol, arguments.root, seeds=arguments.seeds):
        print_row(system, by_seed, digits=4)


def measure(protocol: str, root: Path, *, seeds: int) -> Iterator[tuple[str, list[Figures]]]:
    """Measure all systems under a protocol: yields the name of each, and its metrics by name for each seed."""
    (validation,) = (setting for split, setting in VALIDATION.items() if protocol.endswith(split))
    settings = [f"protocol={protocol}", f"data.root={root.absolute()}", "logger=none"]
    with TemporaryDirectory() as folder:
        tuned = train(*settings, validation, "recipe=ease", "test=false", folder=f"{folder}/tuned")
        final = train(*settings, "recipe=ease", folder=f"{folder}/final")
        _, popular = measure_run(final, "test", "prediction")
        yield "most popular", [popular]
        split = Split(final)
        for name, fit in choose_settings(Split(tuned), num_factors=NUM_FACTORS):
            yield name, [split.measure(fit(split), "test")]
        for recipe in RECIPES:
            yield f"`{recipe}`", list(measure_recipe([*settings, f"recipe={recipe}"], seeds=seeds))
        for recipe, grid in TUNED.items():
            best = choose([*settings, validation, f"recipe={recipe}"], grid)
            print(f"{recipe}: {best}", file=sys.stderr)
            yield f"`{recipe}`, tuned", list(measure_recipe([*settings, f"recipe={recipe}", *best], seeds=seeds))


def measure_recipe(settings: Sequence[str], *, seeds: int) -> Iterator[Figures]:
    """Train a run with each seed, and measure its test lists."""
    for seed in range(seeds):
        with TemporaryDirectory() as folder:
            figures, _ = measure_run(train(*settings, f"seed={seed}", folder=f"{folder}/run"), "test", "expected_gain")
        yield figures


def choose(settings: Sequence[str], grid: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the settings of a grid with the highest NDCG@10 on validation rows."""
    ndcg: dict[tuple[str, ...], float] = {}
    for values in product(*grid.values()):
        choice = tuple(f"{key}={value}" for key, value in zip(grid, values, strict=True))
        with TemporaryDirectory() as folder:
            run = train(*settings, *choice, "test=false", folder=f"{folder}/run")
            ndcg[choice] = run.metrics["val/ndcg@10"]
    best = max(ndcg, key=ndcg.__getitem__)
    return list(best)


def train(*settings: str, folder: str) -> Run:
    """Train a run into a folder."""
    return ratinglab.train(*settings, folder=folder, verbose=False)


if __name__ == "__main__":
    main()
