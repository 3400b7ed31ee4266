"""Seconds and memory of fitting ranking models: implicit-feedback ALS by ratinglab and implicit, and EASE.

    pip install -e . implicit
    python scripts/benchmarks/list_fits.py
    python scripts/benchmarks/list_fits.py --rows 100000 --items

The rated pairs are synthetic, long-tailed in users and items. Both systems of ALS have the same factors, sweeps, steps
of conjugate gradients and threads, and take turns, each in a process of its own. The seconds of the fit are those of
trainer.fit, with the sorting of the pairs and the checkpoints, or of implicit's own fit; a sweep is its share of the
steps.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pandas as pd
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

SHAPES = {100_000: (943, 1_682), 5_000_000: (30_000, 10_000), 25_000_000: (138_000, 27_000)}
"""Users and items by number of rated pairs."""
DATA = ["data=csv", "data.cache=null", "split.test=0", "split.validation=0", "logger=none"]
FACTORS, SWEEPS, CG_STEPS = 64, 5, 3
ITEMS = (10_000, 20_000)
PAIRS_PER_ITEM = 200


def main() -> None:
    """Measure, and print one table per number of pairs, and one of EASE."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="*", choices=SHAPES, default=list(SHAPES), help="numbers of pairs")
    parser.add_argument("--items", type=int, nargs="*", default=ITEMS, help="numbers of items for EASE")
    arguments = parser.parse_args()
    env = environment(threads=arguments.threads)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for rows in arguments.rows:
            path = write_pairs(folder, rows, *SHAPES[rows])
            ials = [*DATA, f"data.path={path}", "recipe=ials", "model.min_stars=null"]
            ials += [f"model.embedding_dim={FACTORS}", f"optimizer.cg_steps={CG_STEPS}", f"trainer.max_epochs={SWEEPS}"]
            measures = {
                "ratinglab, ials": partial(ials_seconds, ials, rows, folder=folder, env=env),
                "implicit": partial(call_in_process, implicit_seconds, str(path), str(arguments.threads), env=env),
            }
            measured = take_turns(measures, repeats=arguments.repeats)
            reference = measured["implicit"]
            print_table(
                f"{rows:,} pairs",
                {"s/sweep": ".3f", "ratio": ".2f", "fit s": ".2f", "peak MiB": ",.0f"},
                {
                    name: [
                        median(rounds, "sweep"),
                        median_ratio(rounds, reference, "sweep"),
                        median(rounds, "fit"),
                        peak_mib(rounds),
                    ]
                    for name, rounds in measured.items()
                },
            )
        ease = {}
        for items in arguments.items:
            path = write_pairs(folder, items * PAIRS_PER_ITEM, 5 * items, items)
            settings = [*DATA, f"data.path={path}", "recipe=ease", "model.min_stars=null"]
            fits = [train(settings, folder=folder, env=env) for _ in range(arguments.repeats)]
            ease[f"{items:,} items"] = [median(fits, "fit/seconds"), peak_mib(fits)]
        if ease:
            print_table("EASE", {"s": ".1f", "peak MiB": ",.0f"}, ease)


def write_pairs(folder: Path, rows: int, num_users: int, num_items: int) -> Path:
    """Write synthetic pairs, all rated 5."""
    pairs = distinct_pairs(rows, num_users=num_users, num_items=num_items, random=np.random.default_rng(0))
    path = folder / f"{rows}.parquet"
    user, item = np.divmod(pairs, num_items)
    rating = np.full(rows, 5, dtype=np.float32)
    rating[0] = 1  # a scale needs two ratings
    pd.DataFrame({"user_id": user, "item_id": item, "rating": rating}).to_parquet(path)
    return path


def ials_seconds(settings: Sequence[str], rows: int, *, folder: Path, env: Mapping[str, str]) -> Measurement:
    """Train through the command line: the seconds of the fit, and those of a sweep over the given number of pairs."""
    metrics = train(settings, folder=folder, env=env)
    sweep = rows / metrics["fit/ratings_per_second"]
    return {"sweep": sweep, "fit": metrics["fit/seconds"], "peak_mib": metrics["peak_mib"]}


def implicit_seconds(path: str, threads: str) -> Measurement:
    """Fit implicit's ALS in this process: its seconds, and those of its sweeps."""
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    table = pd.read_parquet(path)
    user, item = (np.unique(table[name], return_inverse=True)[1] for name in ("user_id", "item_id"))
    rated = csr_matrix((np.ones(len(user), dtype=np.float32), (user, item)))
    model = AlternatingLeastSquares(
        factors=FACTORS, iterations=SWEEPS, num_threads=int(threads), use_cg=True, random_state=0
    )
    model.cg_steps = CG_STEPS
    sweeps: list[float] = []
    model.fit_callback = lambda number, seconds, loss: sweeps.append(seconds)
    started = perf_counter()
    model.fit(rated, show_progress=False)
    return {"sweep": sum(sweeps) / SWEEPS, "fit": perf_counter() - started}


if __name__ == "__main__":
    main()
