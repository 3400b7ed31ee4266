"""Minibatch gradient descent on an equation."""

from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer

from ratinglab.datamodule import Batch
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.optimizers import SGD, Adam, AdamW, SparseAdam
from ratinglab.metrics import ErrorSums
from ratinglab.models.predictor import Predictor


class GradientFit(Fit):
    """Steps against the gradient of (r − r̂)² + penalty, both means over a batch."""

    def __init__(
        self, predictor: Predictor, *, optimizer: Adam | AdamW | SparseAdam | SGD, lr_factor: Callable[[int], float]
    ) -> None:
        """Fit `predictor.model`; `lr_factor` gives the factor on the learning rate at an epoch, from 0.

        Raises:
            UserError: the optimizer is for equations of embeddings alone, and the model is none.
        """
        super().__init__(predictor, lr=optimizer.lr, lr_factor=lr_factor)
        self.optimizer_options = optimizer
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
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.epoch_lr

    def training_step(self, batch: Batch) -> Tensor:
        """The objective of a batch: () float32."""
        user, item, rating = batch
        model = self.predictor.model
        predicted = model(user, item)
        self.train_errors.update(predicted=predicted.detach(), rating=rating)
        return (predicted - rating).square().mean() + model.penalty(user, item)

    def numbers_in_step(self, batch_size: int) -> int:
        """About how many numbers a step reads: all weights, and for each row its share of them."""
        parameters = list(self.predictor.model.parameters())
        row = sum(each.numel() // len(each) if each.dim() > 0 else 1 for each in parameters)
        return sum(each.numel() for each in parameters) + batch_size * row

    def train_mse(self) -> float:
        """The pooled squared error of the epoch's training rows, each before its batch's step."""
        return self.train_errors.compute().mse
