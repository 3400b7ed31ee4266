"""Minibatch gradient descent on an equation."""

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from ratinglab.batches import Batch
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.fit_options import FitSetup
from ratinglab.models.predictor import Predictor

if TYPE_CHECKING:
    from ratinglab.fitting.gradient_options import GradientOptions

MAX_ONE_THREAD_VALUES = 1 << 20
"""Number of values read per step below which one thread is as fast as two, and much faster on a busy machine."""


class GradientFit(Fit):
    """Minibatch gradient descent on (r − r̂)² + penalty, both averaged over a batch.

    train/mse predicts each row before its batch's step. If several processes share each batch, the gradient is the sum
    over all shards, even if they differ in size.

    Each step passes the optimizer a closure, so optimizers that evaluate the loss several times, such as LBFGS, also
    work. The seed and the epoch number determine an equation's randomness, such as dropout.
    """

    def __init__(self, predictor: Predictor, setup: FitSetup, options: "GradientOptions") -> None:
        super().__init__(predictor, setup, options)
        self.make_optimizer = options.make_optimizer
        self.accumulate_grad_batches = setup.trainer.accumulate_grad_batches
        self.gradient_clip_val = setup.trainer.gradient_clip_val
        self._pending: list[tuple[Batch, int]] = []
        """Batches of the next step, each with the number of its rows in all processes."""
        self._squared_errors: list[Tensor] = []
        """Sum of squared errors of each shard in this epoch, ()."""
        self._rows_done = 0

    def wants_one_thread(self, batch_size: int) -> bool:
        """Return True if a step does so little work that several threads would mostly wait for each other."""
        parameters = list(self.predictor.model.parameters())
        values_per_rating = sum(table.numel() // len(table) if table.dim() > 0 else 1 for table in parameters)
        return sum(table.numel() for table in parameters) + batch_size * values_per_rating < MAX_ONE_THREAD_VALUES

    def configure_optimizers(self) -> Optimizer:
        return self.make_optimizer(self.predictor.model.parameters())

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._rows_done = 0
        self._squared_errors.clear()
        self._pending.clear()
        # A resumed run repeats the random numbers of an uninterrupted one. SeedSequence ignores a trailing 0, so rank 0
        # draws the numbers of a single process.
        seeds = np.random.SeedSequence([self.seed, self.current_epoch, self.global_rank])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.epoch_lr

    def training_step(self, batches: list[Batch]) -> None:
        """Train on these batches in order, with one step per accumulate_grad_batches of them.

        The last step of an epoch also divides by accumulate_grad_batches, even if it has fewer batches.
        """
        for batch, rows in zip(batches, self.batch_rows, strict=True):
            self._pending.append((batch, rows))
            if len(self._pending) == self.accumulate_grad_batches:
                self._step()

    def report_training(self) -> None:
        """Take the last step of the epoch, with the batches that are left, and report train/mse."""
        if self._pending:
            self._step()
        self.train_mse = float(self._total_squared_error()) / self._rows_done
        super().report_training()

    def _total_squared_error(self) -> Tensor:
        """Sum the squared errors of the epoch over all processes: (), float64 except on mps."""
        if self.trainer.world_size == 1:
            return torch.stack(self._squared_errors).sum()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        total += sum(self._squared_errors)  # sum gives the integer 0 if the process had no rows
        distributed.all_reduce(total)
        return total

    def _step(self) -> None:
        is_first_evaluation = True

        def closure() -> float:
            nonlocal is_first_evaluation
            optimizer.zero_grad()
            losses = [self._backward(batch, rows, count_errors=is_first_evaluation) for batch, rows in self._pending]
            loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
            is_first_evaluation = False
            if self.trainer.world_size > 1:
                self._sum_over_processes(loss)
            if self.gradient_clip_val is not None:
                clip_grad_norm_(self.predictor.model.parameters(), self.gradient_clip_val)
            return cast(float, loss)  # torch annotates a float, but its optimizers take a tensor

        optimizer = self.trainer.optimizers[0]
        optimizer.step(closure)
        self._pending.clear()

    def _sum_over_processes(self, loss: Tensor) -> None:
        """Sum the loss and the gradients over all processes, in place.

        DistributedDataParallel would average them, as if all shards had the same number of rows, and would wait for a
        gradient of every parameter in each process.
        """
        model = self.predictor.model
        is_sparse = any(module.sparse for module in model.modules() if isinstance(module, nn.Embedding))
        dense = [loss]
        for parameter in model.parameters():
            if parameter.grad is None and parameter.requires_grad:  # an empty shard
                parameter.grad = empty_sparse_gradient(parameter) if is_sparse else torch.zeros_like(parameter)
            if parameter.grad is not None and parameter.grad.is_sparse:
                distributed.all_reduce(parameter.grad)
            elif parameter.grad is not None:
                dense.append(parameter.grad)
        message = torch.cat([tensor.flatten() for tensor in dense])  # one message is faster than several
        distributed.all_reduce(message)
        for tensor, total in zip(dense, message.split([tensor.numel() for tensor in dense]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def _backward(self, batch: Batch, rows: int, *, count_errors: bool) -> Tensor:
        """Compute a shard's contribution to the loss, () float32, and accumulate its gradient.

        Args:
            batch: this process's shard of a batch.
            rows: number of rows of the batch in all processes.
            count_errors: whether to add the squared errors to train/mse.
        """
        model = self.predictor.model
        self._rows_done += rows if count_errors else 0
        if len(batch.rating) == 0:
            return torch.zeros((), device=self.device)
        arguments = model.forward_arguments(batch.user, batch.item, batch.day)
        error = model(*arguments) - batch.rating
        if count_errors:
            squares = error.detach()
            squares = squares if squares.device.type == "mps" else squares.double()  # mps has no float64
            self._squared_errors.append(squares.square().sum())
        loss: Tensor = (error.square().mean() + model.penalty(*arguments)) / self.accumulate_grad_batches
        if len(batch.rating) < rows:
            loss = loss * (len(batch.rating) / rows)
        loss.backward()
        return loss.detach()


def empty_sparse_gradient(table: Tensor) -> Tensor:
    """Make the sparse gradient, (N, D), of a table from which no row was read."""
    index = torch.zeros((1, 0), dtype=torch.int64, device=table.device)
    return torch.sparse_coo_tensor(index, table.new_zeros((0, *table.shape[1:])), table.shape, check_invariants=False)
