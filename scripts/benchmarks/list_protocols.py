"""Figures of lists under the protocols of conf/protocol: popularity, other systems, and the recipes.

    pip install -e . implicit
    python scripts/benchmarks/list_protocols.py movielens_100k_leave_last ml-100k

The settings of the other systems are the best of a small grid by NDCG@10 on validation rows, which are the last rating
before the test one, or a tenth of each user's; then they are fitted to all rows that are not test rows. Ours are the
recipes as they are, with three seeds. See list_orders.py for the candidates and the grids.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from list_orders import FIGURES, Figures, Split, choose_settings, of_run, spread

import ratinglab
from ratinglab.runs.run import POPULARITY, Run

RECIPES = ["item_knn", "ease", "ials", "fast", "svdpp_gibbs"]
NUM_FACTORS = [32, 128]
"""Numbers of factors that implicit chooses from."""
VALIDATION = {"leave_last": "split.validation=1", "per_user": "split.validation=0.1"}
"""Setting that holds out validation rows, by the last words of a protocol's name."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", help="name of a protocol of lists")
    parser.add_argument("root", type=Path, help="folder of its data set")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of each recipe (default: %(default)s)")
    arguments = parser.parse_args()
    print("| | " + " | ".join(f"{name}@{k}" for name, k in FIGURES.items()) + " |")
    print("|---" * (1 + len(FIGURES)) + "|")
    for system, found in measure(arguments.protocol, arguments.root, seeds=arguments.seeds):
        cells = (spread([each[name] for each in found], digits=4) for name in FIGURES)
        print(f"| {system} | " + " | ".join(cells) + " |", flush=True)


def measure(protocol: str, root: Path, *, seeds: int) -> Iterator[tuple[str, list[Figures]]]:
    """Measure all systems under a protocol: yields the name of each, and its metrics by name for each seed."""
    (validation,) = (setting for split, setting in VALIDATION.items() if protocol.endswith(split))
    settings = [f"protocol={protocol}", f"data.root={root.absolute()}", "logger=none"]
    with TemporaryDirectory() as folder:
        tuned = train(*settings, validation, "recipe=ease", "test=false", folder=f"{folder}/tuned")
        final = train(*settings, "recipe=ease", folder=f"{folder}/final")
        popular = of_run(final, "test", "prediction")
        yield "most popular", [{name: popular[f"{POPULARITY}test/{name}@{k}"] for name, k in FIGURES.items()}]
        split = Split(final)
        for name, fit in choose_settings(Split(tuned), num_factors=NUM_FACTORS):
            yield name, [split.measure(fit(split), "test")]
        for recipe in RECIPES:
            of_seeds = []
            for seed in range(seeds):
                run = train(*settings, f"recipe={recipe}", f"seed={seed}", folder=f"{folder}/{recipe}-{seed}")
                found = of_run(run, "test", "expected_gain")
                of_seeds.append({name: found[f"test/{name}@{k}"] for name, k in FIGURES.items()})
            yield f"`{recipe}`", of_seeds


def train(*settings: str, folder: str) -> Run:
    """Train a run into a folder."""
    return ratinglab.train(*settings, folder=folder, verbose=False)


if __name__ == "__main__":
    main()
