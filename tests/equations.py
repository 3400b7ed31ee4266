"""Equations with a few users and items, for tests."""

from dataclasses import fields

import torch

from ratinglab.models.bias import BiasOptions
from ratinglab.models.biased_mf import BiasedMFOptions
from ratinglab.models.build_equation import build_equation
from ratinglab.models.equation import Equation, TrainingData
from ratinglab.models.equation_options import EquationOptions
from ratinglab.models.factors import Factors
from ratinglab.models.mean import MeanOptions
from ratinglab.models.mf import MFOptions
from ratinglab.models.nmf import NMFOptions
from ratinglab.models.predictor import Predictor
from ratinglab.models.svdpp import ImplicitSide, SVDppOptions
from ratinglab.models.timesvdpp import TimeSVDppOptions

CLASSES = {
    cls.name: cls
    for cls in (MeanOptions, BiasOptions, MFOptions, BiasedMFOptions, NMFOptions, SVDppOptions, TimeSVDppOptions)
}
VALUES = {
    "embedding_dim": 2,
    "regularization": 0.1,
    "init_std": 0.1,
    "user_features": [],
    "item_features": [],
    "implicit": ImplicitSide.both,
}
"""Option values; an equation takes those that it has."""


def options_of(name: str, **changed) -> EquationOptions:
    """Make the options of an equation, some of them changed."""
    cls = CLASSES[name]
    known = {field.name for field in fields(cls)}
    return cls(**{key: value for key, value in VALUES.items() if key in known} | changed)


def equation_of(name: str, training: TrainingData, *, seed: int = 0, **changed) -> Equation:
    """Build an equation for training data, some of its options changed."""
    return build_equation(options_of(name, **changed), training, seed=seed)


def multiply_pairs(rows: Factors, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """Compute μ + b_u + b_i + x_u · y_i of these users and items: (B,) float32."""
    users, items = rows.user.take(user.long()), rows.item.take(item.long())
    rating = rows.mean + (users.factors * items.factors).sum(dim=1)
    return rating if users.bias is None else rating + users.bias[:, 0] + items.bias[:, 0]


def ranked(predictor: Predictor, user: int, candidates: list[int], *, k: int) -> list[int]:
    """Rank candidates by a user's unclipped predictions; equal ones keep their order."""
    users, item = torch.tensor([user], dtype=torch.int32), torch.tensor(candidates, dtype=torch.int32)
    with torch.inference_mode():
        predicted = predictor.predict_table_unclipped(users, item)[0]
    return item[predicted.argsort(descending=True, stable=True)[:k]].tolist()
