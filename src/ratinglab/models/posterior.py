"""Samples of a factor equation's weights, and their mean prediction."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ratinglab.models.equation import ColumnSource, Equation, Factors, RowTerm, SideName, SideRows
from ratinglab.models.factor_equation import FactorEquation, Side
from ratinglab.models.traceable_rows import TraceableRows

BLOCK_NUMBERS = 1 << 18
"""Number of factors of pairs multiplied at once: 1 MiB, in the processor's cache."""
TERM_PREFIX = "term/"
"""Prefix of the terms' weights in the state_dict."""


class Sample(NamedTuple):
    """One draw of the rows of both sides, all terms summed. All tensors are float32.

    Attributes:
        user: (num_user_rows, D), a row per user, or per user and day.
        item: (num_item_rows, D).
        user_bias: (num_user_rows, 1); None for an equation without biases.
        item_bias: (num_item_rows, 1); None for an equation without biases.
        user_precision: (num_users,); its product with the item's is 1 / variance of a rating around its prediction.
        item_precision: (num_items,).
        terms: the weights of the terms that a new row has too, by name: (num_columns, D), the bias first if there are
            biases. The rows include these terms.
    """

    user: Tensor
    item: Tensor
    user_bias: Tensor | None
    item_bias: Tensor | None
    user_precision: Tensor
    item_precision: Tensor
    terms: Mapping[str, Tensor] = MappingProxyType({})


TABLES = [name for name in Sample._fields if name != "terms"]


class Posterior(Equation):
    """r̂_ui = mean of r̂ˢ_ui over the samples s; before the first sample, the equation's own prediction.

    state_dict holds the samples as plain tensors.

    Source: Salakhutdinov, Mnih, "Bayesian Probabilistic Matrix Factorization using Markov Chain Monte Carlo", ICML
    2008, equation 10.
    """

    def __init__(self, equation: FactorEquation) -> None:
        """Start without samples; `equation` holds the weights of the current draw."""
        super().__init__()
        self.takes_day = equation.takes_day
        self.equation = equation
        self._mean = float(equation.rating_mean)
        self._samples: list[Sample] = []

    @property
    def num_samples(self) -> int:
        """Samples kept so far."""
        return len(self._samples)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample in memory and in a checkpoint."""
        sides = self.equation.user_side(), self.equation.item_side()
        tables = [table for side in sides for table in (side.embedding, side.bias) if table is not None]
        tables += [term.embedding for side in sides for term in side.terms if term.source is not ColumnSource.own]
        return 4 * (sum(table.weight.numel() for table in tables) + sum(len(side.last_rows()) for side in sides))

    @property
    def _has_biases(self) -> bool:
        return self._samples[0].user_bias is not None

    def keep(self, sample: Sample) -> None:
        """Keep a sample."""
        self._samples.append(sample)

    def keep_every_second(self) -> None:
        """Drop the second, the fourth, … sample."""
        self._samples = self._samples[::2]

    @contextmanager
    def using_sample(self, number: int) -> Iterator[None]:
        """Predict from one sample alone, counted from 0."""
        samples, self._samples = self._samples, [self._samples[number]]
        try:
            yield
        finally:
            self._samples = samples

    def forward(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """user: (B,) int32, item: (B,) int32, day: (B,) int32 → rating: (B,) float32."""
        if not self._samples:
            return self.equation.predict(user, item, day)
        total = torch.zeros_like(user, dtype=torch.float64)
        for _, ratings in self._predictions(user, item, day):
            total += ratings.sum(dim=0)
        return (total / len(self._samples)).float()

    def _predictions(self, user: Tensor, item: Tensor, day: Tensor | None) -> Iterator[tuple[list[Sample], Tensor]]:
        """Yield blocks of C samples with their predictions: (C, B) float64."""
        user_row, item_row = self.equation.rows(user, item, day)
        # torch.export needs a size that does not depend on the number of pairs
        is_traced = torch.compiler.is_compiling()
        size = 1 if is_traced else max(1, BLOCK_NUMBERS // max(1, len(user) * self._samples[0].user.shape[1]))
        for samples in (self._samples[start : start + size] for start in range(0, len(self._samples), size)):
            factors = _rows_of([sample.user for sample in samples], user_row)
            ratings = self._mean + (factors * _rows_of([sample.item for sample in samples], item_row)).sum(dim=2)
            if self._has_biases:
                biases = _rows_of(_tables(samples, "user_bias"), user_row)[..., 0]
                ratings = ratings + biases + _rows_of(_tables(samples, "item_bias"), item_row)[..., 0]
            yield samples, ratings.double()

    def predict_items(self, user: int, items: Tensor) -> Tensor:
        """Predict one user's ratings of these items on the last day: (C,) int32 → (C,) float32."""
        if not self._samples:
            return self.equation.predict_items(user, items)
        item_row = self.equation.item_side().find(items, None).long()
        user_row = self.equation.user_side().find(torch.tensor([user]), None)
        # of few candidates, the rows are selected first; of many, their ratings last, which copies less
        is_few = 2 * len(item_row) < len(self._samples[0].item)
        total = torch.zeros(len(items) if is_few else len(self._samples[0].item), dtype=torch.float64)
        users, start = _rows_of([sample.user for sample in self._samples], user_row)[:, 0], 0
        for samples in _by_item_table(self._samples):
            factors, biases = samples[0].item, samples[0].item_bias
            if is_few:
                factors, biases = factors.index_select(0, item_row), _select(biases, item_row)
            total += factors @ users[start : start + len(samples)].sum(dim=0)
            if biases is not None:
                total += len(samples) * biases[:, 0]
            start += len(samples)
        if self._has_biases:
            total += _rows_of(_tables(self._samples, "user_bias"), user_row).double().sum()
        ratings = self._mean + total / len(self._samples)
        return (ratings if is_few else ratings[item_row]).float()

    def moments(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the mean prediction, and the variance of a rating around it.

        The variance is that of the samples' predictions plus the mean noise variance. On a day without training rows
        it is the variance on the user's nearest day, and excludes the user's drift since.

        Args:
            user: (B,) int32.
            item: (B,) int32.
            day: (B,) int32, if the equation takes days.

        Returns:
            (B,) float64 in stars, and (B,) float64 in squared stars.
        """
        assert self._samples, "no sample has been kept"
        total, squares, noise = torch.zeros(3, len(user), dtype=torch.float64)
        for samples, ratings in self._predictions(user, item, day):
            total += ratings.sum(dim=0)
            squares += ratings.square().sum(dim=0)
            precision = _rows_of([sample.user_precision for sample in samples], user.long())
            precision = precision * _rows_of([sample.item_precision for sample in samples], item.long())
            noise += (1 / precision).sum(dim=0)
        count = len(self._samples)
        average = total / count
        return average, (squares / count - average.square()).clamp(min=0) + noise / count

    def standard_deviation_table(self, user: Tensor, item: Tensor, mean: Tensor) -> Tensor:
        """Compute the square root of the variance of `moments` for each of these users and items, on the last day.

        One matrix product per sample, several times faster than pair by pair.

        Args:
            user: (B,) int.
            item: (C,) int.
            mean: (B, C) float32, the mean predictions in stars.

        Returns:
            (B, C) float32 in stars.
        """
        squares = torch.zeros_like(mean)
        for factors in self.factors_of_samples():
            difference = factors.user[user] @ factors.item[item].T
            if factors.user_bias is not None and factors.item_bias is not None:
                difference += factors.user_bias[user] + factors.item_bias[item].T
            squares += difference.add_(factors.mean).sub_(mean).square_()
        user_variance = 1 / torch.stack([sample.user_precision[user] for sample in self._samples])
        item_variance = 1 / torch.stack([sample.item_precision[item] for sample in self._samples])
        return ((squares + user_variance.T @ item_variance) / len(self._samples)).sqrt_()

    def factors(self) -> Factors:
        """Return the mean prediction as one product: the samples' factors side by side, divided by their number."""
        if not self._samples:
            return self.equation.factors()
        return self._side_by_side([self._on_last_day(sample) for sample in self._samples])

    def factors_of_samples(self) -> Iterator[Factors]:
        """Yield the factors of each sample, on the last day; without days, the sample's own tables."""
        if not self._samples:
            yield from super().factors_of_samples()
        for sample in self._samples:
            yield Factors(*self._on_last_day(sample)[:4], mean=self._mean)

    def _on_last_day(self, sample: Sample) -> Sample:
        """Select the rows of users and items on their last day, without a copy if they are the same on all days."""
        users, items = self.equation.user_side(), self.equation.item_side()
        if users.rows is not None:
            row = users.last_rows()
            sample = sample._replace(user=sample.user[row], user_bias=_select(sample.user_bias, row))
        if items.rows is not None:
            row = items.last_rows()
            sample = sample._replace(item=sample.item[row], item_bias=_select(sample.item_bias, row))
        return sample

    def traceable(self) -> Equation:
        """Put the samples of all rows side by side: a trace of the loop over samples would be long."""
        if not self._samples:
            return self.equation.traceable()
        users, items = self.equation.user_side(), self.equation.item_side()
        return TraceableRows(self._side_by_side(self._samples), user_days=users.rows, item_days=items.rows)

    def _side_by_side(self, samples: list[Sample]) -> Factors:
        """Return the mean prediction of the samples as one product."""
        groups = list(_by_item_table(samples))
        users = [sum((sample.user for sample in group[1:]), group[0].user) for group in groups]
        return Factors(
            user=torch.cat(users, dim=1) / len(samples),
            item=torch.cat([group[0].item for group in groups], dim=1),
            user_bias=torch.stack(_tables(samples, "user_bias")).mean(dim=0) if self._has_biases else None,
            item_bias=torch.stack(_tables(samples, "item_bias")).mean(dim=0) if self._has_biases else None,
            mean=self._mean,
        )

    def side_rows(self, name: SideName) -> SideRows | None:
        """Return the samples of the rows of the side `name`, with the terms that a new row has too.

        Raises:
            UserError: the samples lack the weights of such a term.
        """
        if not self._samples:
            return self.equation.side_rows(name)
        side = self.equation.user_side() if name == "user" else self.equation.item_side()
        last, terms = side.last_rows(), list[RowTerm]()
        for term in side.terms:
            if term.source is ColumnSource.own:
                continue
            weights = [sample.terms[term.name] for sample in self._samples]
            terms.append(RowTerm(term.source, term.feature, term.design.select_rows(last), weights))
        return SideRows(
            factors=_tables(self._samples, name),
            biases=_tables(self._samples, f"{name}_bias") if self._has_biases else None,
            mean=self._mean,
            last_row=None if side.rows is None else last,
            precision=_tables(self._samples, f"{name}_precision"),
            terms=tuple(terms),
        )

    def item_vectors(self) -> Tensor | None:
        """Return the item embeddings of the current draw."""
        return self.equation.item_vectors()

    def get_extra_state(self) -> dict[str, Tensor]:
        """Stack the samples for state_dict."""
        if not self._samples:
            return {}
        first = self._samples[0]
        names = [name for name in TABLES if getattr(first, name) is not None]
        stacked = {name: torch.stack(_tables(self._samples, name)) for name in names}
        for name in first.terms:
            stacked[f"{TERM_PREFIX}{name}"] = torch.stack([sample.terms[name] for sample in self._samples])
        return stacked

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Load the samples from a state_dict.

        Raises:
            RuntimeError: the samples do not fit this equation's shapes.
        """
        terms = {key.removeprefix(TERM_PREFIX): state[key] for key in state if key.startswith(TERM_PREFIX)}
        samples = []
        for number in range(len(state["user"]) if state else 0):
            tables = [state[name][number] if name in state else None for name in TABLES]
            samples.append(Sample._make([*tables, {name: table[number] for name, table in terms.items()}]))
        shapes = tuple(side.embedding.weight.shape for side in (self.equation.user_side(), self.equation.item_side()))
        if any((each.user.shape, each.item.shape) != shapes for each in samples):
            raise RuntimeError("the samples' shapes differ from the equation's")
        self._samples = samples


class FixedRows(FactorEquation):
    """r̂_ui = μ + b_u + b_i + x_u · y_i over stored rows, such as rows of folded-in users. Not for fitting."""

    regularization = 0.0

    def __init__(self, rows: Factors) -> None:
        """Store the rows without copying them."""
        super().__init__()
        self.rating_mean = rows.mean
        self._user, self._item = nn.Embedding.from_pretrained(rows.user), nn.Embedding.from_pretrained(rows.item)
        self._user_bias = None if rows.user_bias is None else nn.Embedding.from_pretrained(rows.user_bias)
        self._item_bias = None if rows.item_bias is None else nn.Embedding.from_pretrained(rows.item_bias)

    def user_side(self) -> Side:
        """Return the users' rows."""
        return Side(self._user, self._user_bias)

    def item_side(self) -> Side:
        """Return the items' rows."""
        return Side(self._item, self._item_bias)


def _by_item_table(samples: list[Sample]) -> Iterator[list[Sample]]:
    """Group adjacent samples that share their table of items, as the draws of a user folded in do."""
    return (list(group) for _, group in groupby(samples, key=lambda sample: id(sample.item)))


def _select(table: Tensor | None, row: Tensor) -> Tensor | None:
    return None if table is None else table[row]


def _tables(samples: list[Sample], name: str) -> list[Tensor]:
    """Collect a table of each sample, which all samples have."""
    return [getattr(sample, name) for sample in samples]


def _rows_of(tables: list[Tensor], row: Tensor) -> Tensor:
    """Select rows of tables: (N, …) each, row (B,) → (C, B, …). Consecutive identical tables are read once."""
    selected, before = list[Tensor](), None
    for table in tables:
        selected.append(selected[-1] if table is before else table.index_select(0, row))
        before = table
    return selected[0][None] if len(selected) == 1 else torch.stack(selected)
