"""Measured processes, medians and ratios, printed tables, and synthetic pairs, for all benchmarks; Linux only."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).parents[2]
LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, capture_output=True, text=True)
seconds = time.perf_counter() - started
peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps([done.returncode, done.stdout, done.stderr, seconds, peak_mib]))
"""
"""Runs a command and measures it. A small process must start the command: Linux counts the parent's memory as the
child's until the child executes its own program, and the peak survives that."""

Measurement = dict[str, float]
Key = TypeVar("Key")


class Finished(NamedTuple):
    """A process that ended well: its output, its seconds from start to end, and its peak memory."""

    stdout: str
    seconds: float
    peak_mib: float


def argument_parser(description: str | None, *, threads: int = 2) -> argparse.ArgumentParser:
    """Return a parser that already has --repeats and --threads; the latter defaults to `threads`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of measurements (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=threads, help="threads per process (default: %(default)s)")
    return parser


def environment(*, threads: int, **variables: str) -> dict[str, str]:
    """Return this process's environment with a thread limit, this checkout's src/ as PYTHONPATH, and `variables`."""
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "NUMBA", "OPENBLAS", "MKL")}
    return {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), **limits, **variables}


def run_process(command: Sequence[str], *, env: Mapping[str, str], folder: Path | None = None) -> Finished:
    """Run a command in a process of its own, in `folder`; exit with its error output if it fails."""
    launched = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *command], check=True, capture_output=True, text=True, cwd=folder, env=env
    )
    status, stdout, stderr, seconds, peak_mib = json.loads(launched.stdout)
    if status:
        raise SystemExit(f"{' '.join(command)}\nfailed with exit status {status}:\n{stderr}")
    return Finished(stdout, seconds, peak_mib)


def call_in_process(function: Callable[..., Measurement], *arguments: str, env: Mapping[str, str]) -> Measurement:
    """Call a benchmark's function in a process of its own.

    Args:
        function: a function of a script in this folder.
        arguments: its positional arguments.
        env: the environment of the process.

    Returns:
        The function's figures and, unless it measures this itself, `peak_mib` of the whole process.
    """
    script = Path(function.__code__.co_filename)
    call = (
        f"import json, sys; sys.path.insert(0, {str(script.parent)!r}); import {script.stem} as script; "
        f"print(json.dumps(script.{function.__name__}(*sys.argv[1:])))"
    )
    finished = run_process([sys.executable, "-c", call, *arguments], env=env)
    return {"peak_mib": finished.peak_mib, **json.loads(finished.stdout.splitlines()[-1])}


def train(settings: Sequence[str], *, folder: Path, env: Mapping[str, str], checkout: Path = REPOSITORY) -> Measurement:
    """Train with a checkout's train.py, below `folder`: the figures of metrics.json, and `peak_mib` of the process."""
    command = [sys.executable, str(checkout / "scripts" / "train.py"), *settings]
    finished = run_process(command, folder=folder, env={**env, "PYTHONPATH": str(checkout / "src")})
    run = folder / finished.stdout.splitlines()[-1]
    return {**json.loads((run / "metrics.json").read_text()), "peak_mib": finished.peak_mib}


def take_turns(measures: Mapping[Key, Callable[[], Measurement]], *, repeats: int) -> dict[Key, list[Measurement]]:
    """Take every measurement once per round, so that a slow spell of the machine affects all of them."""
    rounds = [{name: measure() for name, measure in measures.items()} for _ in range(repeats)]
    return {name: [measurements[name] for measurements in rounds] for name in measures}


def median(measured: Sequence[Measurement], figure: str) -> float:
    """Return the median of a figure over the rounds."""
    return statistics.median(measurement[figure] for measurement in measured)


def median_ratio(measured: Sequence[Measurement], reference: Sequence[Measurement], figure: str) -> float:
    """Return the median over the rounds of a figure divided by the reference's figure of the same round."""
    pairs = zip(measured, reference, strict=True)
    return statistics.median(measurement[figure] / other[figure] for measurement, other in pairs)


def peak_mib(measured: Sequence[Measurement]) -> float:
    """Return the highest peak memory of all rounds."""
    return max(measurement["peak_mib"] for measurement in measured)


def print_table(title: str, columns: Mapping[str, str], rows: Mapping[str, Sequence[float | None]]) -> None:
    """Print one line per row.

    Args:
        title: stands above the row labels.
        columns: headings, and the format of the figures below each.
        rows: labels, and the figures of each row; None leaves a cell empty.
    """
    lines = {title: list(columns)}
    for label, figures in rows.items():
        formatted = zip(figures, columns.values(), strict=True)
        lines[label] = ["" if figure is None else format(figure, spec) for figure, spec in formatted]
    margin = max(map(len, lines))
    widths = [max(map(len, column)) for column in zip(*lines.values(), strict=True)]
    for label, cells in lines.items():
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        print("  ".join([label.ljust(margin), *aligned]).rstrip())


def print_markdown_row(cells: Sequence[str], *, is_header: bool = False) -> None:
    """Print a row of a Markdown table, and the rule below it if it is the header."""
    print(f"| {' | '.join(cells)} |", flush=True)
    if is_header:
        print("|---" * len(cells) + "|")


def distinct_pairs(rows: int, *, num_users: int, num_items: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw pairs of user and item, long-tailed in both, without repetition.

    Returns:
        (rows,) int64, sorted: user · num_items + item.
    """
    activity, popularity = random.lognormal(0, 1.2, num_users), (np.arange(num_items) + 50.0) ** -1.0
    pairs = np.empty(0, dtype=np.int64)
    while len(pairs) < rows:
        wanted = int((rows - len(pairs)) * 1.3) + 1000
        user, item = (_draw(weight, wanted, random) for weight in (activity, popularity))
        pairs = np.unique(np.concatenate([pairs, user * num_items + item]))
    return np.sort(random.permutation(pairs)[:rows])


def _draw(weight: NDArray[np.floating], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw indices with probabilities proportional to `weight`: (count,) int64."""
    cumulative = np.cumsum(weight / weight.sum())
    return np.searchsorted(cumulative, random.random(count)).clip(0, len(weight) - 1)
