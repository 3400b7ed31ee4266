"""Fits on small tables by Lightning's Trainer, without a run folder."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint

from ratinglab.batches import as_tensors
from ratinglab.datamodule import RatingDataModule
from ratinglab.evaluation.list_options import OrderBy, OrderOptions
from ratinglab.evaluation.metric_kinds import MetricAtK
from ratinglab.evaluation.metrics import MSE, Metric
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.fit_options import FitOptions, FitSetup
from ratinglab.fitting.schedules import Schedule
from ratinglab.fitting.trainer_options import Accelerator, Strategy, TrainerOptions
from ratinglab.models.bias_baseline import BiasBaseline
from ratinglab.models.build_equation import build_equation
from ratinglab.models.design import Design
from ratinglab.models.equation import Equation, TrainingData
from ratinglab.models.equation_options import EquationOptions
from ratinglab.models.posterior import Posterior
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.table import RatingTable
from ratinglab.splits.random_rows import RandomSplitOptions
from ratinglab.splits.split import TRAIN, SplitOptions
from ratinglab.splits.split_ratings import SplitRatings, make_split_ratings
from ratinglab.stars import Stars

TRAINER = TrainerOptions(
    max_time=None,
    max_epochs=50, min_epochs=0, accelerator=Accelerator.cpu, devices=1, num_nodes=1,
    strategy=Strategy.auto, limit_train_batches=1.0,
    check_val_every_n_epoch=1, accumulate_grad_batches=1, gradient_clip_val=None, deterministic=False,
    profiler=None, enable_progress_bar=True, enable_model_summary=False,
)  # fmt: skip
ORDER = OrderOptions(OrderBy.prediction, threshold=None)
SPLIT = RandomSplitOptions(refit=False, seed=0, validation=0.1, test=0.1)


class Fitted(NamedTuple):
    """A finished fit."""

    module: Fit
    data: RatingDataModule
    trainer: Trainer

    @property
    def equation(self) -> Equation:
        """Fitted equation; of samples, the one whose weights were drawn last."""
        return self.module.predictor.equation

    @property
    def weights(self) -> torch.Tensor:
        """All weights of the equation as one vector."""
        return torch.cat([parameter.detach().flatten() for parameter in self.equation.parameters()])


def split_ratings_of(table: RatingTable, model: EquationOptions, *, split: SplitOptions = SPLIT) -> SplitRatings:
    """Hold out parts of a table, with the side information that an equation needs."""
    side_information = table.side_information(model.needs(), needed_by=f"model={model.name}")
    return make_split_ratings(table, split.apply(table), side_information)


def training_data(split_ratings: SplitRatings) -> TrainingData:
    """Collect the data from which an equation is built."""
    train, stars = split_ratings.copy_rows(TRAIN), Stars(*split_ratings.scale)
    rows = as_tensors(replace(train, rating=stars.to_stars(train.rating)))
    num_users, num_items = split_ratings.num_users, split_ratings.num_items
    users, items = split_ratings.side_information.user_features, split_ratings.side_information.item_features
    return TrainingData(
        num_users=num_users,
        num_items=num_items,
        rating_mean=float(rows.rating.double().mean()),
        rows=rows,
        user_features={name: Design.from_feature(column[:num_users], key=name) for name, column in users.items()},
        item_features={name: Design.from_feature(column[:num_items], key=name) for name, column in items.items()},
    )


class ScheduleOf(Schedule):
    """A schedule with these factors."""

    def __init__(self, factor: Callable[[int], float]) -> None:
        self._factor = factor

    def factor(self, epoch: int, max_epochs: int) -> float:
        """Compute the factor in an epoch."""
        return self._factor(epoch)


def fit(
    model: EquationOptions,
    optimizer: FitOptions,
    table: RatingTable,
    *,
    epochs: int,
    split: SplitOptions = SPLIT,
    batch_size: int | None = None,
    seed: int = 0,
    model_seed: int = 0,
    threads: int = 1,
    scale: tuple[float, float] | None = None,
    lr_factor: Callable[[int], float] = lambda epoch: 1.0,
    monitor: Metric | MetricAtK = MSE,
    order: OrderOptions = ORDER,
    trainer: TrainerOptions = TRAINER,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    validate_every: int = 1,
    accelerator: str = "cpu",
) -> Fitted:
    """Fit an equation on the training rows of a table.

    Args:
        model: the equation's options.
        optimizer: the fit's options.
        table: the ratings.
        epochs: number of epochs.
        split: which rows are which.
        batch_size: training rows in a batch; None: all of them.
        seed: seed of the order of rows and of all draws.
        model_seed: seed of the initial weights.
        threads: torch's number of threads during the fit.
        scale: lowest and highest rating, to which predictions are clipped.
        lr_factor: factor on the learning rate at an epoch.
        monitor: validation metric that is logged.
        order: order of the lists of a ranking metric.
        trainer: options that the fit itself reads.
        callbacks: Lightning callbacks.
        checkpoint: file to resume from.
        validate_every: number of epochs between validations, which take a quarter of a fit to a small table.
        accelerator: device to fit on, under Lightning's name.
    """
    split_ratings = split_ratings_of(table, model, split=split)
    data = RatingDataModule(split_ratings, batch_size=batch_size, fraction=1.0, seed=seed)
    equation = build_equation(model, training_data(split_ratings), seed=model_seed)
    rows = as_tensors(data.train_ratings_in_stars)
    baseline = BiasBaseline(num_users=data.num_users, num_items=data.num_items)
    baseline.fit(user=rows.user, item=rows.item, rating=data.stars.to_rating(rows.rating))
    predictor = Predictor(
        Posterior(equation) if optimizer.keeps_samples else equation, baseline, stars=data.stars, scale=scale
    )
    setup = FitSetup(ScheduleOf(lr_factor), trainer, monitor, order, seed)
    module = optimizer.build(predictor, setup)
    finished = run_fit(
        module,
        data,
        epochs,
        threads,
        callbacks=callbacks,
        checkpoint=checkpoint,
        validate_every=validate_every,
        accelerator=accelerator,
    )
    return Fitted(module, data, finished)


def run_fit(
    module: Fit,
    data: RatingDataModule,
    epochs: int,
    threads: int,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    validate_every: int = 1,
    accelerator: str = "cpu",
) -> Trainer:
    """Run Lightning's Trainer on one device."""
    trainer = Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=1,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=validate_every,
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    finally:
        torch.set_num_threads(before)
    return trainer


def objective(equation: Equation, data: RatingDataModule) -> torch.Tensor:
    """Compute the objective of every fit: mean of (r − r̂)² + penalty over the training rows."""
    user, item, rating, day = as_tensors(data.train_ratings_in_stars)
    arguments = equation.forward_arguments(user, item, day)
    return (equation(*arguments) - rating).square().mean() + equation.penalty(*arguments)
