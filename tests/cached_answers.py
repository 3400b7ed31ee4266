"""Caches of what stays the same while the tests run: the git commit, versions and plugins of packages.

Looking them up took a fifth of a short command.
"""

import functools
import sys

CACHED = [
    ("ratinglab.training.new_record", "_git"),
    ("ratinglab.training.new_record", "version"),
    ("lightning_fabric.utilities.registry", "entry_points"),
]
"""Functions whose results are cached: module, name."""


def cache_answers() -> None:
    """Cache the results of the functions in CACHED, in the modules that have been imported."""
    for module, name in CACHED:
        if module in sys.modules:
            setattr(sys.modules[module], name, functools.cache(getattr(sys.modules[module], name)))
