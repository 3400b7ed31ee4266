"""Minibatch gradient descent on an equation."""

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from ratinglab.batches import Batch, ShuffledBatches, WholeEpochs
from ratinglab.fitting.fit import Fit, FitSetup
from ratinglab.models.predictor import Predictor

LITTLE_WORK = 1 << 20
"""Numbers read in a step below which one thread is as fast as two, and much faster beside another process."""


class GradientFit(Fit):
    """Steps against the gradient of (r − r̂)² + penalty, both means over a batch.

    Every step hands the optimizer a closure, so that one that evaluates the loss several times, such as LBFGS, works
    as well. What is random in an equation, such as dropout, follows from the seed and the epoch's number.
    """

    def __init__(
        self,
        predictor: Predictor,
        setup: FitSetup,
        *,
        optimizer: Callable[[Iterator[Parameter]], Optimizer],
    ) -> None:
        """Fit `predictor.model` by the optimizer that `optimizer` makes over its parameters."""
        super().__init__(predictor, setup)
        self.make_optimizer = optimizer
        self.seed = setup.seed
        self.accumulate_grad_batches = setup.trainer.accumulate_grad_batches
        self.gradient_clip_val = setup.trainer.gradient_clip_val
        self._batches_seen = 0
        self._waiting: list[Batch] = []
        self._squared_errors: list[Tensor] = []
        self._rows_seen = 0

    def wants_one_thread(self, batch_size: int) -> bool:
        """Steps of little work want one: several threads spend most of their time waiting for each other."""
        parameters = list(self.predictor.model.parameters())
        row = sum(each.numel() // len(each) if each.dim() > 0 else 1 for each in parameters)
        return sum(each.numel() for each in parameters) + batch_size * row < LITTLE_WORK

    def configure_optimizers(self) -> Optimizer:
        """The optimizer over the model's parameters."""
        return self.make_optimizer(self.predictor.model.parameters())

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._batches_seen, self._rows_seen = 0, 0
        self._squared_errors.clear()
        # a resumed run repeats the noise of an uninterrupted one
        torch.manual_seed(int(np.random.SeedSequence([self.seed, self.current_epoch]).generate_state(1)[0]))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.epoch_lr

    def training_step(self, batches: list[Batch]) -> None:
        """Take the steps of some batches, one after the other; an epoch's last step may be of fewer batches."""
        loader = self.trainer.train_dataloader
        assert isinstance(loader, ShuffledBatches | WholeEpochs)
        for batch in batches:
            self._batches_seen += 1
            self._waiting.append(batch)
            if self._batches_seen % self.accumulate_grad_batches == 0 or self._batches_seen == loader.num_batches:
                self._step(self._waiting)
                self._waiting = []

    def _step(self, batches: list[Batch]) -> None:
        first = True

        def closure() -> float:
            nonlocal first
            optimizer.zero_grad()
            losses = [self._backward(batch, count_errors=first) for batch in batches]
            first = False
            if self.gradient_clip_val is not None:
                clip_grad_norm_(self.predictor.model.parameters(), self.gradient_clip_val)
            return cast(float, torch.stack(losses).sum())  # torch types it as a float, and its optimizers take a tensor

        optimizer = self.trainer.optimizers[0]
        optimizer.step(closure)

    def _backward(self, batch: Batch, *, count_errors: bool) -> Tensor:
        """The batch's share of the loss, () float32; its gradient is added to that of the other batches."""
        model = self.predictor.model
        arguments = model.arguments(batch.user, batch.item, batch.day)
        error = model(*arguments) - batch.rating
        if count_errors:
            squares = error.detach()
            squares = squares if squares.device.type == "mps" else squares.double()  # mps has no float64
            self._squared_errors.append(squares.square().sum())
            self._rows_seen += len(batch.rating)
        loss: Tensor = (error.square().mean() + model.penalty(*arguments)) / self.accumulate_grad_batches
        loss.backward()
        return loss.detach()

    def train_mse(self) -> float:
        """Pooled squared error of the epoch's training rows, each before its batch's step."""
        return float(torch.stack(self._squared_errors).sum()) / self._rows_seen
