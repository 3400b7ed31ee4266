"""Answers that stay the same while the tests run, asked once per process: they took a fifth of a short command.

They are the git commit, versions of packages, and packages with callbacks for Lightning.
"""

import functools
import sys

REPLACED = [
    ("ratinglab.training.new_record", "_git"),
    ("ratinglab.training.new_record", "version"),
    ("lightning_fabric.utilities.registry", "entry_points"),
]
"""Functions: their module, and their name in it."""


def ask_once() -> None:
    """Let these functions keep their answers, in modules that are imported by now."""
    for module, name in REPLACED:
        if module in sys.modules:
            setattr(sys.modules[module], name, functools.cache(getattr(sys.modules[module], name)))
