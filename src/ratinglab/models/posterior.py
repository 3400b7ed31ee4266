"""Samples of a factor equation's weights, and their mean prediction."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from ratinglab.models.equation import Equation
from ratinglab.models.factor_equation import FactorEquation, Side
from ratinglab.models.factors import Factors, NewRowTerm, SideFactors
from ratinglab.models.traceable_rows import TraceableRows
from ratinglab.sides import SIDE_NAMES, SideName

FACTORS_AT_ONCE = 1 << 18
"""Number of factors of pairs multiplied at once: 1 MiB, in the processor's cache."""
TERM_PREFIX = "term/"
"""Prefix of the terms' weights in the state_dict."""
SUFFIXES = {"factors": "", "bias": "_bias", "noise_precision": "_precision"}
"""Suffix in the state_dict of each field of SideFactors, such as user_bias."""


class Posterior(Equation):
    """r̂_ui = mean of r̂ˢ_ui over the samples s.

    Before the first sample, it predicts what the equation predicts. state_dict holds the samples as plain tensors.

    Attributes:
        samples: the factors of all rows with their precisions, and the weights of terms, in each sample.

    Source: Salakhutdinov, Mnih, "Bayesian Probabilistic Matrix Factorization using Markov Chain Monte Carlo", ICML
    2008, equation 10.
    """

    def __init__(self, equation: FactorEquation) -> None:
        """Start without samples; `equation` holds the weights of the current draw."""
        super().__init__()
        self.takes_day = equation.takes_day
        self.equation = equation
        self.samples: list[Factors] = []

    @property
    def sample_bytes(self) -> int:
        sides = self.equation.sides()
        tables = [table for side in sides for table in (side.embedding, side.bias) if table is not None]
        tables += [term.embedding for side in sides for term in side.terms_of_new_rows]
        return 4 * (sum(table.weight.numel() for table in tables) + sum(len(side.last_rows()) for side in sides))

    def forward(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """user: (B,) int32, item: (B,) int32, day: (B,) int32 → rating: (B,) float32."""
        if not self.samples:
            return self.equation.predict(user, item, day)
        return self._average_predictions(self.samples, user, item, day)

    def predict_sample(self, number: int, user: Tensor, item: Tensor, day: Tensor | None) -> Tensor:
        """Predict from a single sample, counted from 0: (B,) float32."""
        return self._average_predictions([self.samples[number]], user, item, day)

    def _average_predictions(self, samples: list[Factors], user: Tensor, item: Tensor, day: Tensor | None) -> Tensor:
        total = torch.zeros_like(user, dtype=torch.float64)
        for _, ratings in self._predict_in_blocks(samples, user, item, day):
            total += ratings.sum(dim=0)
        return (total / len(samples)).float()

    def _predict_in_blocks(
        self, samples: list[Factors], user: Tensor, item: Tensor, day: Tensor | None
    ) -> Iterator[tuple[list[Factors], Tensor]]:
        """Yield blocks of C samples with their predictions: (C, B) float64."""
        user_row, item_row = self.equation.row_indices(user, item, day)
        # torch.export needs a size that does not depend on the number of pairs
        is_traced = torch.compiler.is_compiling()
        size = 1 if is_traced else max(1, FACTORS_AT_ONCE // max(1, len(user) * samples[0].user.factors.shape[1]))
        for block in (samples[start : start + size] for start in range(0, len(samples), size)):
            users = _select_rows(block, "user", "factors", user_row)
            items = _select_rows(block, "item", "factors", item_row)
            ratings = block[0].mean + (users * items).sum(dim=2)
            if block[0].user.bias is not None:
                biases = _select_rows(block, "user", "bias", user_row)[..., 0]
                ratings = ratings + biases + _select_rows(block, "item", "bias", item_row)[..., 0]
            yield block, ratings.double()

    def predict_table(self, user: Tensor, item: Tensor) -> Tensor:
        """Predict user by user. For many users, the product of `factors` is faster."""
        if not self.samples:
            return self.equation.predict_table(user, item)
        return torch.stack([self._predict_user(one_user, item) for one_user in user.split(1)])

    def _predict_user(self, user: Tensor, item: Tensor) -> Tensor:
        """Predict one user's ratings: (1,) int32, (C,) int32 → (C,) float32."""
        user_row, item_row = self.equation.row_indices(user, item, None)
        item_row = item_row.long()
        num_rows = len(self.samples[0].item.factors)
        # with few items, predict only their rows; with many, predict all rows and then select, which copies less
        has_few_items = 2 * len(item_row) < num_rows
        total = torch.zeros(len(item) if has_few_items else num_rows, dtype=torch.float64)
        users, start = _select_rows(self.samples, "user", "factors", user_row)[:, 0], 0
        for samples in _group_by_item_table(self.samples):
            table = samples[0].item.take(item_row) if has_few_items else samples[0].item
            total += table.factors @ users[start : start + len(samples)].sum(dim=0)
            if table.bias is not None:
                total += len(samples) * table.bias[:, 0]
            start += len(samples)
        if self.samples[0].user.bias is not None:
            total += _select_rows(self.samples, "user", "bias", user_row).double().sum()
        ratings = self.samples[0].mean + total / len(self.samples)
        return (ratings if has_few_items else ratings[item_row]).float()

    def variance(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """Compute the variance of a rating around the mean prediction.

        It is the samples' variance plus the mean noise variance. On a day without training rows, it is the variance on
        the user's nearest day, without the user's drift since that day.

        user: (B,) int32, item: (B,) int32, day: (B,) int32 if the equation takes days → (B,) float64 in squared stars.
        """
        assert self.samples, "no sample has been added"
        total, squares, noise = torch.zeros(3, len(user), dtype=torch.float64)
        for samples, ratings in self._predict_in_blocks(self.samples, user, item, day):
            total += ratings.sum(dim=0)
            squares += ratings.square().sum(dim=0)
            precision = _select_rows(samples, "user", "noise_precision", user.long())
            precision = precision * _select_rows(samples, "item", "noise_precision", item.long())
            noise += (1 / precision).sum(dim=0)
        count = len(self.samples)
        return (squares / count - (total / count).square()).clamp(min=0) + noise / count

    def standard_deviation_table(self, user: Tensor, item: Tensor, mean: Tensor) -> Tensor:
        """Compute the square root of the `variance` for each of these users and items, on the last day.

        Takes one matrix product per sample, which is several times faster than pair by pair.

        user: (B,) int, item: (C,) int, mean predictions in stars: (B, C) float32 → (B, C) float32 in stars.
        """
        squares = torch.zeros_like(mean)
        for factors in self.factors_of_samples():
            users, items = factors.user.take(user), factors.item.take(item)
            difference = users.factors @ items.factors.T
            if users.bias is not None and items.bias is not None:
                difference += users.bias + items.bias.T
            squares += difference.add_(factors.mean).sub_(mean).square_()
        user_variance = 1 / _select_rows(self.samples, "user", "noise_precision", user)
        item_variance = 1 / _select_rows(self.samples, "item", "noise_precision", item)
        return ((squares + user_variance.T @ item_variance) / len(self.samples)).sqrt_()

    def _samples_or_rows(self) -> list[Factors]:
        """Return the samples or, before the first, the equation's own rows."""
        return self.samples or [self.equation.rows()]

    def factors(self) -> Factors:
        """Return the mean prediction as one product: the samples' factors side by side, divided by their number."""
        return _concatenate_samples(list(self.factors_of_samples()))

    def factors_of_samples(self) -> Iterator[Factors]:
        """Yield the factors of each sample on the last day. Without days, these are the sample's own tables."""
        yield from map(self.equation.select_last_day, self._samples_or_rows())

    @torch.no_grad()
    def traceable(self) -> Equation:
        """Put the samples of all rows side by side: a trace of the loop over samples would be long."""
        users, items = self.equation.sides()
        rows = _concatenate_samples(self._samples_or_rows())
        return TraceableRows(rows, user_days=users.day_rows, item_days=items.day_rows)

    def new_row_terms(self, name: SideName, weights: Sequence[Mapping[str, Tensor]]) -> tuple[NewRowTerm, ...]:
        return self.equation.new_row_terms(name, weights)

    def get_extra_state(self) -> dict[str, Tensor]:
        """Stack the samples for state_dict."""
        if not self.samples:
            return {}
        stacked = {}
        for field, suffix in SUFFIXES.items():
            for name in SIDE_NAMES:
                if getattr(self.samples[0].side(name), field) is not None:
                    stacked[f"{name}{suffix}"] = torch.stack(_collect_tables(self.samples, name, field))
        for term in self.samples[0].term_weights:
            stacked[f"{TERM_PREFIX}{term}"] = torch.stack([sample.term_weights[term] for sample in self.samples])
        return stacked

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Load the samples from a state_dict.

        Raises:
            RuntimeError: the samples do not fit this equation's shapes.
        """
        terms = {key.removeprefix(TERM_PREFIX): state[key] for key in state if key.startswith(TERM_PREFIX)}
        samples, mean = [], float(self.equation.rating_mean)
        for number in range(len(state["user"]) if state else 0):
            user, item = (_side_from_state(state, name, number) for name in SIDE_NAMES)
            samples.append(Factors(user, item, mean, {name: table[number] for name, table in terms.items()}))
        shapes = tuple(side.embedding.weight.shape for side in self.equation.sides())
        if any((sample.user.factors.shape, sample.item.factors.shape) != shapes for sample in samples):
            raise RuntimeError("the samples' shapes differ from the equation's")
        self.samples = samples


class PlaceholderEquation(FactorEquation):
    """Placeholder for the equation of a Posterior whose samples hold all weights, as after fold-in.

    It has the shapes of the rows and their mean, and one row per user and item. It never predicts.
    """

    def __init__(self, rows: Factors) -> None:
        """Take the shapes and the mean from `rows`, one of the samples."""
        super().__init__()
        self.rating_mean = rows.mean
        self._user, self._item = (Side(nn.Embedding.from_pretrained(side.factors)) for side in rows[:2])

    def user_side(self) -> Side:
        return self._user

    def item_side(self) -> Side:
        return self._item


def _side_from_state(state: Mapping[str, Tensor], name: SideName, number: int) -> SideFactors:
    tables = (state.get(f"{name}{suffix}") for suffix in SUFFIXES.values())
    return SideFactors._make(None if table is None else table[number] for table in tables)


def _concatenate_samples(samples: list[Factors]) -> Factors:
    """Return the mean prediction of the samples as one product."""
    groups = list(_group_by_item_table(samples))
    users = [sum((sample.user.factors for sample in group[1:]), group[0].user.factors) for group in groups]
    has_biases = samples[0].user.bias is not None
    user_bias, item_bias = (
        torch.stack(_collect_tables(samples, name, "bias")).mean(dim=0) if has_biases else None for name in SIDE_NAMES
    )
    user = SideFactors(torch.cat(users, dim=1) / len(samples), user_bias)
    item = SideFactors(torch.cat([group[0].item.factors for group in groups], dim=1), item_bias)
    return Factors(user, item, samples[0].mean)


def _group_by_item_table(samples: list[Factors]) -> Iterator[list[Factors]]:
    """Group adjacent samples that share their table of items, as the draws of a user folded in do."""
    return (list(group) for _, group in groupby(samples, key=lambda sample: id(sample.item.factors)))


def _collect_tables(samples: list[Factors], name: SideName, field: str) -> list[Tensor]:
    return [getattr(sample.side(name), field) for sample in samples]


def _select_rows(samples: list[Factors], name: SideName, field: str, row: Tensor) -> Tensor:
    """Select rows of one side's table: (N, …) each, row (B,) → (S, B, …). Reads consecutive identical tables once."""
    selected, previous = list[Tensor](), None
    for table in _collect_tables(samples, name, field):
        selected.append(selected[-1] if table is previous else table.index_select(0, row))
        previous = table
    return selected[0][None] if len(selected) == 1 else torch.stack(selected)
