"""Fuzzer of run folders: damages files of trained runs, and runs every command that reads a run on each.

    python tests/fuzz_runs.py --runs 300 --seed 0

Counts, by command: lines (a one-line refusal or note that names the damaged file), harmless (the same result as that
of the undamaged run), unnamed (a one-line refusal that does not name the file), tracebacks, and silence (another result
without a word). The last two are findings, which are printed; the exit status is then 1.
"""

import argparse
import hashlib
import json
import math
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache, partial
from io import BytesIO, StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from conftest import run_here

KINDS = {
    "adam": ["model=biased_mf", "optimizer=adam"],
    "gibbs": ["model=svdpp", "optimizer=gibbs", "optimizer.burn_in=1"],
    "als": ["model=biased_mf", "optimizer=als", "model.item_features=[genres]"],
    "implicit_als": ["recipe=ials", "model.embedding_dim=4"],
    "ease": ["recipe=ease"],
    "block_sgd": ["model=biased_mf", "optimizer=block_sgd"],
    "extended": ["model=biased_mf", "optimizer=adam", "seed=3"],
    "sweep": ["model=mf", "optimizer=adam"],
}
COMMON = ["trainer.max_epochs=2", "callbacks.checkpoint.last_every_seconds=0", "logger=none"]
DATA = [
    *("data=csv", "data.path=ratings.csv", "data.items.path=items.csv", "data.items.item=item_id"),
    *("data.columns.user=user_id", "data.columns.item=item_id", "data.columns.rating=rating"),
]
MEMORY = 12 << 30
"""Bytes of address space of a process."""
SCORES = ("implicit_als", "ease")
"""Kinds whose models predict scores."""
LAST_JOB = "1-seed-1"
"""Folder of the sweep's job that is damaged."""


class Case(NamedTuple):
    """One damaged run: its kind, the damaged file, what was done to it, and a seed for where."""

    kind: str
    file: str
    damage: str
    seed: int


class Result(NamedTuple):
    """Outcome of a command: its exit status, what it printed on both streams, and digests of what it wrote."""

    status: int
    stdout: str
    stderr: str
    written: dict[str, str]


def write_data(folder: Path) -> None:
    """Write a small table of ratings, one of items, and pairs to predict."""
    rng = np.random.default_rng(0)
    rows = {(int(rng.integers(40)), int(rng.integers(30))): int(rng.integers(1, 6)) for _ in range(900)}
    lines = [f"{user},{item},{rating}\n" for (user, item), rating in rows.items()]
    (folder / "ratings.csv").write_text("user_id,item_id,rating\n" + "".join(lines))
    items = "".join(f"{item},Item {item},{['Drama', 'Comedy', 'War|Drama'][item % 3]}\n" for item in range(30))
    (folder / "items.csv").write_text("item_id,title,genres\n" + items)
    (folder / "pairs.csv").write_text("user_id,item_id\n" + "".join(f"{n},{n % 30}\n" for n in range(40)))


def train_all(data: Path, folder: Path) -> None:
    """Train a run of each kind, and a second one of the same shapes, from which files are taken."""
    for kind, options in KINDS.items():
        for name, more in ((kind, []), (f"{kind}-other", ["seed=7", "split.seed=5"])):
            arguments = [*DATA, *COMMON, *options, *more]
            if kind == "sweep":
                arguments = ["-m", *arguments, "seed=0,1", f"hydra.sweep.dir={name}"]
                arguments.remove("seed=7") if more else None
            else:
                arguments = [*arguments, f"hydra.run.dir={name}"]
            run_here(data, folder, "train", *arguments)
        if kind == "extended":
            run_here(data, folder, "train", "resume=extended", "trainer.max_epochs=4")


def files_of(run: Path) -> list[str]:
    """List the files of a run that commands may read."""
    names = (str(path.relative_to(run)) for path in sorted(run.rglob("*")) if path.is_file())
    return [name for name in names if not name.endswith((".log", ".png", ".csv")) or name.endswith("epochs.csv")]


def cases_of(kind: str, run: Path) -> Iterator[Case]:
    """List the ways in which a run is damaged."""
    for name in files_of(run):
        if Path(name).name == ".lock":
            continue
        for damage in ("absent", "empty", "truncated", "flipped", "flipped", "folder", "list", "text", "other run"):
            yield Case(kind, name, damage, 0)
        if name.endswith((".json", ".yaml")):
            for damage in ("number", "shifted", "wrong type", "not a number", "huge", "negative", "null", "less"):
                yield from [Case(kind, name, damage, 0)] * (4 if name == "run.json" else 1)
        if name.endswith(".ckpt"):
            for damage in ("part", "weight", "nan", "samples", "scaled", "epochs"):
                yield Case(kind, name, damage, 0)


def damage(case: Case, run: Path, other: Path) -> bool:
    """Damage a file; return whether it could be damaged in this way."""
    path, rng = run / case.file, random.Random(case.seed)
    content = path.read_bytes()
    simple: dict[str, Callable[[], object]] = {
        "absent": path.unlink,
        "empty": lambda: path.write_bytes(b""),
        "truncated": lambda: path.write_bytes(content[: rng.randrange(len(content))]),
        "flipped": lambda: path.write_bytes(_flipped(content, rng)),
        "folder": lambda: (path.unlink(), path.mkdir()),
        "list": lambda: path.write_text("[1, 2]"),
        "text": lambda: path.write_text("no run\n"),
    }
    if case.damage in simple:
        simple[case.damage]()
    elif case.damage == "other run":
        if not (other / case.file).is_file():
            return False
        shutil.copy(other / case.file, path)
    elif case.file.endswith(".json"):
        path.write_text(json.dumps(_edited(json.loads(content), case.damage, rng), indent=2))
    elif case.file.endswith(".yaml"):
        import yaml

        path.write_text(yaml.safe_dump(_edited(yaml.safe_load(content), case.damage, rng)))
    else:
        _edit_checkpoint(path, case.damage, rng)
    return not path.is_file() or path.read_bytes() != content


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _edited(content: Any, damage: str, rng: random.Random) -> Any:
    """Change one value of nested JSON: one of another type, out of range, or gone."""
    places: list[tuple[Any, Any]] = []

    def collect(part: Any) -> None:
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            places.append((part, key))
            if isinstance(value, dict | list):
                collect(value)

    if isinstance(content, dict | list):
        collect(content)
    is_number = lambda place: isinstance(place[0][place[1]], int | float) and not isinstance(place[0][place[1]], bool)  # noqa: E731
    numbers = list(filter(is_number, places))
    chosen = rng.choice(numbers if damage in ("shifted", "not a number", "huge", "negative") and numbers else places)
    part, key = chosen
    new = {"number": 17, "wrong type": rng.choice(({}, [], "text", True)), "not a number": math.nan, "huge": 10**9}
    if damage == "less":
        part.pop(key)
    elif damage in ("shifted", "negative"):
        part[key] = (part[key] + 1 if damage == "shifted" else -1) if is_number((part, key)) else "x"
    else:
        part[key] = new.get(damage)
    return content


def _edit_checkpoint(path: Path, damage: str, rng: random.Random) -> None:
    """Write a checkpoint without one of its parts, with other weights, or with samples of unequal number."""
    content = torch.load(path, weights_only=True)
    weights = content["state_dict"]
    name = rng.choice([name for name, value in weights.items() if torch.is_tensor(value)] or list(weights))
    if damage == "part":
        content.pop(rng.choice(list(content)))
    elif damage == "weight":
        weights.pop(rng.choice(list(weights)))
    elif damage == "samples" and (samples := [value for value in weights.values() if isinstance(value, dict)]):
        key = rng.choice(list(samples[0]))
        samples[0][key] = samples[0][key][:1]
    elif damage == "epochs":
        content["epochs"] = rng.choice((-1, 10**6, "three", None))
    else:
        value = weights[name]
        if torch.is_tensor(value) and value.is_floating_point():
            weights[name] = value * 1.5 + 0.1 if damage == "scaled" else torch.full_like(value, math.nan)
    packed = BytesIO()
    torch.save(content, packed)
    path.write_bytes(packed.getvalue())


class Workplace:
    """A folder with the trained runs and the commands on them, in this process."""

    def __init__(self, trained: Path, data: Path, place: Path) -> None:
        self.trained, self.data, self.place = trained, data, place
        self._references: dict[tuple[str, str], Result] = {}
        for name in ("ratings.csv", "items.csv", "pairs.csv"):
            shutil.copy(trained / name, place / name)

    def fresh(self, kind: str) -> Path:
        """Copy the undamaged run anew."""
        for name in (path for path in self.place.iterdir() if path.is_dir() or path.name == "out.csv"):
            shutil.rmtree(name) if name.is_dir() else name.unlink()
        shutil.copytree(self.trained / kind, self.place / "run")
        return self.place / "run" / (LAST_JOB if kind == "sweep" else "")

    def commands(self, kind: str) -> dict[str, Callable[[str], Result]]:
        """Return the commands on a run, by name; each takes the run's folder."""
        options = [*DATA, *COMMON, *KINDS[kind], "hydra.run.dir=new"]
        if kind == "sweep":
            options.append("seed=1")
        taste = '{"Item 3": 5, "Item 4": 1}'
        why = [] if kind in SCORES else ["why=true"]
        more = 5 if kind == "extended" else 3
        commands = {
            "predict": lambda run: self._command("predict", f"run={run}", "input=pairs.csv", "output=out.csv"),
            "recommend": lambda run: self._command("recommend", f"run={run}", "user=1", "k=3"),
            "recommend all": lambda run: self._command("recommend", f"run={run}", "output=out.csv", "k=3", *why),
            "fold in": lambda run: self._command("recommend", f"run={run}", f"ratings='{taste}'", "k=3"),
            "similar": lambda run: self._command("similar", f"run={run}", "item=3", "k=3"),
            "evaluate": lambda run: self._command("evaluate", f"run={run}", "ranking.k=5"),
            "export": lambda run: self._command("export", f"run={run}", "format=numpy", "output=exported"),
            "report": lambda run: self._command("report", run),
            "resume": lambda run: self._command("train", f"resume={run}", trains=run),
            "extend": lambda run: self._command("train", f"resume={run}", f"trainer.max_epochs={more}", trains=run),
            "reproduce": lambda run: self._command("reproduce", f"run={run}"),
            "from": lambda run: self._command("train", *options, f"from={run}", trains="new"),
            "serve": lambda run: self._call(partial(_serve, str(self.place / run))),
            "load": lambda run: self._call(partial(_load, str(self.place / run))),
        }
        if kind == "sweep":
            arguments = [*DATA, *COMMON, *KINDS[kind], "seed=0,1", "hydra.sweep.dir=run"]
            commands["report of sweep"] = lambda run: self._command("report", "run")
            commands["continue sweep"] = lambda run: self._command("train", "-m", *arguments)
        return commands

    def _command(self, script: str, *arguments: str, trains: str | None = None) -> Result:
        status, stdout, stderr = 0, "", ""
        try:
            outcome = run_here(self.data, self.place, script, *arguments, status=None)
            status, stdout, stderr = outcome.status, outcome.stdout, outcome.stderr
        except Exception:
            status, stderr = 1, traceback.format_exc()
        written = self._written(trains) if status == 0 else {}
        return Result(status, self._plain(stdout), self._plain(stderr), written)

    def _call(self, answer: Callable[[], str]) -> Result:
        from ratinglab.errors import UserError

        with redirect_stdout(StringIO()) as stdout, redirect_stderr(StringIO()) as stderr:
            try:
                status, text = 0, answer()
            except UserError as error:
                status, text = 2, ""
                print(f"error: {error}", file=sys.stderr)
            except Exception:
                status, text = 1, ""
                traceback.print_exc()
        return Result(status, self._plain(stdout.getvalue() + text), self._plain(stderr.getvalue()), {})

    def _written(self, trains: str | None) -> dict[str, str]:
        """Digest what a command has written: its output, and the weights and metrics of what it has trained."""
        digests = {}
        for path in (self.place / "out.csv", *(self.place / "exported").glob("*")):
            if path.is_file():
                digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        run = None if trains is None else self.place / trains
        with suppress(Exception):  # a damaged file differs from that of the undamaged run by not being there
            assert run is not None
            metrics = json.loads((run / "metrics.json").read_text())
            digests["metrics"] = str({tag: value for tag, value in metrics.items() if "seconds" not in tag})
            digests["metrics"] = re.sub(r"'fit/ratings_per_second': [^,}]*", "", digests["metrics"])
            weights = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
            digests["weights"] = hashlib.sha256(str(weights).encode()).hexdigest()
        return digests

    def _plain(self, text: str) -> str:
        """Remove from a text what differs between two calls: folders, times and speeds."""
        text = text.replace(str(self.place), "PLACE")
        text = re.sub(r"outputs/[\d-]+/[\d-]+-\w+", "OUTPUT", text)
        text = re.sub(r"[\d.,]+ (s|ms|min|ratings/s|MB)\b", "TIME", text)
        return re.sub(r"[ \t]+", " ", re.sub(r"(?m)^(\[|fit |epoch |data |versions).*$", "", text))

    def reference(self, kind: str, name: str) -> Result:
        """Return what a command does on the undamaged run."""
        if (kind, name) not in self._references:
            run = self.fresh(kind)
            result = self.commands(kind)[name](str(run.relative_to(self.place)))
            refuses = result.status == 2 and kind in SCORES  # it predicts no ratings
            assert result.status == 0 or refuses, (kind, name, result.stderr)
            self._references[kind, name] = result
        return self._references[kind, name]

    def attempt(self, case: Case, name: str) -> tuple[str, str] | None:
        """Damage a copy of a run and run a command on it; return the verdict and what was printed."""
        expected = self.reference(case.kind, name)
        run = self.fresh(case.kind)
        other = self.trained / f"{case.kind}-other" / (LAST_JOB if case.kind == "sweep" else "")
        if not damage(case, run, other):
            return None
        before = {path.name for path in self.place.iterdir()}
        result = self.commands(case.kind)[name](str(run.relative_to(self.place)))
        left = {path.name for path in self.place.iterdir()} - before
        return judge(result, expected, file=case.file, left=left), f"{result.status} {result.stderr or result.stdout}"


def judge(result: Result, expected: Result, *, file: str, left: set[str]) -> str:
    """Name the outcome of a command on a damaged run."""
    if "Traceback" in result.stderr or "Traceback" in result.stdout:
        return "traceback"
    if result == expected:
        return "harmless"
    # beside the digests of another run, it is the other files that differ
    names = ["digests.json", "run.json"] if Path(file).name == "digests.json" else [Path(file).name]
    printed = (result.stderr + "\n" + result.stdout).splitlines()
    lines = [line for line in printed if any(name in line for name in names)]
    words = [line for line in lines if re.search(r"error|damaged|missing|has no|note|warning|lacks|not a run", line)]
    if result.status != 0:
        if len(result.stderr.strip().splitlines()) > 1 or not (result.stderr.strip() or words):
            return "several lines"
        if left - {"outputs"}:
            return "left behind"
        return "line" if words else "unnamed"
    return "line" if words else "silence"


def _load(folder: str) -> str:
    import ratinglab

    run = ratinglab.load(folder)
    answers = [str(run.metrics), str(run.recommend(1, k=3))]
    if not run.record.predicts_scores:
        answers += [str(run.predict([1, 2], [3, 4])), str(run.evaluate())]
    return re.sub(r"'fit/(seconds|ratings_per_second)': [^,}]*", "", "\n".join(answers))


def _serve(folder: str) -> str:
    from documented import options_of

    from ratinglab.serving.reloading import CurrentRun
    from ratinglab.serving.schemas import Pair, PredictRequest, RecommendRequest

    service = CurrentRun(options_of("serve", f"run={folder}")).service
    answers = [
        service.health().model_copy(update={"loaded_at": None}),
        service.predict(PredictRequest(pairs=[Pair(user_id="1", item_id="3")])),
        service.recommend(RecommendRequest(user_id="1", k=3)),
    ]
    return "\n".join(map(str, answers))


Counts = dict[str, Counter[str]]


@cache
def workplace_in(trained: Path, data: Path) -> Workplace:
    """Make the workplace of this process, which ends with the temporary folder of the trained runs."""
    # a record with a billion users must not take the machine's memory
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    return Workplace(trained, data, Path(tempfile.mkdtemp(dir=trained.parent)).resolve())


def try_case(trained: Path, data: Path, case: Case) -> tuple[dict[str, str], list[str]]:
    """Try every command on a case; return the verdict by command, and the findings."""
    verdicts, findings, workplace = {}, [], workplace_in(trained, data)
    for name in workplace.commands(case.kind):
        outcome = workplace.attempt(case, name)
        if outcome is None:
            break
        verdicts[name], text = outcome
        if verdicts[name] not in ("line", "harmless"):
            findings.append(f"{verdicts[name]}: {name} of {case.kind}, {case.file} {case.damage}: {_end(text)}")
    return verdicts, findings


def _end(text: str) -> str:
    return " | ".join(line for line in text.strip().splitlines() if line.strip())[-300:]


def choose(trained: Path, *, number: int, seed: int) -> list[Case]:
    """Choose cases at random. A case keeps its place and its seed when runs get further files."""
    drawn: list[tuple[float, Case]] = []
    repeated: Counter[Case] = Counter()
    for kind in KINDS:
        for case in cases_of(kind, trained / kind / (LAST_JOB if kind == "sweep" else "")):
            rng = random.Random(f"{seed} {case} {repeated[case]}")
            repeated[case] += 1
            drawn.append((rng.random(), case._replace(seed=rng.randrange(2**32))))
    return [case for _, case in sorted(drawn)[:number]]


def print_table(counts: Counts) -> None:
    """Print a line per command, and their sum."""
    verdicts = ["line", "harmless", "unnamed", "several lines", "left behind", "traceback", "silence"]
    print(f"{'':<16}" + "".join(f"{verdict:>15}" for verdict in verdicts))
    total: Counter[str] = Counter()
    for name, counts_of_command in counts.items():
        total += counts_of_command
        print(f"{name:<16}" + "".join(f"{counts_of_command[verdict]:>15}" for verdict in verdicts))
    print(f"{'all':<16}" + "".join(f"{total[verdict]:>15}" for verdict in verdicts))


def main() -> int:
    """Train the runs, damage copies of them, and count; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300, help="number of damaged runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trained, data = Path(folder).resolve() / "trained", Path(folder).resolve() / "cache"
        trained.mkdir()
        write_data(trained)
        train_all(data, trained)
        cases = choose(trained, number=arguments.runs, seed=arguments.seed)
        counts: Counts = defaultdict(Counter)
        with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
            for number, (verdicts, findings) in enumerate(pool.map(partial(try_case, trained, data), cases), 1):
                for name, verdict in verdicts.items():
                    counts[name][verdict] += 1
                print(*findings, sep="\n", end="\n" if findings else "", flush=True)
                if number % 20 == 0 or number == len(cases):
                    print_table(counts)
                    print(
                        f"{number} damaged runs, seed {arguments.seed}, {time.monotonic() - started:.0f} s", flush=True
                    )
    return int(any(verdicts["traceback"] or verdicts["silence"] for verdicts in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
