"""Predictions of a run: the model with the bias baseline as its fallback, clipped to the rating scale."""

from functools import partial

import torch
from torch import Tensor, nn

from ratinglab.batches import Batch
from ratinglab.models.bias_baseline import BiasBaseline
from ratinglab.models.equation import Equation, ScoreEquation
from ratinglab.models.posterior import Posterior
from ratinglab.stars import Stars


class Predictor(nn.Module):
    """r̂_ui = model(u, i) if user and item both have training rows, else the bias baseline's prediction.

    The model predicts stars. The baseline predicts ratings, and so does the predictor, which clips them to the scale.
    """

    def __init__(
        self, model: Equation, baseline: BiasBaseline, *, stars: Stars, scale: tuple[float, float] | None
    ) -> None:
        """Combine a model (an equation or its posterior) with its fallback. scale=None does not clip predictions."""
        super().__init__()
        self.model = model
        self.baseline = baseline
        self.stars = stars
        self.scale = scale

    @property
    def equation(self) -> Equation:
        """The model or, if it is a posterior, its equation, which holds the weights of the current draw."""
        return self.model.equation if isinstance(self.model, Posterior) else self.model

    def with_users(self, rows: Batch, *, num_users: int) -> "Predictor":
        """Return the predictor with other users, folded into a ranking model from their ratings in stars."""
        assert isinstance(self.model, ScoreEquation), "only ranking models fold users in this way"
        baseline = BiasBaseline(num_users=num_users, num_items=self.baseline.num_items)
        baseline.item_bias.copy_(self.baseline.item_bias)
        model = self.model.with_users(rows, num_users=num_users)
        return Predictor(model, baseline, stars=self.stars, scale=self.scale).eval()

    def forward(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """user: (B,) int32, item: (B,) int32, day: (B,) int32 → rating: (B,) float32, clipped.

        Without days, a model that takes them predicts for the last day it knows.
        """
        return self.clip(self.predict_unclipped(user, item, day))

    def predict_table_unclipped(self, user: Tensor, item: Tensor) -> Tensor:
        """Predict each user's ratings of all these items, without clipping: (B,) int32, (C,) int32 → (B, C) float32."""
        is_known = self.baseline.is_known_pair(user[:, None], item)
        if bool(is_known.all()):
            return self.stars.to_rating(self.model.predict_table(user, item))
        user_or_0, item_or_0 = torch.where(is_known.any(1), user, 0), torch.where(is_known.any(0), item, 0)
        rating = self.stars.to_rating(self.model.predict_table(user_or_0, item_or_0))
        return torch.where(is_known, rating, self.baseline(user[:, None], item))

    def clip(self, rating: Tensor) -> Tensor:
        """Clip predictions to the rating scale."""
        return rating if self.scale is None else rating.clamp(*self.scale)

    def standard_deviation(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """Compute the standard deviation of a rating around its prediction. The model must be a Posterior.

        user: (B,) int32, item: (B,) int32, day: (B,) int32 → (B,) float32, in rating units, or NaN where the baseline
        predicts.
        """
        assert isinstance(self.model, Posterior), "only a run with samples has standard deviations"
        is_known = self.baseline.is_known_pair(user, item)
        deviation = torch.full(user.shape, torch.nan)
        if bool(is_known.any()):
            variance = self.model.variance(user[is_known], item[is_known], None if day is None else day[is_known])
            deviation[is_known] = self.stars.unit * variance.sqrt().float()
        return deviation

    def standard_deviation_table(self, user: Tensor, item: Tensor, predicted: Tensor) -> Tensor:
        """Compute `standard_deviation` for each of these users and items on the last day. All have training rows.

        user: (B,) int, item: (C,) int, predicted rating, unclipped: (B, C) float32 → (B, C) float32, in rating units.
        """
        assert isinstance(self.model, Posterior), "only a run with samples has standard deviations"
        return self.stars.unit * self.model.standard_deviation_table(user, item, self.stars.to_stars(predicted))

    def predict_unclipped(
        self, user: Tensor, item: Tensor, day: Tensor | None = None, *, sample: int | None = None
    ) -> Tensor:
        """Predict without clipping, since a ranking must distinguish items that clip to the highest rating.

        If `sample` is given, predicts from only that sample of a Posterior, counted from 0. Does not branch on values
        while torch.export or torch.onnx.export traces it.
        """
        predict = self.model.predict
        if sample is not None:
            assert isinstance(self.model, Posterior), "only a posterior has samples"
            predict = partial(self.model.predict_sample, sample)
        is_known = self.baseline.is_known_pair(user, item)
        if not torch.compiler.is_compiling() and bool(is_known.all()):  # shortcut for the usual case
            return self.stars.to_rating(predict(user, item, day))
        # user 0 and item 0 stand in for an unknown pair, which gets the baseline's prediction
        rating = predict(torch.where(is_known, user, 0), torch.where(is_known, item, 0), day)
        return torch.where(is_known, self.stars.to_rating(rating), self.baseline(user, item))
