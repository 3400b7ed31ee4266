"""L-BFGS on all training rows at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from torch import optim
from torch.nn import Parameter

from ratinglab.fitting.gradient_options import GradientOptions
from ratinglab.options import at_least


@dataclass
class LBFGSOptions(GradientOptions):
    """L-BFGS with a line search (Nocedal 1980): one step per epoch."""

    name: ClassVar[str] = "lbfgs"
    takes_batches: ClassVar[bool] = False

    max_iter: int = field(metadata=at_least(1))
    """Iterations in a step."""

    def make_optimizer(self, parameters: Iterator[Parameter]) -> optim.Optimizer:
        """torch's L-BFGS."""
        return optim.LBFGS(parameters, lr=self.lr, max_iter=self.max_iter, line_search_fn="strong_wolfe")
