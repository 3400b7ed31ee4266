"""Accuracy of fold-in and of retraining: test RMSE of held-out users and items with few ratings.

    python scripts/benchmarks/fold_in_accuracy.py ml-100k/u.data

Some users (or items) are drawn at random among those with enough ratings, and held out whole. A run is trained on all
other ratings. Then 5, 10 or 20 ratings of each are folded in, or added to the training rows of another run, and both
predict the remaining ratings of these users. Without times, timesvdpp predicts for a user's last day. The bias baseline
is that of the run with the added ratings. The recipe svdpp_gibbs takes minutes per run.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from measurement import print_table

import ratinglab

RECIPES = (
    "biased_mf_gibbs",
    "svdpp_gibbs",
    "mf_gibbs",
    "timesvdpp_gibbs",
    "biased_mf_als",
    "fast",
    "nmf_adam",
)
FITS = (*(f"recipe={name}" for name in RECIPES), "model=biased_mf", "model=mf")
COLUMNS = {
    "folded in": ".4f",
    "retrained": ".4f",
    "difference": "+.4f",
    "bias baseline": ".4f",
    "ms per fold-in": ".1f",
}
NUM_FOLDED_IN = (5, 10, 20)
"""Numbers of ratings that are folded in, of each held-out user or item."""
MIN_RATINGS = 40
"""Minimum number of ratings of a user or an item that is held out."""
TIMES = ["data.columns.timestamp=timestamp", "model.item_features=[]"]
"""Settings for the table with times and without genres."""
SPLIT = ("split.test=0", "split.validation=0.05", "logger=none", "test=false")


def main() -> None:
    """Measure, and print a table per side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="ratings as u.data of MovieLens 100K")
    parser.add_argument("--fits", nargs="+", default=FITS, help="options of the run")
    parser.add_argument("--sides", nargs="+", default=("user", "item"), help="user, item")
    parser.add_argument("--held-out", type=int, default=100, help="number of users or items")
    parser.add_argument("--seed", type=int, default=1, help="draws them")
    arguments = parser.parse_args()
    names = ["user_id", "item_id", "rating", "timestamp"]
    ratings = pd.read_csv(arguments.path, sep="\t", names=names)
    for side in arguments.sides:
        for fit in arguments.fits:
            with TemporaryDirectory() as folder:
                rows = _measure(ratings, side, fit, Path(folder), count=arguments.held_out, seed=arguments.seed)
                print_table(f"{fit}, RMSE of the other ratings", COLUMNS, rows)


def _measure(
    ratings: pd.DataFrame, side: str, fit: str, folder: Path, *, count: int, seed: int
) -> dict[str, list[float]]:
    """Measure one fit: the figures by number of ratings folded in."""
    key = f"{side}_id"
    counts = ratings[key].value_counts()
    held_out = np.random.default_rng(seed).choice(np.sort(counts.index[counts >= MIN_RATINGS]), count, replace=False)
    is_held_out = ratings[key].isin(held_out)
    held_out_rows = ratings[is_held_out].sample(frac=1, random_state=seed)
    position = held_out_rows.groupby(key).cumcount()
    test = held_out_rows[position >= max(NUM_FOLDED_IN)]
    settings = [fit, *SPLIT, *(TIMES if "timesvdpp" in fit else [])]
    run = ratinglab.train(*settings, ratings=ratings[~is_held_out], folder=folder / "others", verbose=False)
    run.fold_in(held_out_rows[position < 1])  # estimates the prior once
    rows = {}
    for number in NUM_FOLDED_IN:
        history = held_out_rows[position < number]
        begin = time.perf_counter()
        folded = run.fold_in(history)
        seconds = time.perf_counter() - begin
        together = pd.concat([ratings[~is_held_out], history])
        again = ratinglab.train(*settings, ratings=together, folder=folder / str(number), verbose=False)
        folded_rmse = _rmse(folded.predict(test["item_id"], user_ids=test["user_id"]), test)
        again_rmse = _rmse(again.predict(test["user_id"], test["item_id"]), test)
        baseline = again.evaluate(test)["baseline/bias/rmse"]
        figures = [folded_rmse, again_rmse, folded_rmse - again_rmse, baseline, 1000 * seconds / count]
        rows[f"{number} ratings per {side}"] = figures
    return rows


def _rmse(predicted: np.ndarray, rows: pd.DataFrame) -> float:
    return float(np.sqrt(np.mean((predicted - rows["rating"].to_numpy()) ** 2)))


if __name__ == "__main__":
    main()
