"""Fuzzer of stopping: sends Ctrl-C, SIGTERM or SIGHUP, once or twice, at random moments of runs, and resumes them.

    python tests/fuzz_stopping.py --trials 10 --seed 0

Every resumed run must equal a run that was never stopped, bit for bit; a finding is printed, and the exit status is
then 1. Each fit is tried as a single run, as a run with split.refit, and in a sweep.
"""

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
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
    "gibbs": ["optimizer=gibbs", "optimizer.burn_in=4", "trainer.max_epochs=60"],
}
COMMON = ["model=biased_mf", "trainer.max_epochs=12", "logger=none"]
KINDS = {"single": [], "refit": ["split.refit=true"], "sweep": ["-m", "seed=0,1"]}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_and_resume(server: Server, folder: Path, options: list[str], *, wait: float, number: int, twice: bool) -> str:
    """Stop a run after some seconds and resume it; return what happened."""
    process = server.start(folder, "train", *options, stderr=folder / "stderr")
    time.sleep(wait)
    os.kill(process.pid, number)
    if twice:
        time.sleep(random.uniform(0, 0.1))
        os.kill(process.pid, number)
    status, _, stderr = process.end()
    if status == 0:
        return "finished before the signal"
    assert status in (128 + number, -number), f"status {status}: {stderr}"
    assert "Traceback" not in stderr, stderr
    found = re.search(r"stopped by \w+( .*)?; to resume: python \S+ resume=(\S+)", stderr)
    begun = [path.parent for path in folder.rglob(".hydra") if list(path.parent.rglob("run.json"))]
    if not found and not begun:
        left = [path.name for path in folder.glob("run*") if status > 0]
        assert left == [], f"left behind: {left}; {stderr}"
        return "stopped before the run began"
    server.run(folder, "train", f"resume={found[2] if found else begun[-1]}")
    return f"resumed{re.sub('[0-9]+', 'n', found[1] or '') if found else ' without a message'}"


def main() -> None:
    """Try all fits and kinds, and print the number of trials by what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10, help="per fit and kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    findings = 0
    with tempfile.TemporaryDirectory() as temporary:
        cache, streams = Path(temporary) / "cache", Path(temporary) / "streams"
        streams.mkdir()
        server = Server(cache, streams)
        for fit, options in FITS.items():
            for kind, more in KINDS.items():
                place = Path(temporary) / fit / kind
                (place / "whole").mkdir(parents=True)
                plain = [*COMMON, *options, *more[more[:1] == ["-m"] :]]
                flags, to = (["-m"], "hydra.sweep.dir=run") if kind == "sweep" else ([], "hydra.run.dir=run")
                started = time.monotonic()
                server.run(place / "whole", "train", *flags, *plain, to)
                seconds, happened = time.monotonic() - started, Counter()
                whole = sorted(path.parent for path in (place / "whole").rglob("run.json"))
                for trial in range(arguments.trials):
                    folder = place / str(trial)
                    folder.mkdir()
                    try:
                        happened[
                            stop_and_resume(
                                server,
                                folder,
                                [*flags, *plain, to],
                                wait=random.uniform(0, seconds),
                                number=random.choice(SIGNALS),
                                twice=random.random() < 0.3,
                            )
                        ] += 1
                        for run in whole:
                            same = folder / run.relative_to(place / "whole")
                            if (same / "metrics.json").exists():
                                assert_equal_runs(same, run)
                    except AssertionError as error:
                        findings += 1
                        print(f"{fit}, {kind}, trial {trial}: {error}")
                print(
                    f"{fit:<12}{kind:<8}", ", ".join(f"{count} {what}" for what, count in happened.items()), flush=True
                )
        server.close()
    sys.exit(findings > 0)


if __name__ == "__main__":
    main()
