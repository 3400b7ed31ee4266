"""From the options of an equation to the equation."""

import torch

from ratinglab.models.declarations import EquationOptions
from ratinglab.models.equation import Equation, TrainingData


def build_equation(options: EquationOptions, training: TrainingData, *, seed: int) -> Equation:
    """The equation that the options describe, its first weights drawn from the seed.

    Raises:
        UserError: the equation cannot predict such ratings.
    """
    # An equation that draws without the generator, as nn.Embedding does by itself, repeats as well.
    torch.manual_seed(seed)
    equation = options.build(training, generator=torch.Generator().manual_seed(seed))
    equation.takes_day = options.needs().days
    return equation
