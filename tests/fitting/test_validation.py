"""Metrics of the validation rows, for predictions that the test chooses."""

import numpy as np
import pytest
import torch
from equations import options_of
from fits import ORDER, TRAINER, ScheduleOf, split_ratings_of, training_data
from tables import table_of

from ratinglab.batches import as_tensors
from ratinglab.datamodule import RatingDataModule
from ratinglab.evaluation.metrics import MSE, RMSE
from ratinglab.fitting.fit_options import FitSetup
from ratinglab.fitting.validation import Validation
from ratinglab.models.bias_baseline import BiasBaseline
from ratinglab.models.build_equation import build_equation
from ratinglab.models.predictor import Predictor
from ratinglab.splits.chosen_rows import RowsSplitOptions


def validation_of(*, scale: tuple[float, float] | None, monitor=MSE) -> tuple[Validation, RatingDataModule, Predictor]:
    random = np.random.default_rng(0)
    table = table_of(random.integers(0, 6, 60), random.integers(0, 8, 60), random.integers(1, 6, 60))
    options = options_of("biased_mf", embedding_dim=3)
    split = RowsSplitOptions(refit=False, test_start=0, test_stop=10, seed=0, validation=0.25)
    ratings = split_ratings_of(table, options, split=split)
    data = RatingDataModule(ratings, batch_size=8, fraction=1.0, seed=0)
    rows = as_tensors(data.train_ratings_in_stars)
    baseline = BiasBaseline(num_users=data.num_users, num_items=data.num_items)
    baseline.fit(user=rows.user, item=rows.item, rating=data.stars.to_rating(rows.rating))
    equation = build_equation(options, training_data(ratings), seed=0)
    predictor = Predictor(equation, baseline, stars=data.stars, scale=scale)
    setup = FitSetup(ScheduleOf(lambda epoch: 1.0), TRAINER, monitor, ORDER, seed=0)
    return Validation(predictor, data, setup), data, predictor


def test_errors_are_clipped_and_pooled_over_blocks_of_different_sizes():
    validation, _, _ = validation_of(scale=(1.0, 5.0), monitor=RMSE)
    validation.add(torch.tensor([7.0]), torch.tensor([4.0]))  # 7 is clipped to 5
    validation.add(torch.tensor([3.0, 3.0, 3.0]), torch.tensor([1.0, 3.0, 3.0]))
    assert validation.measure(MSE) == pytest.approx((1 + 4) / 4)
    assert validation.measure_monitored() == pytest.approx(((1 + 4) / 4) ** 0.5)


def test_next_epoch_starts_without_predictions():
    validation, _, _ = validation_of(scale=None)
    validation.add(torch.tensor([7.0]), torch.tensor([4.0]))
    validation.clear()
    validation.add(torch.tensor([3.0]), torch.tensor([1.0]))
    assert validation.measure(MSE) == pytest.approx(4)


def test_bias_baseline_is_clipped_too():
    validation, data, predictor = validation_of(scale=(2.9, 3.1))
    rows = as_tensors(data.validation_ratings)
    free = predictor.baseline(rows.user, rows.item)
    assert (free - 3).abs().max() > 0.5, "else clipping would change nothing"
    expected = float((free.clamp(2.9, 3.1) - rows.rating).square().mean())
    assert validation.baseline_mse == pytest.approx(expected, rel=1e-5)
