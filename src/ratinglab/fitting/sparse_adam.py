"""Adam that updates only a batch's rows, for tables that are too large to update in full at every step."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from ratinglab.errors import UserError
from ratinglab.kernels.adam_rows import compile_adam_loops, step_rows
from ratinglab.models.equation import Equation


class SparseRowAdam(Optimizer):
    """Adam (Kingma and Ba 2015) on the rows that have a gradient. All other rows keep their moments.

    Takes the same steps as torch.optim.SparseAdam, in one pass and without sorting the rows.
    """

    def __init__(self, parameters: Iterable[Tensor], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        """Optimize float32 matrices on the CPU. Their gradients must be sparse tensors of rows."""
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})
        self._slots: dict[Tensor, NDArray[np.int32]] = {}
        compile_adam_loops()  # before the first step is timed

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step in place; return the closure's value if there is a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)
        return loss

    def _step(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
        state["step"] += 1
        if weight not in self._slots:
            self._slots[weight] = np.full(len(weight), -1, dtype=np.int32)
        gradient = weight.grad
        assert gradient is not None
        betas = group["betas"]
        moments = state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()
        step_rows(
            gradient._indices()[0].numpy(),
            gradient._values().numpy(),
            weight.detach().numpy(),
            moments,
            self._slots[weight],
            np.float32(group["lr"]),
            tuple(np.float32(beta) for beta in betas),
            tuple(np.float32(1 - beta ** state["step"]) for beta in betas),
            np.float32(group["eps"]),
        )


def make_sparse(model: Equation) -> None:
    """Make the gradients of all embeddings sparse, in place.

    Raises:
        UserError: the model has weights outside nn.Embedding, or reads them in another way than by row lookup.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, parameter in model.named_parameters():
        if id(parameter) not in embeddings:
            raise UserError(f"optimizer=sparse_adam needs all weights of the equation in nn.Embedding, got {name}")
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = True
    index = torch.zeros(1, dtype=torch.int32)
    arguments = model.forward_arguments(index, index, index)
    (model(*arguments).sum() + model.penalty(*arguments)).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.is_sparse:
            raise UserError(
                f"optimizer=sparse_adam needs weights read only by row lookup; the equation reads all of {name}"
            )
    model.zero_grad()
