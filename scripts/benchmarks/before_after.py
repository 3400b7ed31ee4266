"""Seconds and validation MSE of each fit in two checkouts of ratinglab, such as before and after a change.

    python scripts/benchmarks/before_after.py --before ../before --after . --root ml-100k

Short fits on MovieLens 100K, split u1, each in a process of its own, on one thread. Seconds are those of trainer.fit.
The two checkouts take turns; a first round is not counted, since it compiles their loops. The ratio is the median over
the rounds of seconds after / before; "of fastest" is the ratio of the fastest rounds, which suffers least from other
load on the machine.
"""

import tempfile
from functools import partial
from pathlib import Path

from measurement import Measurement, argument_parser, environment, median, median_ratio, print_table, take_turns, train

COMMON = ["data=movielens_100k", "split=movielens_u", "logger=none", "callbacks.early_stopping.patience=null"]
GIBBS = ["optimizer=gibbs", "model.embedding_dim=16"]
SIDES = ("before", "after")
FITS = {
    "mf_adam": ["model=mf", "trainer.max_epochs=25"],
    "biased_mf_adam": ["model=biased_mf", "trainer.max_epochs=15"],
    "svdpp_adam": ["model=svdpp", "trainer.max_epochs=4"],
    "biased_mf_sparse_adam": ["model=biased_mf", "optimizer=sparse_adam", "trainer.max_epochs=15"],
    "biased_mf_block_sgd": ["model=biased_mf", "optimizer=block_sgd", "trainer.max_epochs=200"],
    "biased_mf_als": ["model=biased_mf", "optimizer=als", "trainer.max_epochs=40"],
    "biased_mf_gibbs": ["model=biased_mf", *GIBBS, "trainer.max_epochs=100", "optimizer.burn_in=50"],
    "svdpp_gibbs": ["model=svdpp", *GIBBS, "trainer.max_epochs=40", "optimizer.burn_in=20"],
    "timesvdpp_gibbs": ["model=timesvdpp", *GIBBS, "trainer.max_epochs=20", "optimizer.burn_in=10"],
    "timesvdpp_genres_gibbs": [
        "model=timesvdpp",
        "model.item_features=[genres]",
        *GIBBS,
        "trainer.max_epochs=20",
        "optimizer.burn_in=10",
    ],
}


def main() -> None:
    """Measure, and print one table."""
    parser = argument_parser(__doc__, threads=1)
    parser.add_argument("--root", type=Path, required=True, help="folder with MovieLens 100K's u.data")
    parser.add_argument("--before", type=Path, required=True, metavar="FOLDER", help="checkout before the change")
    parser.add_argument("--after", type=Path, required=True, metavar="FOLDER", help="checkout after the change")
    parser.add_argument("--fits", nargs="+", choices=FITS, default=list(FITS), metavar="FIT", help=", ".join(FITS))
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before.resolve(), "after": arguments.after.resolve()}
    with tempfile.TemporaryDirectory() as folder:
        measures = {
            (name, side): partial(
                train,
                [*COMMON, f"data.root={arguments.root.resolve()}", *FITS[name]],
                checkout=checkouts[side],
                folder=Path(folder),
                env=environment(threads=arguments.threads),
            )
            for name in arguments.fits
            for side in SIDES
        }
        take_turns(measures, repeats=1)
        measured = take_turns(measures, repeats=arguments.repeats)
    print_results({name: (measured[name, "before"], measured[name, "after"]) for name in arguments.fits})


def print_results(measured: dict[str, tuple[list[Measurement], list[Measurement]]]) -> None:
    """Print a row per fit, then the fits whose validation MSE differs in any digit."""
    rows, different = {}, []
    for name, (before, after) in measured.items():
        errors = [side[0]["val/mse"] for side in (before, after)]
        seconds = [median(side, "fit/seconds") for side in (before, after)]
        fastest = [min(measurement["fit/seconds"] for measurement in side) for side in (before, after)]
        ratios = [median_ratio(after, before, "fit/seconds"), fastest[1] / fastest[0]]
        rows[name] = [*seconds, *ratios, *errors]
        if errors[0] != errors[1]:
            different.append(name)
    repeats = len(next(iter(measured.values()))[0])
    columns = {"before, s": ".3f", "after, s": ".3f", "ratio": ".3f", "of fastest": ".3f"}
    print_table(f"median of {repeats}", {**columns, "before, val/mse": ".8f", "after, val/mse": ".8f"}, rows)
    print(f"val/mse differs: {', '.join(different)}" if different else "val/mse is equal in every digit")


if __name__ == "__main__":
    main()
