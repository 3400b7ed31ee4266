"""Preparation of a run: its data, its record, and the fit with its initial weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ratinglab.batches import Batch, EvaluationLoader, as_tensors
from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import UserError
from ratinglab.evaluation.metric_kinds import MetricAtK, find_monitored_metric
from ratinglab.evaluation.metrics import MSE, Metric, check_metrics, find_metrics
from ratinglab.evaluation.ranking import check_threshold
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.fit_options import FitSetup
from ratinglab.models.bias_baseline import BiasBaseline
from ratinglab.models.build_equation import check_equation
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.mapped_arrays import allocate_array, drop_pages, row_ranges
from ratinglab.ratings.side_information import AvailableData
from ratinglab.ratings.table import Ratings
from ratinglab.runs.record import RunRecord
from ratinglab.runs.weights import build_predictor, make_training_data
from ratinglab.splits.split import TEST, VALIDATION
from ratinglab.splits.split_ratings import SplitRatings, find_available_data, make_split_ratings
from ratinglab.stars import is_liked
from ratinglab.training.new_record import make_record
from ratinglab.training.train_options import TrainOptions

NUM_TRIAL_RATINGS = 1000
"""Number of training ratings on which metrics are tried."""


@dataclass(frozen=True)
class PreparedRun:
    """The rows, the record and the metric of a run, from which its fit is built.

    Attributes:
        options: the options, with the equation that model=best chooses for the data.
        requested_model: value of the option `model`, which may be best.
        monitor: the monitored metric.
        available: the side information in the data.
        ratings: the rows of each part, with the side information that the equation needs.
        data: the training and validation rows, in batches.
        record: the record of a new run.
    """

    options: TrainOptions
    requested_model: str
    monitor: Metric | MetricAtK
    available: AvailableData
    ratings: SplitRatings
    data: RatingDataModule
    record: RunRecord

    @property
    def has_validation(self) -> bool:
        """Whether there are validation rows."""
        return len(self.data.validation_ratings) > 0

    @property
    def has_best(self) -> bool:
        """Whether the fit keeps the weights of its best epoch. A sampler, or a fit of one epoch, keeps its last."""
        optimizer = self.options.optimizer
        return self.has_validation and not (optimizer.keeps_samples or optimizer.is_single_epoch)

    def curve_tags(self) -> list[str]:
        """List the tags of the metrics by epoch."""
        tags = [self.options.optimizer.train_tag or ""]
        if self.has_validation:
            tags += ["" if self.options.model.predicts_scores else "val/mse", f"val/{self.monitor.name}"]
        return list(dict.fromkeys(filter(None, tags)))

    def build_fit(self) -> Fit:
        """Build the fit of a predictor with random weights, and fit the predictor's bias baseline."""
        options = self.options
        setup = FitSetup(options.schedule, options.trainer, self.monitor, options.order, options.seed)
        return options.optimizer.build(self._build_predictor(), setup)

    def _build_predictor(self) -> Predictor:
        """Build the predictor, with initial weights from the seed, and fit its bias baseline."""
        options, data, side_information = self.options, self.data, self.ratings.side_information
        rows = as_tensors(data.train_ratings_in_stars)
        options.model.check_rows(rows)
        equation_data = make_training_data(
            self.record,
            rows=rows if options.model.needs().interactions else None,
            user_features=side_information.user_features,
            item_features=side_information.item_features,
        )
        predictor = build_predictor(self.record, equation_data, seed=options.seed)
        check_equation(predictor.equation, rows, name=options.model.name)
        if options.model.predicts_scores:
            predictor.baseline.fit_popularity(rows.item)
            return predictor
        _fit_baseline(predictor, rows, data)
        # a sampler starts from its prior, and outliers can make the baseline worse than the mean
        if not options.optimizer.keeps_samples and _beats_the_mean(predictor.baseline, data.validation_ratings):
            baseline, unit = predictor.baseline, predictor.stars.unit
            predictor.model.start_from_baseline(baseline.user_bias[:-1] / unit, baseline.item_bias[:-1] / unit)
        return predictor


def prepare(options: TrainOptions, *, command: Sequence[str] = (), refit_epochs: int | None = None) -> PreparedRun:
    """Load the table, split the rows, and select the side information that the equation needs.

    `command` is the command line, for the record. `refit_epochs` is the number of epochs of a refit, which also trains
    on the validation rows. It is None for any other fit.

    Raises:
        UserError: the data or an option is wrong.
    """
    monitor = find_monitored_metric(options.monitor, find_metrics(options.metrics))
    table = options.data.load()
    split = options.split.apply(table)
    if options.split.refit and refit_epochs is None and split.count(VALIDATION) == 0:
        raise UserError("split.refit=true needs validation rows, to find the number of epochs")
    requested_model, available = options.model.name, find_available_data(table, split)
    options = replace(options, model=options.model.for_data(available))
    side_information = table.side_information(options.model.needs(), needed_by=f"model={options.model.name}")
    ratings = make_split_ratings(table, split if refit_epochs is None else split.for_refit(), side_information)
    data = RatingDataModule(
        ratings,
        batch_size=options.data.batch_size if options.optimizer.takes_batches else None,
        fraction=options.trainer.limit_train_batches,
        seed=options.seed,
        whole_users=options.model.takes_whole_users,
    )
    record = make_record(options, data, ratings, command=command, refit_epochs=refit_epochs)
    trial_rating = as_tensors(data.train_ratings_in_stars).rating[:NUM_TRIAL_RATINGS]
    check_metrics(options.metrics, data.stars.to_rating(trial_rating))
    _check_lists(options, data, ratings)
    return PreparedRun(options, requested_model, monitor, available, ratings, data, record)


def _check_lists(options: TrainOptions, data: RatingDataModule, ratings: SplitRatings) -> None:
    """Raise UserError if lists will be measured but no held-out rating is relevant."""
    threshold = data.stars.liked_threshold(options.ranking.threshold)
    rows = data.validation_ratings
    if options.monitors_lists or options.ranking.k is not None:
        held_out = [rows.rating, *([ratings.copy_rows(TEST).rating] if options.test else [])]
        check_threshold(threshold, held_out, unit=data.stars.unit, key="ranking.threshold")
    if options.monitors_lists and len(rows) > 0:
        is_ranked = is_liked(rows.rating, threshold, unit=data.stars.unit)
        if len(data.validation_history) == 0:
            is_ranked &= rows.user < data.num_users
        if not is_ranked.any():
            raise UserError(
                f"monitor={options.monitor} needs a validation rating of at least {threshold:g} by a user with "
                "training ratings; there is none"
            )


def _fit_baseline(predictor: Predictor, rows: Batch, data: RatingDataModule) -> None:
    """Fit the predictor's bias baseline to the training rows, whose ratings are in stars."""
    stars = predictor.stars
    column = allocate_array(len(rows.rating), np.float32, folder=data.train_ratings_in_stars.folder)
    rating = torch.from_numpy(column)

    def drop_read_pages() -> None:
        drop_pages(column)
        data.train_ratings_in_stars.drop_pages()

    for block in row_ranges(len(rating)):
        rating[block] = stars.to_rating(rows.rating[block])
        drop_read_pages()
    predictor.baseline.fit(user=rows.user, item=rows.item, rating=rating, after_chunk=drop_read_pages)


def _beats_the_mean(baseline: BiasBaseline, rows: Ratings) -> bool:
    """Return whether the bias baseline has a lower MSE than its mean on these rows; True without rows."""
    if len(rows) == 0:
        return True
    predicted = torch.cat([baseline(user, item) for user, item, *_ in EvaluationLoader(rows)])
    rating = torch.from_numpy(rows.rating)
    return MSE(predicted, rating) < MSE(baseline.mean.expand_as(rating), rating)
