"""Build an equation from its options."""

import torch

from ratinglab.models.declarations import EquationOptions
from ratinglab.models.equation import Equation, TrainingData


def build_equation(options: EquationOptions, training: TrainingData, *, seed: int) -> Equation:
    """Build the equation that the options describe and draw its initial weights from the seed.

    Raises:
        UserError: the equation cannot predict such ratings.
    """
    # Seeds torch's global generator too: nn.Embedding draws from it.
    torch.manual_seed(seed)
    equation = options.build(training, generator=torch.Generator().manual_seed(seed))
    equation.takes_day = options.needs().days
    return equation
