"""Many samples of an equation's weights, and the mean of what they predict."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ratinglab.models.equation import Equation, Factors


class Sample(NamedTuple):
    """One draw of the weights of r̂_ui = μ + b_u + b_i + p_u · q_i, all float32.

    Attributes:
        user: (num_users, D), or a row for each user and day.
        item: (num_items, D).
        user_bias: as many rows of 1; none without biases, and so item_bias.
        item_bias: (num_items, 1).
        user_precision: (num_users,), of a rating around its prediction: times the item's it is 1 / variance.
        item_precision: (num_items,).
    """

    user: Tensor
    item: Tensor
    user_bias: Tensor
    item_bias: Tensor
    user_precision: Tensor
    item_precision: Tensor


class Posterior(Equation):
    """r̂_ui = mean over the samples s of r̂ˢ_ui; before there is one, what the equation itself predicts.

    The samples are kept in state_dict, as plain tensors, however many there are.

    Source: Salakhutdinov, Mnih, "Bayesian Probabilistic Matrix Factorization using Markov Chain Monte Carlo", ICML
    2008, equation 10.
    """

    def __init__(self, equation: Equation) -> None:
        """No sample yet; `equation` holds the weights that are drawn next, and has factors()."""
        super().__init__()
        self.takes_day = equation.takes_day
        self.equation = equation
        self._mean = self._factors().mean
        self._samples: list[Sample] = []

    @property
    def num_samples(self) -> int:
        """Samples kept so far."""
        return len(self._samples)

    @property
    def sample_bytes(self) -> int:
        """What one sample takes in memory, and in a checkpoint."""
        own = self._factors()
        rows = int(self._last_rows()[-1]) + 1
        width = own.user.shape[1] + (own.biases[0] is not None)
        return 4 * ((rows + len(own.item)) * width + len(own.user) + len(own.item))

    def keep(self, sample: Sample) -> None:
        """Keep a sample."""
        self._samples.append(sample)

    @contextmanager
    def only(self, number: int) -> Iterator[None]:
        """Predict by one sample alone, counted from 0."""
        samples, self._samples = self._samples, [self._samples[number]]
        try:
            yield
        finally:
            self._samples = samples

    def forward(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """user: (B,) int32, item: (B,) int32, day: (B,) int32 → rating: (B,) float32."""
        if not self._samples:
            return self.equation(user, item, day) if self.takes_day else self.equation(user, item)
        total = torch.zeros(len(user), dtype=torch.float64)
        row = self.equation.user_rows(user, day)
        for sample in self._samples:
            total += predict(sample, row, item, mean=self._mean).double()
        return (total / len(self._samples)).float()

    def moments(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The mean of the prediction and the variance of a rating around it.

        The variance is that of the samples' predictions plus the mean of the noise's. On a day without training rows it
        is that of the user's nearest day: how users differ from day to day is not in it.

        Args:
            user: (B,) int32.
            item: (B,) int32.
            day: (B,) int32, where the equation takes days.

        Returns:
            (B,) float64 in rating units, and (B,) float64 in their squares.
        """
        assert self._samples, "no sample has been kept"
        total = torch.zeros(len(user), dtype=torch.float64)
        squares = torch.zeros(len(user), dtype=torch.float64)
        noise = torch.zeros(len(user), dtype=torch.float64)
        row = self.equation.user_rows(user, day)
        for sample in self._samples:
            rating = predict(sample, row, item, mean=self._mean).double()
            total += rating
            squares += rating.square()
            noise += 1 / (sample.user_precision[user.long()] * sample.item_precision[item.long()])
        count = len(self._samples)
        average = total / count
        return average, (squares / count - average.square()).clamp(min=0) + noise / count

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """None: samples are drawn, not fitted; () float32."""
        return torch.zeros(())

    def factors(self) -> Factors:
        """The mean prediction as one product: the samples' factors side by side, over their number."""
        own = self._factors()
        if not self._samples:
            return own
        user, item, user_bias, item_bias, *_ = (list(column) for column in zip(*self._samples, strict=True))
        count = len(self._samples)
        if self.takes_day:
            row = self._last_rows()
            user, user_bias = [each[row] for each in user], [each[row] for each in user_bias]
        return own._replace(
            user=torch.cat(user, dim=1) / count,
            item=torch.cat(item, dim=1),
            biases=(None, None)
            if own.biases[0] is None
            else (torch.stack(user_bias).mean(dim=0), torch.stack(item_bias).mean(dim=0)),
        )

    def _factors(self) -> Factors:
        factors = self.equation.factors()
        assert factors is not None, "only an equation of factors has samples"
        return factors

    def _last_rows(self) -> Tensor:
        """The row of each user on the last day: (num_users,)."""
        return self.equation.user_rows(torch.arange(len(self._factors().user)), None)

    def get_extra_state(self) -> dict[str, Tensor]:
        """The samples, stacked: what state_dict holds of them."""
        if not self._samples:
            return {}
        columns = zip(*self._samples, strict=True)
        return {name: torch.stack(column) for name, column in zip(Sample._fields, columns, strict=True)}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take up the samples of a state_dict.

        Raises:
            RuntimeError: they are not of this equation's shape.
        """
        own = self._factors()
        columns = [state[name] for name in Sample._fields] if state else []
        samples = [Sample(*tensors) for tensors in zip(*columns, strict=True)]
        user_shape = (int(self._last_rows()[-1]) + 1, own.user.shape[1])
        if any((each.user.shape, each.item.shape) != (user_shape, own.item.shape) for each in samples):
            raise RuntimeError("the samples are of another shape than the equation")
        self._samples = samples


def predict(sample: Sample, user: Tensor, item: Tensor, *, mean: float) -> Tensor:
    """user: (B,), the rows of the sample; item: (B,) int32 → μ + b_u + b_i + p_u · q_i by one sample: (B,) float32."""
    rating = mean + (sample.user.index_select(0, user) * sample.item.index_select(0, item)).sum(dim=1)
    if len(sample.user_bias) > 0:
        rating = rating + sample.user_bias.index_select(0, user)[:, 0] + sample.item_bias.index_select(0, item)[:, 0]
    return rating
