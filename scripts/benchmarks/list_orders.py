"""NDCG, recall and coverage of lists in each order of ratinglab, and of systems that learn from implicit feedback.

    pip install -e . implicit
    python scripts/benchmarks/list_orders.py ml-100k/u.data ml-latest-small/ratings.csv

A tenth of each user's ratings is held out for validation and a tenth for test, by three seeds; with --split leave_last,
each user's last rating for test and the one before it for validation, and the seeds are those of the fits. All systems
choose from the same candidates for the same users: see conf/split/README.md. Settings of the other systems are the best
of a small grid by NDCG@10 on the split's own validation rows; they learn from all training pairs, or from those of
liked items. implicit is left out if it is not installed.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from measurement import print_markdown_row
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

import ratinglab
from ratinglab.evaluation.ranking import mean_ranking_metrics
from ratinglab.inference.run import Run
from ratinglab.inference.run_evaluation import POPULARITY
from ratinglab.recommend.topk import build_pair_matrix
from ratinglab.stars import is_liked

RECIPES = ["fast", "biased_mf_gibbs", "svdpp_gibbs", "item_knn", "ease", "ials"]
SPLITS = {"per_user": ["split=per_user", "split.seed={seed}"], "leave_last": ["split=leave_last", "seed={seed}"]}
"""Settings of each protocol."""
NUM_FACTORS = 32
METRICS = ("ndcg@10", "recall@20", "coverage@10")
COLUMNS = ["user_id", "item_id", "rating", "timestamp"]
Scores = NDArray[np.float32]
Figures = dict[str, float]


def main() -> None:
    """Measure, and print a table per file of ratings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", help="ratings as u.data of MovieLens 100K, or as ratings.csv")
    parser.add_argument("--seeds", type=int, default=3, help="number of splits (default: %(default)s)")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="default: all of %(default)s")
    parser.add_argument("--split", choices=SPLITS, default="per_user", help="protocol (default: %(default)s)")
    parser.add_argument("--part", choices=["val", "test"], default="test", help="rows that count (default: test)")
    arguments = parser.parse_args()
    for path in arguments.paths:
        is_u_data = path.suffix == ".data"
        ratings = pd.read_csv(path, sep="\t" if is_u_data else ",", names=COLUMNS, header=None if is_u_data else 0)
        by_seed: list[dict[str, Figures]] = []
        for seed in range(arguments.seeds):
            by_seed.append(dict(measure(ratings, seed, arguments.recipes, arguments.part, SPLITS[arguments.split])))
            print(f"{path}, seed {seed}: {by_seed[-1]}", file=sys.stderr)
        print(f"\n{path}, {arguments.part}")
        print_markdown_row(["", *METRICS], is_header=True)
        for system in by_seed[0]:
            print_row(system, [figures[system] for figures in by_seed])


def print_row(system: str, by_seed: Sequence[Figures], *, digits: int = 3) -> None:
    """Print the mean and the standard deviation of each metric over the seeds."""
    cells = [system]
    for metric in METRICS:
        values = [figures[metric] for figures in by_seed]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        cells.append(f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}")
    print_markdown_row(cells)


def measure(
    ratings: pd.DataFrame, seed: int, recipes: list[str], part: str, split: list[str]
) -> Iterator[tuple[str, Figures]]:
    """Measure all systems on one split: yields the name of each, and its metrics by name."""
    for number, recipe in enumerate(recipes):
        with TemporaryDirectory() as folder:
            run = ratinglab.train(
                *(setting.format(seed=seed) for setting in split),
                "logger=none",
                "test=false",
                ratings=ratings,
                columns={"timestamp": "timestamp"},
                recipe=recipe,
                folder=f"{folder}/run",
                verbose=False,
            )
            orders = ["prediction"]
            if not run.record.predicts_scores:
                orders += [*(["lower_bound"] if run.record.is_sampled else []), "expected_gain"]
            for index, by in enumerate(orders):
                figures, popular = measure_run(run, part, by)
                if number == index == 0:
                    yield "most popular", popular
                    yield from measure_others(Split(run), part)
                order = "score" if run.record.predicts_scores else by
                yield f"`{recipe}`, by `{order}`", figures


def measure_run(run: Run, part: str, by: str) -> tuple[Figures, Figures]:
    """Measure a run's lists, and those of the most popular items."""
    values: dict[str, float] = {}
    for k in (10, 20):
        values |= run.evaluate_ranking(k=k, by=by, parts=[part])
    ours, popular = ({metric: values[f"{prefix}{part}/{metric}"] for metric in METRICS} for prefix in ("", POPULARITY))
    return ours, popular


class Split:
    """The rows of a run by part, and the lists of other systems measured as `Run.evaluate_ranking` does."""

    def __init__(self, run: Run) -> None:
        self._rows = {part: run.part(part) for part in ("train", "val", "test")}
        self._threshold, self._unit = run.record.stars.liked_threshold(None), run.record.stars.unit
        self._shape = run.record.num_users, run.record.num_items
        self.matrix = self.rated(liked_only=False)

    def rated(self, *, liked_only: bool) -> csr_matrix:
        """Return 1 for each training rating, or for those of liked items: (U, I)."""
        rows = self._rows["train"]
        if liked_only:
            rows = rows.take(is_liked(rows.rating, self._threshold, unit=self._unit))
        return csr_matrix((np.ones(len(rows), dtype=np.float32), (rows.user, rows.item)), shape=self._shape)

    def measure(self, scores: Scores, part: str) -> Figures:
        """Measure lists by scores (U, I) of every user and item."""
        rows, val, (num_users, num_items) = self._rows[part], self._rows["val"], self.matrix.shape
        scores[self.matrix.nonzero()] = -np.inf
        if part == "test":
            is_candidate = (val.user < num_users) & (val.item < num_items)
            scores[val.user[is_candidate], val.item[is_candidate]] = -np.inf
        liked = rows.take(is_liked(rows.rating, self._threshold, unit=self._unit))
        relevant = build_pair_matrix(liked.user, liked.item)
        users = np.unique(liked.user[liked.user < num_users])
        best = np.argsort(-scores[users], axis=1, kind="stable").astype(np.int32)
        share = np.bincount(self._rows["train"].item, minlength=num_items) / num_users
        figures = {}
        for metric in METRICS:
            name, k = metric.split("@")
            values = mean_ranking_metrics(users, [best[:, : int(k)]], relevant, k=int(k), share=share)
            figures[metric] = values[name]
        return figures


def measure_others(split: Split, part: str) -> Iterator[tuple[str, Figures]]:
    """Choose the settings of each other system on validation rows, and measure it on the part."""
    for name, fit in choose_settings(split, num_factors=[NUM_FACTORS]):
        yield name, split.measure(fit(split), part)


def choose_settings(split: Split, *, num_factors: list[int]) -> Iterator[tuple[str, Callable[[Split], Scores]]]:
    """Choose the settings of each other system by NDCG@10 on validation rows; yields its name, and its fit."""
    systems: dict[str, tuple[Callable[..., Scores], Mapping[str, list[Any]]]] = {
        "EASE": (ease, {"regularization": [30.0, 100.0, 300.0, 1000.0]})
    }
    if find_spec("implicit"):
        factors: list[Any] = [*num_factors]
        als = {"regularization": [3.0, 10.0, 30.0, 100.0], "alpha": [1.0, 2.0, 4.0, 8.0], "num_factors": factors}
        bpr = {"regularization": [0.01, 0.03, 0.1], "learning_rate": [0.01, 0.05], "num_factors": factors}
        systems["implicit ALS"] = (implicit_als, als)
        systems["implicit BPR"] = (implicit_bpr, bpr)
    for name, (fit, grid) in systems.items():
        grid = {"liked_only": [False, True], **grid}
        choices = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
        fits = [partial(_fit, fit, choice) for choice in choices]
        values = [split.measure(fit_choice(split), "val")["ndcg@10"] for fit_choice in fits]
        best = values.index(max(values))
        print(f"{name}: {choices[best]}", file=sys.stderr)
        yield name, fits[best]


def _fit(fit: Callable[..., Scores], choice: dict[str, Any], split: Split) -> Scores:
    """Fit a system with settings to a split's training pairs, or to those of liked items."""
    settings = dict(choice)
    return fit(split.rated(liked_only=settings.pop("liked_only")), **settings)


def ease(rated: csr_matrix, *, regularization: float) -> Scores:
    """Score by X B, the linear model of items by items with a zero diagonal, in closed form: B = I − P / diag(P).

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.
    """
    table = rated.toarray().astype(np.float64)
    # P = (XᵀX + λI)⁻¹ has a row per item; X P = (XXᵀ + λI)⁻¹ X needs a matrix of users only
    product = np.linalg.solve(table @ table.T + regularization * np.eye(len(table)), table)
    diagonal = (1 - (table * product).sum(axis=0)) / regularization
    return (table - product / diagonal).astype(np.float32)


def implicit_als(rated: csr_matrix, *, regularization: float, alpha: float, num_factors: int) -> Scores:
    """Score by implicit's alternating least squares."""
    from implicit.als import AlternatingLeastSquares

    settings = {"factors": num_factors, "iterations": 15, "random_state": 0}
    model = AlternatingLeastSquares(regularization=regularization, alpha=alpha, **settings)
    model.fit(rated, show_progress=False)
    scores: Scores = model.user_factors @ model.item_factors.T
    return scores


def implicit_bpr(rated: csr_matrix, *, regularization: float, learning_rate: float, num_factors: int) -> Scores:
    """Score by implicit's Bayesian personalized ranking."""
    from implicit.bpr import BayesianPersonalizedRanking

    settings = {"factors": num_factors, "iterations": 100, "random_state": 0}
    model = BayesianPersonalizedRanking(regularization=regularization, learning_rate=learning_rate, **settings)
    model.fit(rated, show_progress=False)
    scores: Scores = model.user_factors @ model.item_factors.T
    return scores


if __name__ == "__main__":
    main()
