"""Seconds that whole commands take, from the shell to the prompt.

    python scripts/benchmarks/command_speed.py --root ml-100k

Commands: a fit of the published split u1 by block SGD, with TensorBoard's figures and without; a minimal script of
Surprise, if it is installed (pip install 'ratinglab[bench]'); and the import of Lightning, which train.py cannot
undercut. They take turns; ratios are to that import.
"""

import importlib.util
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter

from measurement import (
    REPOSITORY,
    Measurement,
    argument_parser,
    environment,
    median,
    median_ratio,
    print_table,
    take_turns,
)

IMPORT = "import pytorch_lightning"
SURPRISE = """
from surprise import SVD, Dataset, Reader, accuracy
from surprise.model_selection import PredefinedKFold
reader = Reader(line_format="user item rating timestamp", sep="\\t")
data = Dataset.load_from_folds([("{train}", "{test}")], reader=reader)
for train, test in PredefinedKFold().split(data):
    accuracy.rmse(SVD().fit(train).test(test))
"""
NO_FIGURES = [f"logger.tensorboard.{value}" for value in ("figures=false", "data_figures=false", "projector_items=0")]


def main() -> None:
    """Measure, and print one table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder with MovieLens 100K's u.data")
    arguments = parser.parse_args()
    env = environment(threads=arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        commands = prepare(folder, root=arguments.root)
        for command in commands.values():  # fills the caches of ratinglab, of its compiler and of the file system
            run(command, folder=folder, env=env)
        measures = {name: partial(run, command, folder=folder, env=env) for name, command in commands.items()}
        measured = take_turns(measures, repeats=arguments.repeats)
    rows: dict[str, list[float | None]] = {}
    for name, rounds in measured.items():
        first_epoch = median(rounds, "first_epoch") if "first_epoch" in rounds[0] else None
        rows[name] = [first_epoch, median(rounds, "seconds"), median_ratio(rounds, measured[IMPORT], "seconds")]
    columns = {"first epoch, s": ".2f", "prompt, s": ".2f", "ratio": ".2f"}
    print_table(f"median of {arguments.repeats}", columns, rows)


def prepare(folder: Path, *, root: Path) -> dict[str, list[str]]:
    """Write the files of Surprise's folds, and return the commands."""
    train = [
        sys.executable, str(REPOSITORY / "scripts" / "train.py"), "experiment=movielens_100k_u1_block_sgd",
        f"data.root={root.resolve()}",
    ]  # fmt: skip
    commands = {"train.py, block_sgd": train, "train.py, block_sgd, no figures": [*train, *NO_FIGURES]}
    if importlib.util.find_spec("surprise"):
        rows = (root / "u.data").read_text().splitlines(keepends=True)
        parts = {"test": rows[:20_000], "train": rows[20_000:]}
        for name, lines in parts.items():
            (folder / name).write_text("".join(lines))
        script = SURPRISE.format(**{name: folder / name for name in parts})
        commands["Surprise SVD"] = [sys.executable, "-c", script]
    else:
        print("Surprise is not installed: left out")
    return {**commands, IMPORT: [sys.executable, "-c", IMPORT]}


def run(command: list[str], *, folder: Path, env: dict[str, str]) -> Measurement:
    """Run a command: `seconds` until it ends and, if it prints a line per epoch, `first_epoch` until that line."""
    measured: Measurement = {}
    lines = []
    started = perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith("epoch 1/"):
                measured["first_epoch"] = perf_counter() - started
    measured["seconds"] = perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\nfailed with exit status {process.returncode}:\n{''.join(lines)}")
    return measured


if __name__ == "__main__":
    main()
