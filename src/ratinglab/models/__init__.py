"""The equations, and what they are built from. The package itself exports what an equation of your own needs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ratinglab.models.equation_options import EquationForm, EquationOptions, FactorOptions, FeatureOptions, ScoreOptions
from ratinglab.options import above, at_least, within
from ratinglab.ratings.side_information import Needs

if TYPE_CHECKING:
    from ratinglab.batches import Batch
    from ratinglab.models.day_rows import DayRows
    from ratinglab.models.design import Design
    from ratinglab.models.equation import Equation, ScoreEquation, TrainingData, normal_embedding, zero_embedding
    from ratinglab.models.factor_equation import BiasedFactorEquation, FactorEquation, Side, Term
    from ratinglab.models.factors import ColumnSource
    from ratinglab.models.item_weights import ItemWeights, ItemWeightsOptions

__all__ = [
    "Batch",
    "BiasedFactorEquation",
    "ColumnSource",
    "DayRows",
    "Design",
    "Equation",
    "EquationForm",
    "EquationOptions",
    "FactorEquation",
    "FactorOptions",
    "FeatureOptions",
    "ItemWeights",
    "ItemWeightsOptions",
    "Needs",
    "ScoreEquation",
    "ScoreOptions",
    "Side",
    "Term",
    "TrainingData",
    "above",
    "at_least",
    "normal_embedding",
    "within",
    "zero_embedding",
]

_MODULES = {
    "Batch": "ratinglab.batches",
    "BiasedFactorEquation": "ratinglab.models.factor_equation",
    "ColumnSource": "ratinglab.models.factors",
    "DayRows": "ratinglab.models.day_rows",
    "Design": "ratinglab.models.design",
    "FactorEquation": "ratinglab.models.factor_equation",
    "ItemWeights": "ratinglab.models.item_weights",
    "ItemWeightsOptions": "ratinglab.models.item_weights",
    "Side": "ratinglab.models.factor_equation",
    "Term": "ratinglab.models.factor_equation",
}


def __getattr__(name: str) -> Any:
    """Import a public name that needs torch on first use, so the commands read the options without torch."""
    if name not in __all__:
        raise AttributeError(f"module 'ratinglab.models' has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "ratinglab.models.equation")), name)
