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
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.setup import FitSetup
from ratinglab.models.predictor import Predictor

LITTLE_WORK = 1 << 20
"""Values read per step. Below this, one thread is as fast as two, and much faster if another process is busy."""


class GradientFit(Fit):
    """Minibatch gradient descent on (r − r̂)² + penalty, both averaged over a batch.

    train/mse predicts each row before its batch's step.

    Each step passes the optimizer a closure, so optimizers that evaluate the loss several times, such as LBFGS, also
    work. The seed and the epoch number determine an equation's randomness, such as dropout.
    """

    def __init__(
        self, predictor: Predictor, setup: FitSetup, *, optimizer: Callable[[Iterator[Parameter]], Optimizer]
    ) -> None:
        """Fit `predictor.model`; `optimizer` makes the optimizer from the parameters."""
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
        """Return True for steps of little work, in which several threads mostly wait for each other."""
        parameters = list(self.predictor.model.parameters())
        row = sum(each.numel() // len(each) if each.dim() > 0 else 1 for each in parameters)
        return sum(each.numel() for each in parameters) + batch_size * row < LITTLE_WORK

    def configure_optimizers(self) -> Optimizer:
        """Make the optimizer over the model's parameters."""
        return self.make_optimizer(self.predictor.model.parameters())

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._batches_seen, self._rows_seen = 0, 0
        self._squared_errors.clear()
        # a resumed run repeats the random numbers of an uninterrupted one
        torch.manual_seed(int(np.random.SeedSequence([self.seed, self.current_epoch]).generate_state(1)[0]))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.epoch_lr

    def training_step(self, batches: list[Batch]) -> None:
        """Step through these batches in order.

        An epoch's last step divides by the same number, even if fewer batches are left.
        """
        loader = self.trainer.train_dataloader
        assert isinstance(loader, ShuffledBatches | WholeEpochs)
        for batch in batches:
            self._batches_seen += 1
            self._waiting.append(batch)
            if self._batches_seen % self.accumulate_grad_batches == 0 or self._batches_seen == loader.num_batches:
                self._step(self._waiting)
                self._waiting = []
        if self._batches_seen == loader.num_batches:
            self.train_mse = float(torch.stack(self._squared_errors).sum()) / self._rows_seen

    def _step(self, batches: list[Batch]) -> None:
        first = True

        def closure() -> float:
            nonlocal first
            optimizer.zero_grad()
            losses = [self._backward(batch, count_errors=first) for batch in batches]
            loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
            first = False
            if self.gradient_clip_val is not None:
                clip_grad_norm_(self.predictor.model.parameters(), self.gradient_clip_val)
            return cast(float, loss)  # torch annotates a float, but its optimizers take a tensor

        optimizer = self.trainer.optimizers[0]
        optimizer.step(closure)

    def _backward(self, batch: Batch, *, count_errors: bool) -> Tensor:
        """Compute the batch's share of the loss, () float32, and add its gradient to that of the other batches."""
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
