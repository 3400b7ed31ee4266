"""How long whole commands take, from the shell to the prompt.

    python scripts/benchmark_commands.py --root ml-100k

A fit of the published split u1 by block SGD, with TensorBoard and without its figures, beside a minimal script of
Surprise (pip install 'ratinglab[bench]') and beside the import of Lightning, which is the least that ours can take.
The commands take turns; medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

SURPRISE = """
from surprise import SVD, Dataset, Reader, accuracy
from surprise.model_selection import PredefinedKFold
reader = Reader(line_format="user item rating timestamp", sep="\\t")
data = Dataset.load_from_folds([("{train}", "{test}")], reader=reader)
for train, test in PredefinedKFold().split(data):
    accuracy.rmse(SVD().fit(train).test(test))
"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with MovieLens 100K's u.data")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = (arguments.root / "u.data").read_text().splitlines(keepends=True)
        test, train = (Path(folder, name) for name in ("test", "train"))
        test.write_text("".join(rows[:20_000]))
        train.write_text("".join(rows[20_000:]))
        ours = [sys.executable, str(Path(__file__).with_name("train.py")), "experiment=movielens_100k_u1_block_sgd"]
        ours.append(f"data.root={arguments.root.resolve()}")
        plain = ["logger.figures=false", "logger.data_figures=false", "logger.projector_items=0"]
        commands = {
            "train.py optimizer=block_sgd": ours,
            "the same, no figures": [*ours, *plain],
            "Surprise SVD": [sys.executable, "-c", SURPRISE.format(train=train, test=test)],
            "import pytorch_lightning": [sys.executable, "-c", "import pytorch_lightning; print('epoch 1/1')"],
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        run(ours, folder)  # so that the data are in ratinglab's cache, and all files in the system's
        for _ in range(arguments.repeats):
            for name, command in commands.items():
                taken[name].append(run(command, folder))
    print(f"{'':32}{'first step, s':>14}{'prompt, s':>11}{'ratio':>7}")
    least = statistics.median(prompt for _, prompt in taken["import pytorch_lightning"])
    for name, seconds in taken.items():
        first, prompt = (statistics.median(column) for column in zip(*seconds, strict=True))
        shown = "" if name == "Surprise SVD" else f"{first:.2f}"
        print(f"{name:32}{shown:>14}{prompt:11.2f}{prompt / least:7.2f}")


def run(command: list[str], folder: str) -> tuple[float, float]:
    """Seconds until a command tells of its first epoch, or ends without one, and until it ends."""
    started = perf_counter()
    first = None
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        shown = []
        for line in process.stdout:
            shown.append(line)
            if line.startswith("epoch 1/"):
                first = perf_counter() - started
    seconds = perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{command} has failed: {''.join(shown)}")
    return first or seconds, seconds


if __name__ == "__main__":
    main()
