"""Build an equation from its options, and check it."""

import inspect

import torch
from torch import Tensor

from ratinglab.batches import Batch
from ratinglab.errors import UserError
from ratinglab.models.equation import Equation, ScoreEquation, TrainingData
from ratinglab.models.equation_options import EquationOptions
from ratinglab.models.factor_equation import FactorEquation, Side
from ratinglab.sides import SIDE_NAMES
from ratinglab.targets import name_line_of_fault

NUM_TRIAL_ROWS = 3
"""Number of training rows on which an equation is tried."""


def build_equation(options: EquationOptions, training: TrainingData, *, seed: int) -> Equation:
    """Build the equation that the options describe and draw its initial weights from the seed.

    Raises:
        UserError: the user's code has a fault, or the options declare scores and the equation is not a ScoreEquation,
            or vice versa.
    """
    # nn.Embedding draws from torch's global generator
    torch.manual_seed(seed)
    with name_line_of_fault(type(options), place=f"model={options.name}"):
        equation = options.build(training, generator=torch.Generator().manual_seed(seed))
    equation.takes_day = options.needs().days
    if isinstance(equation, ScoreEquation) != options.predicts_scores:
        predicts, article = ("scores", "not a") if options.predicts_scores else ("ratings", "a")
        kind = type(equation).__name__
        raise UserError(
            f"model={options.name}: form {options.form.name} predicts {predicts}, but {kind} is {article} ScoreEquation"
        )
    return equation


def check_equation(equation: Equation, rows: Batch, *, name: str) -> None:
    """Try an equation on a few rows, since a wrong shape could broadcast silently.

    Raises:
        UserError: forward or penalty has a fault, or returns another shape or type, or the sides of a factor equation
            do not fit together.
    """
    if isinstance(equation, FactorEquation):
        for side_name in SIDE_NAMES:
            with name_line_of_fault(type(equation), place=f"model={name}"):
                side = equation.side(side_name)
            _check_side(side, place=f"model={name}, the {side_name} side")
    count = min(NUM_TRIAL_ROWS, len(rows.rating))
    user, item, _, day = rows.take(torch.arange(count))
    is_training = equation.training
    with torch.no_grad(), name_line_of_fault(type(equation), place=f"model={name}"):
        arguments = equation.eval().forward_arguments(user, item, day)
        outputs = {"forward": equation(*arguments), "penalty": equation.penalty(*arguments)}
    equation.train(is_training)
    for method, shape in (("forward", (count,)), ("penalty", ())):
        value = outputs[method]
        if not (isinstance(value, Tensor) and value.shape == shape and value.is_floating_point()):
            returned = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            file = inspect.getsourcefile(type(equation))
            raise UserError(
                f"model={name}: {method} must return {shape} floats for {count} rows, got {returned} ({file})"
            )


def _check_side(side: Side, *, place: str) -> None:
    """Raise UserError where a term does not fit its side: compiled loops do not check their indices."""
    num_rows, dim = side.embedding.weight.shape
    for term in side.terms:
        design, (num_columns, term_dim) = term.design, term.embedding.weight.shape
        largest = int(design.column.max()) if len(design.column) else -1
        if largest >= design.num_columns:
            raise UserError(f"{place}: the design of {term.name} has column {largest} of {design.num_columns}")
        for noun, actual, expected in (
            ("rows in its design", design.num_rows, num_rows),
            ("rows of weights", num_columns, design.num_columns),
            ("factors", term_dim, dim),
        ):
            if actual != expected:
                raise UserError(f"{place}: {term.name} must have {expected} {noun}, got {actual}")
