"""ratinglab: fit and compare rating-prediction models.

import ratinglab

run = ratinglab.train(ratings=frame, recipe="biased_mf_gibbs")
run.predict([42], [7])
run.recommend(42, k=10)
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ratinglab.process.startup import sleeping_threads

if TYPE_CHECKING:
    from ratinglab.api import cross_validate, lightning, load, train
    from ratinglab.errors import RunFailedError, UserError
    from ratinglab.inference.run import Run

__all__ = ["Run", "RunFailedError", "UserError", "cross_validate", "lightning", "load", "train"]
__version__ = "0.1.0"

_MODULES = {"Run": "ratinglab.inference.run", "RunFailedError": "ratinglab.errors", "UserError": "ratinglab.errors"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so the commands start without torch."""
    if name not in __all__:
        raise AttributeError(f"module 'ratinglab' has no attribute {name!r}")
    # the import may load OpenMP, and Lightning adds warning filters
    with sleeping_threads(), warnings.catch_warnings():
        return getattr(import_module(_MODULES.get(name, "ratinglab.api")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
