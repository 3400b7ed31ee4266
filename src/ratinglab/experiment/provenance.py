"""Provenance of a run: versions, commit, data, split, seed, threads."""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ratinglab.ratings.holdout import Holdout

PACKAGES = ("ratinglab", "torch", "pytorch-lightning", "numpy", "pandas", "pyarrow", "hydra-core")


def provenance(holdout: Holdout, *, seed: int) -> dict[str, Any]:
    """Versions, git commit (None outside a checkout), data, side information, split, seed, threads, command line."""
    checkout = Path(__file__).parents[3]
    # ignore any other repository around the environment where ratinglab is installed
    is_checkout = _git(checkout, "rev-parse", "--show-toplevel") == str(checkout)
    status = _git(checkout, "status", "--porcelain") if is_checkout else None
    return {
        "command": sys.argv,
        "seed": seed,
        "data": holdout.table.name,
        "data_digest": holdout.table.digest,
        "side_digest": holdout.side.digest(),
        "split": holdout.split.identity,
        "threads": torch.get_num_threads(),
        "git_commit": _git(checkout, "rev-parse", "HEAD") if is_checkout else None,
        "git_dirty": None if status is None else status != "",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
