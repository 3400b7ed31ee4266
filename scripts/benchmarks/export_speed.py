"""Milliseconds per batch of predictions, by a run and by its exports.

    pip install 'ratinglab[export]'
    python scripts/benchmarks/export_speed.py outputs/2026-11-24/10-15-00-a1b2

Each system predicts random known pairs in its own process, with the same number of threads. The systems take turns.
numpy gets at most 1,000 pairs at once: the factors of many samples need much memory.
"""

import statistics
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from measurement import Measurement, argument_parser, call_in_process, environment, median, print_table, take_turns

SIZES = (1, 1_000, 100_000)
SYSTEMS = ("ratinglab", "torch", "onnx", "numpy")


def main() -> None:
    """Measure, and print one table."""
    parser = argument_parser(__doc__)
    parser.add_argument("run", help="folder of a run whose model takes no days")
    arguments = parser.parse_args()
    env = environment(threads=arguments.threads, OMP_WAIT_POLICY="PASSIVE")  # as the commands set it
    measures = {system: partial(call_in_process, predict, system, arguments.run, env=env) for system in SYSTEMS}
    measured = take_turns(measures, repeats=arguments.repeats)
    columns = {f"{size:,} pairs, ms": ".3f" for size in SIZES}
    rows = {system: [median(rounds, str(size)) for size in SIZES] for system, rounds in measured.items()}
    print_table(f"median of {arguments.repeats}", columns, rows)


def predict(system: str, folder: str) -> Measurement:
    """Return the median milliseconds of a batch, by its size."""
    import torch

    from ratinglab.commands.command_options import ExportFormat
    from ratinglab.commands.export_formats import WRITERS
    from ratinglab.inference.run import Run

    run, random = Run.load(folder), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as output, torch.inference_mode():
        if system == "ratinglab":
            call = lambda *columns: run.predictor(*map(torch.from_numpy, columns)).numpy()  # noqa: E731
        else:
            call = WRITERS[ExportFormat[system]](run, Path(output)).predict
        measured = {}
        for size in SIZES:
            counts = run.record.num_users, run.record.num_items
            columns = [random.integers(0, count, size, dtype=np.int32) for count in counts]
            parts = [np.array_split(column, -(-size // 1_000) if system == "numpy" else 1) for column in columns]
            milliseconds = []
            for _ in range({1: 200, 1_000: 20}.get(size, 3)):
                started = perf_counter()
                for user, item in zip(*parts, strict=True):
                    call(user, item)
                milliseconds.append((perf_counter() - started) * 1e3)
            measured[str(size)] = statistics.median(milliseconds)
    return measured


if __name__ == "__main__":
    main()
