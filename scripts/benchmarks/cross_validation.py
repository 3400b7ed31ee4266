"""Five-fold cross-validation in Python by ratinglab and other libraries: lines typed, seconds and test RMSE.

    pip install -e '.[bench]' lenskit
    python scripts/benchmarks/cross_validation.py ml-100k/u.data

Each program is what a newcomer types, with the library's defaults. It runs in its own process; the seconds are those
of the whole process. Each library shuffles the folds itself. A library that is not installed is left out; --python runs
the other libraries in another environment.
"""

import os
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from measurement import argument_parser, environment, median, print_table, run_process, take_turns

READ = """
import pandas as pd
frame = pd.read_csv({path!r}, sep="\\t", names=["user_id", "item_id", "rating", "timestamp"])
"""
"""Reads the ratings; not counted."""
PROGRAMS = {
    "ratinglab": """
import ratinglab
print(ratinglab.cross_validate(ratings=frame, recipe="biased_mf_gibbs", verbose=False)["test/rmse"].mean())
""",
    "ratinglab block_sgd": """
import ratinglab
print(ratinglab.cross_validate(ratings=frame, recipe="fast", verbose=False)["test/rmse"].mean())
""",
    "surprise": """
from surprise import SVD, Dataset, Reader
from surprise.model_selection import cross_validate
data = Dataset.load_from_df(frame[["user_id", "item_id", "rating"]], Reader(rating_scale=(1, 5)))
print(cross_validate(SVD(), data, cv=5)["test_rmse"].mean())
""",
    "cornac": """
import cornac
from cornac.eval_methods import CrossValidation
folds = CrossValidation(frame[["user_id", "item_id", "rating"]].values.tolist(), n_folds=5, seed=0)
experiment = cornac.Experiment(folds, [cornac.models.MF()], [cornac.metrics.RMSE()])
experiment.run()
print(experiment.result[0].metric_mean["RMSE"])
""",
    "lenskit": """
from lenskit.als import BiasedMFScorer
from lenskit.batch import predict
from lenskit.data import from_interactions_df
from lenskit.pipeline import predict_pipeline
from lenskit.splitting import crossfold_records
errors = []
for fold in crossfold_records(from_interactions_df(frame), 5):
    pipeline = predict_pipeline(BiasedMFScorer())
    pipeline.train(fold.train)
    predicted = predict(pipeline, fold.test, n_jobs=1).to_df()
    both = fold.test.to_df().merge(predicted, on=["user_id", "item_id"], suffixes=("_given", ""))
    errors.append(((both["score"] - both["rating_given"]) ** 2).mean() ** 0.5)
print(sum(errors) / 5)
""",
}


def main() -> None:
    """Measure, and print one table."""
    parser = argument_parser(__doc__)
    parser.add_argument("path", type=Path, help="ratings as u.data of MovieLens 100K")
    parser.add_argument("--python", default=sys.executable, help="Python that runs the other libraries")
    arguments = parser.parse_args()
    env, path = environment(threads=arguments.threads), str(arguments.path.absolute())
    pythons = {name: sys.executable if name.startswith("ratinglab") else arguments.python for name in PROGRAMS}
    # an editable install of ratinglab need not be known to the other Python
    names = [name for name in PROGRAMS if pythons[name] != sys.executable or find_spec(name.split()[0]) is not None]

    def measure(name: str) -> dict[str, float]:
        program = READ.format(path=path) + PROGRAMS[name]
        with TemporaryDirectory() as folder:  # each library leaves files
            finished = run_process([pythons[name], "-c", program], env={**os.environ, **env}, folder=Path(folder))
        return {"seconds": finished.seconds, "rmse": float(finished.stdout.split()[-1])}

    measured = take_turns({name: partial(measure, name) for name in names}, repeats=arguments.repeats)
    rows = {
        name: [PROGRAMS[name].strip().count("\n") + 1, median(rounds, "seconds"), median(rounds, "rmse")]
        for name, rounds in measured.items()
    }
    columns = {"lines": ".0f", "seconds": ".1f", "test RMSE": ".4f"}
    print_table(f"median of {arguments.repeats}", columns, rows)


if __name__ == "__main__":
    main()
