"""Minibatch gradient descent on an equation."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from ratinglab.datamodule import Batch, ShuffledBatches
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.optimizers import SGD, Adam, AdamW, SparseAdam
from ratinglab.metrics import ErrorSums
from ratinglab.models.predictor import Predictor


class GradientFit(Fit):
    """Steps against the gradient of (r − r̂)² + penalty, both means over a batch."""

    def __init__(
        self,
        predictor: Predictor,
        *,
        optimizer: Adam | AdamW | SparseAdam | SGD,
        lr: Callable[[int], float],
        accumulate_grad_batches: int,
        gradient_clip_val: float | None,
    ) -> None:
        """Fit `predictor.model`.

        Args:
            predictor: with the model.
            optimizer: what takes the steps.
            lr: the learning rate at an epoch, from 0.
            accumulate_grad_batches: batches over whose gradients a step averages; an epoch's last step may have fewer.
            gradient_clip_val: the largest norm of all gradients together; None: they are not clipped.

        Raises:
            UserError: the optimizer is for equations of embeddings alone, and the model is none.
        """
        super().__init__(predictor, lr=lr)
        self.optimizer_options = optimizer
        self.accumulate_grad_batches = accumulate_grad_batches
        self.gradient_clip_val = gradient_clip_val
        self._batch = 0
        if isinstance(optimizer, SparseAdam):
            from ratinglab.fitting.sparse_adam import make_sparse  # which imports a compiler

            make_sparse(predictor.model)
        self.train_errors = ErrorSums()

    def configure_optimizers(self) -> Optimizer:
        """The optimizer over the model's parameters."""
        return self.optimizer_options.build(self.predictor.model.parameters())

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.train_errors = ErrorSums()
        self._batch = 0
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.epoch_lr

    def training_step(self, batches: list[Batch]) -> None:
        """Take the steps of some batches, one behind the other."""
        data = self.trainer.train_dataloader
        assert isinstance(data, ShuffledBatches)
        optimizer = self.trainer.optimizers[0]
        for batch in batches:
            self._batch += 1
            (self._objective(batch) / self.accumulate_grad_batches).backward()
            if self._batch % self.accumulate_grad_batches == 0 or self._batch == data.num_batches:
                if self.gradient_clip_val is not None:
                    clip_grad_norm_(self.predictor.model.parameters(), self.gradient_clip_val)
                optimizer.step()
                optimizer.zero_grad()

    def _objective(self, batch: Batch) -> Tensor:
        """() float32"""
        model = self.predictor.model
        known = (batch.user, batch.item, batch.day) if model.takes_day else (batch.user, batch.item)
        predicted = model(*known)
        self.train_errors.update(predicted=predicted.detach(), rating=batch.rating)
        return (predicted - batch.rating).square().mean() + model.penalty(*known)

    def numbers_in_step(self, batch_size: int) -> int:
        """About how many numbers a step reads: all weights, and for each row its share of them."""
        parameters = list(self.predictor.model.parameters())
        row = sum(each.numel() // len(each) if each.dim() > 0 else 1 for each in parameters)
        return sum(each.numel() for each in parameters) + batch_size * row

    def train_mse(self) -> float:
        """The pooled squared error of the epoch's training rows, each before its batch's step."""
        return self.train_errors.compute().mse
