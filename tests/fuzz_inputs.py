"""Fuzzer of what users type: command lines, YAML files, tables of pairs and ratings, and request bodies.

    python tests/fuzz_inputs.py --minutes 30 --seed 0

Each input is a valid one with a few changes. It must work, or be refused in one line that leaves nothing behind.
Anything else is a finding, which is printed with the input; the exit status is then 1. Findings are tracebacks,
refusals of several lines, files left behind, inputs that take longer than a minute, and silence: a mistyped key or
choice that is accepted, or an output that lacks rows or holds a number that is not finite.
"""

import argparse
import csv
import itertools
import json
import math
import random
import re
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from conftest import Outcome, run_here
from fuzz_runs import COMMON, write_data
from fuzz_runs import DATA as TITLED
from odd_requests import odd_request

COLUMNS = ["data.columns.user=user_id", "data.columns.item=item_id", "data.columns.rating=rating"]
DATA = ["data=csv", "data.path=ratings.csv", *COLUMNS]
QUICK = ["trainer.max_epochs=1", "logger=none", "hydra.run.dir=new"]
COMMANDS = [
    ["train", *DATA, *QUICK, "model=biased_mf", "model.embedding_dim=4", "optimizer.lr=0.01", "seed=3"],
    ["train", *DATA, *QUICK, "data.items.path=items.csv", "data.items.item=item_id", "model=mf", "optimizer=als"],
    ["train", *DATA, *QUICK, "model=svdpp", "optimizer=gibbs", "optimizer.burn_in=0", "split=per_user"],
    ["train", *DATA, *QUICK, "recipe=fast", "data.cache=cache", "split.test=0.2", "data.drop=[2]"],
    ["train", *DATA, *QUICK, "recipe=ials", "monitor=val/ndcg@10", "model.embedding_dim=4"],
    ["train", "-m", *DATA, "trainer.max_epochs=1", "logger=none", "hydra.sweep.dir=new", "model.embedding_dim=2,3"],
    ["train", *DATA, *QUICK, "from=run", "trainer.max_time=00:00:01:00", "callbacks.early_stopping.patience=2"],
    ["predict", "run=run", "input=pairs.csv", "output=out.csv", "columns.user=user_id", "columns.item=item_id"],
    ["predict", "run=run", "input=new.csv", "output=out.parquet", "ratings=new.csv"],
    ["recommend", "run=run", "user=3", "k=4", "ranking.by=prediction", "items=[1,2,3,4,5,6]"],
    ["recommend", "run=run", "ratings='{3: 5, Item 4: 1}'", "k=3", "genres=[Drama]", "why=true"],
    ["recommend", "run=run", "users=users.csv", "output=out.csv", "k=3", "exclude_seen=false", "unknown=baseline"],
    ["similar", "run=run", "item='Item 3'", "k=3", "genres=[War]", "output=out.csv"],
    ["evaluate", "run=run", "ranking.k=5", "ranking.threshold=4"],
    ["export", "run=run", "format=numpy", "output=out"],
    ["inspect_data", *DATA, "data.min_ratings_per_user=2", "figure=out.png"],
    ["report", "run", "other", "--models"],
    ["reproduce", "run=run", "hydra.run.dir=new"],
]
"""Valid commands, each in a folder that has the files and runs which they name."""
VALUES = [
    *("", "null", "nan", "inf", "-1", "0", "1", "1.5", "1e400", "1e-400", "9" * 30, "true", "[]", "[1,2]", "{}"),
    *("{a:1}", "'", '"', "${seed}", "${oops}", "${oc.env:NOTHING}", "???", "..", ".", "é", "a\nb", "\t", " ", "0x10"),
    *("1_000", "1,2", "range(3)", "choice(1,2)", "run", "ratings.csv", "items.csv", "none", "[[", "@", "\u2028"),
]
CHARACTERS = list("=.,:'\"[]{}()$#+~@!-_ \t\n\\0a9é\u2028")
BYTES = [
    *(b"\n", b"\r", b"\t", b" ", b"  ", b":", b": ", b"- ", b"#", b"'", b'"', b"[", b"]", b"{", b"}", b"&a", b"*a"),
    *(b"|", b">", b"%", b"@", b"`", b",", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xc3\xa9", b"!!python/name:os.system"),
    *(
        b"null",
        b"nan",
        b"1e400",
        b"-1",
        b"9" * 25,
        b"<<: ",
        b"${a}",
        b"???",
        b"---\n",
        b"...\n",
        b"_target_: os.system",
    ),
]
YAML = {
    "experiment/trial.yaml": (
        "# @package _global_\ndefaults:\n  - override /model: biased_mf\n  - override /optimizer: adam\nseed: 4\n"
        "model:\n  embedding_dim: 3\noptimizer:\n  lr: 0.02\ntrainer:\n  max_epochs: 1\n",
        ["train", "--config-dir", "lab", *DATA, *QUICK, "experiment=trial"],
    ),
    "recipe/trial.yaml": (
        "# @package _global_\ndefaults:\n  - override /model: mf\n  - override /optimizer: sgd\n"
        "model:\n  embedding_dim: 2\n",
        ["train", "--config-dir", "lab", *DATA, *QUICK, "recipe=trial"],
    ),
    "model/trial.yaml": (
        "defaults:\n  - biased_mf\n  - _self_\nembedding_dim: 5\n",
        ["train", "--config-dir", "lab", *DATA, *QUICK, "model=trial"],
    ),
    "data/trial.yaml": (
        "defaults:\n  - csv\n  - _self_\npath: ratings.csv\nseparator: comma\ncolumns:\n  user: user_id\n"
        "  item: item_id\n  rating: rating\nitems:\n  path: items.csv\n  item: item_id\n",
        ["train", "--config-dir", "lab", *QUICK, "data=trial"],
    ),
}
"""Valid files of a folder of one's own, each with the command that reads it."""
SECONDS = 60
MEMORY = 12 << 30
"""Bytes of address space of a process."""


class Attempt(NamedTuple):
    """A tried input: its kind, the verdict, and a text with which to repeat it."""

    kind: str
    verdict: str
    text: str


class TooLong(BaseException):
    """An input took longer than its time limit."""


class Workplace:
    """A folder with two runs and the files that commands name, and a server on one of the runs."""

    def __init__(self, originals: Path) -> None:
        from serving.served_run import client_of, write_served_run

        self._originals, self._cache = originals, originals.parent / "cache"
        parent = Path(tempfile.mkdtemp(dir=originals.parent)).resolve()
        self.folder = parent / "a" / "place"  # an input may name the folder above
        self.client = client_of(write_served_run(parent / "served", is_sampled=True), max_k=15, max_pairs=40)

    def renew(self) -> None:
        """Put the files and runs back."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        shutil.copytree(self._originals, self.folder)

    def run(self, arguments: list[str]) -> tuple[str, Outcome | None]:
        """Run a command; return the verdict, and what it printed unless it took too long."""
        before = self._files()
        try:
            with limit(SECONDS):
                outcome = run_here(self._cache, self.folder, *arguments, status=None)
        except TooLong:
            return f"longer than {SECONDS} s", None
        except Exception:
            outcome = Outcome(1, "", traceback.format_exc(), self.folder)
        return verdict_of(outcome, self._files() - before), outcome

    def _files(self) -> set[str]:
        """Return the paths of all files and folders but those of the cache."""
        paths = (path.relative_to(self.folder.parent) for path in self.folder.parent.rglob("*"))
        return {str(path) for path in paths if "cache" not in path.parts}


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise TooLong if the `with` block takes longer than these seconds."""

    def stop(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def verdict_of(outcome: Outcome, left: set[str]) -> str:
    """Name the outcome of a command."""
    if "Traceback" in outcome.stderr or "Traceback" in outcome.stdout:
        return "traceback"
    if outcome.status == 0:
        return "works"
    lines = outcome.stderr.strip("\n").splitlines()
    if outcome.status == 1 and len(lines) == 1:
        return "line"  # a fit that failed keeps its run
    if outcome.status != 2:
        return f"status {outcome.status}"
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return "several lines" if len(lines) > 1 else "no line"
    return "left behind" if left else "line"


def mistyped(name: str, rng: random.Random) -> str:
    """Drop, repeat or swap a letter of a name."""
    at = rng.randrange(len(name) - 1)
    swapped = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    return rng.choice([name[:at] + name[at + 1 :], name[:at] + name[at] + name[at:], swapped])


def try_mistyped_key(place: Workplace, rng: random.Random) -> Attempt:
    """Mistype a key of a command; it must be refused."""
    place.renew()
    arguments = list(rng.choice(COMMANDS))
    places = [n for n, argument in enumerate(arguments) if "=" in argument and len(argument.partition("=")[0]) > 1]
    if not places:
        return try_command(place, rng)
    at = rng.choice(places)
    key, _, value = arguments[at].partition("=")
    changed = mistyped(key, rng)
    if changed == key:
        return try_command(place, rng)
    arguments[at] = f"{changed}={value}"
    verdict, outcome = place.run(arguments)
    return Attempt("mistyped key", "silence" if verdict == "works" else verdict, describe(arguments, outcome))


def try_command(place: Workplace, rng: random.Random) -> Attempt:
    """Change one or two arguments of a command."""
    place.renew()
    arguments = list(rng.choice(COMMANDS))
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(1, len(arguments))
        arguments[at : at + 1] = changed_argument(arguments[at], rng)
    verdict, outcome = place.run(arguments)
    return Attempt("command line", verdict, describe(arguments, outcome))


def changed_argument(argument: str, rng: random.Random) -> list[str]:
    """Return the arguments that take the place of one: another value, none, two, another sign or character."""
    odd = f"{argument.partition('=')[0]}={rng.choice(VALUES)}"
    at = rng.randrange(len(argument) + 1)
    spoiled = argument[:at] + rng.choice(CHARACTERS) + argument[at + rng.choice((0, 1)) :]
    return rng.choice(
        [[odd], [odd], [odd], [], [argument] * 2, [argument, odd], [f"{rng.choice('+~')}{argument}"], [spoiled]]
    )


def try_yaml(place: Workplace, rng: random.Random) -> Attempt:
    """Change bytes of a YAML file in a folder of one's own, or mistype one of its keys, which must be refused."""
    name = rng.choice(list(YAML))
    text, arguments = YAML[name]
    place.renew()
    is_mistyped = rng.random() < 0.3
    if is_mistyped:
        lines = text.splitlines(keepends=True)
        at = rng.choice([n for n, line in enumerate(lines) if ":" in line and "/" not in line])
        key = lines[at].partition(":")[0].strip()
        wrong = mistyped(key, rng)
        lines[at] = lines[at].replace(key, wrong, 1)
        content, is_mistyped = "".join(lines).encode(), wrong != key
    else:
        content = damaged(text.encode(), rng)
    path = place.folder / "lab" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    verdict, outcome = place.run(arguments)
    if is_mistyped and verdict == "works":
        verdict = "silence"
    return Attempt("YAML", verdict, f"{name} {content!r} {describe(arguments, outcome)}")


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Insert, remove, change or repeat a few bytes."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(changed) + 1)
        action = rng.randrange(5)
        if action == 0:
            changed[at:at] = rng.choice(BYTES)
        elif action == 1:
            del changed[at : at + rng.randrange(1, 8)]
        elif action == 2:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif action == 3:
            lines = changed.split(b"\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            changed = bytearray(b"\n".join(lines))
        else:
            del changed[at:]
    return bytes(changed)


def try_pairs(place: Workplace, rng: random.Random) -> Attempt:
    """Change bytes of a table of pairs, of new users' ratings, or of users; each row must have its line of output."""
    name, arguments = rng.choice(
        [
            ("pairs.csv", ["predict", "run=run", "input=pairs.csv", "output=out.csv"]),
            ("pairs.jsonl", ["predict", "run=run", "input=pairs.jsonl", "output=out.csv"]),
            ("new.csv", ["predict", "run=run", "input=pairs.csv", "output=out.csv", "ratings=new.csv"]),
            ("users.csv", ["recommend", "run=run", "users=users.csv", "output=out.csv", "unknown=baseline", "k=2"]),
        ]
    )
    place.renew()
    path = place.folder / name
    path.write_bytes(damaged(path.read_bytes(), rng))
    content = path.read_bytes()
    verdict, outcome = place.run(arguments)
    if verdict == "works":
        verdict = verdict_of_output(place.folder / "out.csv", place.folder / arguments[2].partition("=")[2])
    return Attempt("table", verdict, f"{name} {content!r} {describe(arguments, outcome)}")


def verdict_of_output(output: Path, table: Path) -> str:
    """Check that a table of predictions or lists has all pairs or users, and finite numbers."""
    verdicts = []
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):  # irregular marks are read as text, and written as they were
        try:
            verdicts.append(_verdict_of_rows(output, table, quoting))
        except (OSError, LookupError, TypeError, ValueError, csv.Error) as error:
            verdicts.append(f"output: {error}")
    return "works" if "works" in verdicts else verdicts[0]


def _verdict_of_rows(output: Path, table: Path, quoting: int) -> str:
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, quoting=quoting))
    if not all(math.isfinite(float(row["prediction"])) for row in rows):
        return "silence"
    text = table.read_bytes().decode("utf-8", "replace")
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    cells = [row for row in csv.reader(lines, quoting=quoting) if row][1:]
    # an object of JSON may span lines
    num_rows, expected = len(rows), text.count("}") if table.suffix == ".jsonl" else len(cells)
    if table.stem == "users":
        num_rows, expected = len({row["user_id"] for row in rows}), len({row[0].strip() for row in cells})
    return "works" if num_rows == expected else "silence"


def try_request(place: Workplace, rng: random.Random) -> Attempt:
    """Send an odd request to the server."""
    path, content = odd_request(np.random.default_rng(rng.randrange(2**32)))
    verdict, printed = "works", ""
    try:
        with limit(SECONDS):
            response = place.client.post(f"/{path}", content=content, headers={"content-type": "application/json"})
        printed = f"{response.status_code} {response.text[:300]}"
        answer = json.loads(response.text, parse_constant=lambda text: 1 / 0)
        if response.status_code in (413, 422):
            verdict = "line" if "\n" not in answer["detail"] and list(answer) == ["detail"] else "several lines"
        elif response.status_code != 200:
            verdict = f"status {response.status_code}"
        elif path == "predict" and len(answer["predictions"]) != len(json.loads(content)["pairs"]):
            verdict = "silence"
    except TooLong:
        verdict = f"longer than {SECONDS} s"
    except Exception:
        verdict, printed = "traceback", traceback.format_exc()
    return Attempt("request", verdict, f"/{path} {content!r} {printed}")


def describe(arguments: list[str], outcome: Outcome | None) -> str:
    """Format a command and the end of its output."""
    printed = "" if outcome is None else " | ".join((outcome.stderr or outcome.stdout).strip().splitlines())[-400:]
    return f"{shlex.join(arguments)} -> {printed}"


TRIALS = {try_mistyped_key: 3, try_command: 8, try_yaml: 5, try_pairs: 5, try_request: 4}
"""Trials, with how often each is chosen."""


def make(folder: Path) -> None:
    """Write the files that commands name, and train two runs."""
    write_data(folder)
    pairs = ({"user_id": n, "item_id": n % 30} for n in range(12))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (folder / "new.csv").write_text(
        "user_id,item_id,rating\n" + "".join(f"n{n % 3},{n},{n % 5 + 1}\n" for n in range(9))
    )
    (folder / "users.csv").write_text("user_id\n" + "".join(f"{n}\n" for n in range(0, 40, 4)))
    for name, seed in (("run", 0), ("other", 1)):
        options = ["model=biased_mf", "optimizer=gibbs", "optimizer.burn_in=1", f"seed={seed}", f"hydra.run.dir={name}"]
        run_here(folder.parent / "cache", folder, "train", *TITLED, *COMMON, *options)


def fuzz(originals: Path, seconds: float, seed: str) -> dict[str, Counter[str]]:
    """Try inputs for some seconds; print findings, and count verdicts by kind."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    place, counts, end = Workplace(originals), defaultdict(Counter), time.monotonic() + seconds
    for number in itertools.takewhile(lambda _: time.monotonic() < end, itertools.count()):
        rng = random.Random(f"{seed} {number}")
        (trial,) = rng.choices(list(TRIALS), list(TRIALS.values()))
        attempt = trial(place, rng)
        counts[attempt.kind][attempt.verdict] += 1
        if attempt.verdict not in ("works", "line"):
            print(f"{attempt.verdict}: {attempt.kind} {attempt.text}", flush=True)
    return dict(counts)


def main() -> int:
    """Fuzz for the given minutes; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    total: dict[str, Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory() as folder:
        originals = Path(folder).resolve() / "originals"
        originals.mkdir()
        make(originals)
        seeds = [f"{arguments.seed} {process}" for process in range(arguments.processes)]
        with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
            for counts in pool.map(partial(fuzz, originals, 60 * arguments.minutes), seeds):
                for kind, verdicts in counts.items():
                    total[kind] += verdicts
    for kind, verdicts in total.items():
        print(f"{kind}: " + ", ".join(f"{name} {number:,}" for name, number in verdicts.most_common()))
    return int(any(name not in ("works", "line") for verdicts in total.values() for name in verdicts))


if __name__ == "__main__":
    sys.exit(main())
