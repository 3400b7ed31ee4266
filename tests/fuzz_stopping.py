"""Fuzzer of stopping: sends Ctrl-C, SIGTERM or SIGHUP, once or twice, at random moments of runs, and resumes them.

    python tests/fuzz_stopping.py --trials 10 --seed 0
    python tests/fuzz_stopping.py --trials 20 --signals SIGKILL --kinds single --in-fit

Every resumed run must equal a run that was never stopped, bit for bit; a finding is printed, and the exit status is
then 1. Each fit is tried as a single run, as a run with split.refit, and in a sweep.
"""

import argparse
import json
import math
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from conftest import Server
from equal_runs import assert_equal_runs

FITS = {
    "adam": ["optimizer=adam"],
    "adamw": ["optimizer=adamw"],
    "sgd": ["optimizer=sgd"],
    "sparse_adam": ["optimizer=sparse_adam"],
    "block_sgd": ["optimizer=block_sgd", "trainer.max_epochs=600"],
    "als": ["optimizer=als", "trainer.max_epochs=100"],
    "implicit_als": ["model=implicit_mf", "optimizer=implicit_als", "trainer.max_epochs=30", "monitor=val/ndcg@10"],
    "gibbs": ["optimizer=gibbs", "optimizer.burn_in=4", "trainer.max_epochs=60"],
}
COMMON = ["model=biased_mf", "trainer.max_epochs=12", "logger=none"]
KINDS = {
    "single": ["hydra.run.dir=run"],
    "refit": ["split.refit=true", "hydra.run.dir=run"],
    "sweep": ["-m", "seed=0,1", "hydra.sweep.dir=run"],
}
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def stop_and_resume(
    server: Server, folder: Path, options: list[str], *, wait: float, number: int, twice: bool, in_fit: bool
) -> str:
    """Stop a run some seconds after its start, or after its record is written, and resume it; return what happened."""
    process = server.start(folder, "train", *options, stderr=folder / "stderr", pause=0.0)
    if in_fit:
        process.wait_until(lambda: list(folder.rglob("run.json")))
    time.sleep(wait)
    os.kill(process.pid, number)
    if twice:
        time.sleep(random.uniform(0, 2))
        with suppress(ProcessLookupError):  # it has stopped since
            os.kill(process.pid, number)
    status, _, stderr = process.end()
    if status == 0:
        return "finished before the signal"
    assert status in (128 + number, -number), f"status {status}: {stderr}"
    assert "Traceback" not in stderr, stderr
    message = re.search(r"stopped by \w+( .*)?; to resume: python \S+ resume=(\S+)", stderr)
    started = [path.parent for path in folder.rglob(".hydra") if list(path.parent.rglob("run.json"))]
    if not message and not started:
        if status > 0:  # a killed process cannot tidy up
            remaining = [path.name for path in folder.glob("run*")]
            assert remaining == [], f"left behind: {remaining}; {stderr}"
        return "stopped before the run began"
    server.run(folder, "train", f"resume={message[2] if message else started[-1]}")
    return f"resumed{re.sub('[0-9]+', 'n', message[1] or '') if message else ' without a message'}"


def try_options(
    server: Server, place: Path, options: list[str], *, trials: int, signals: Sequence[signal.Signals], in_fit: bool
) -> int:
    """Train once without a signal, then stop and resume in every trial; return the number of findings."""
    name = f"{place.parent.name}, {place.name}"
    seconds = math.inf
    for which in ("first", "whole"):  # the first run of a process is slower
        (place / which).mkdir(parents=True)
        started = time.monotonic()
        server.run(place / which, "train", *options)
        seconds = min(seconds, time.monotonic() - started)
    if in_fit:  # with the evaluation that follows
        times = [json.loads(path.read_text())["fit/seconds"] for path in (place / "whole").rglob("metrics.json")]
        seconds = max(times) + 0.3
    whole = sorted(path.parent for path in (place / "whole").rglob("run.json"))
    happened: Counter[str] = Counter()
    findings = 0
    for trial in range(trials):
        folder = place / str(trial)
        folder.mkdir()
        wait, number, twice = random.uniform(0, seconds), random.choice(signals), random.random() < 0.3
        try:
            happened[
                stop_and_resume(server, folder, options, wait=wait, number=number, twice=twice, in_fit=in_fit)
            ] += 1
            for run in whole:
                same = folder / run.relative_to(place / "whole")
                if (same / "metrics.json").exists():  # a stopped sweep lacks its later runs
                    assert_equal_runs(same, run)
        except AssertionError as error:
            findings += 1
            print(f"{name}, trial {trial}: {error}")
    print(f"{name}:", ", ".join(f"{count} {what}" for what, count in happened.most_common()), flush=True)
    return findings


def main() -> None:
    """Try all fits and kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10, help="per fit and kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", nargs="+", default=SIGNALS)
    parser.add_argument("--in-fit", action="store_true", help="stop at random moments of the fit only")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--fits", nargs="+", default=list(FITS), choices=FITS)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    findings = 0
    with tempfile.TemporaryDirectory() as temporary:
        streams = Path(temporary) / "streams"
        streams.mkdir()
        server = Server(Path(temporary) / "cache", streams)
        signals = [signal.Signals[name] for name in arguments.signals]
        for fit in arguments.fits:
            for kind in arguments.kinds:
                place, options = Path(temporary) / fit / kind, [*COMMON, *FITS[fit], *KINDS[kind]]
                findings += try_options(
                    server, place, options, trials=arguments.trials, signals=signals, in_fit=arguments.in_fit
                )
        server.close()
    sys.exit(findings > 0)


if __name__ == "__main__":
    main()
