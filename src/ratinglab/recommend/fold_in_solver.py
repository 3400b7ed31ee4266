"""Fold-in: solve for the weights of new users or items from their ratings, with the other side's weights fixed."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ratinglab.models.design import Design
from ratinglab.models.factors import SideFactors, SideSamples

NUM_PRIOR_ROWS = 2_000
"""Number of trained rows, evenly spaced, from which the prior of a new row is estimated."""
NOISE_DEGREES = 10.0
"""ν of the gamma prior on a new row's noise precision: strength of the pull to the trained rows' median precision, in
ratings. It is not tuned: Gibbs fits drew 6 to 11 for the users of MovieLens 100K and latest-small."""
NOISE_STEPS = 5
"""Number of alternations between a new row and its noise precision."""
PRIOR_COUNTS = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 135, 200)
"""Numbers of ratings for which a prior is estimated, if it depends on implicit feedback. A row uses the largest of
these numbers that does not exceed its own number of ratings."""
MAX_VALUES_AT_ONCE = 1 << 24
"""Number of float64 values held at once: 128 MiB."""
MIN_PRIOR_VARIANCE = 1e-12
"""Minimum prior variance of a weight; identical rows would make the prior singular."""


class Observations(NamedTuple):
    """The ratings and features of new rows, from which their weights are solved for.

    Attributes:
        row: (E,) int64, the new row of each rating, from 0 to num_rows − 1, ascending.
        other: (E,) int64, the row of the other side.
        rating: (E,) float64, in stars.
        num_rows: number of new rows. Some may have no ratings.
        features: F of the new rows for each term of the side that has a feature.
    """

    row: Tensor
    other: Tensor
    rating: Tensor
    num_rows: int
    features: Sequence[Design] = ()

    def extract_row(self, number: int) -> "Observations":
        """Return one row, as row 0."""
        is_selected = self.row == number
        other, features = self.other[is_selected], [design.extract_row(number) for design in self.features]
        return Observations(torch.zeros_like(other), other, self.rating[is_selected], 1, features)


class _RowPrior(NamedTuple):
    """Prior of new rows in each sample: Normal(m + C z + Σ F y, Λ⁻¹).

    Attributes:
        mean: (S, D) float64, m.
        precision: (S, D, D) float64, Λ.
        slope: (S, D, D) float64, Cᵀ, or None for a side without implicit feedback.
    """

    mean: Tensor
    precision: Tensor
    slope: Tensor | None


class _RowPosterior(NamedTuple):
    """Normal(mean, A⁻¹) of each new row in each sample, and the ratings behind it, padded to n per row.

    Attributes:
        mean: (S, B, D) float64.
        root: (S, B, D, D) float64, L with L Lᵀ = A.
        precision: (S, B) float64, α.
        regressors: (S, B, n, D) float64, x.
        weight: (S, B, n) float64, α β, or 0 for padding.
        error: (S, B, n) float64, r − o − v · x.
    """

    mean: Tensor
    root: Tensor
    precision: Tensor
    regressors: Tensor
    weight: Tensor
    error: Tensor


class FoldInSolver:
    """Solver for new rows of one side. The rows of the other side are fixed.

    A new row v has the prior Normal(m + C z + Σ F y, Λ⁻¹). F y are the terms from features; z is the term from implicit
    feedback, the items that the user has rated. m, C and Λ are the intercept, the slopes and the residual precision of
    a linear regression of the trained rows, without their features, on z. If the new row has n ratings, z of each
    trained row is computed from n of its ratings, drawn at random: with few ratings, C is small, because implicit
    feedback then carries little information. With ratings r ~ Normal(o + v · x, 1 / (α β)), v is normal with precision
    A and mean A⁻¹ b:

        A = Λ + α Σ β x xᵀ,   b = Λ (m + C z + Σ F y) + α Σ β x (r − o)

    x are the other side's factors, preceded by 1 if there are biases, and o is the rest of the prediction. With samples
    of the weights, v is computed in each. If each user (or item) has a noise precision α, updates of v and of
    α = E[α | r, v] alternate, with the prior Gamma(ν/2, γ) fitted to the trained precisions. If these are all equal, α
    is fixed at that value.

    Source: Salakhutdinov, Mnih, "Bayesian Probabilistic Matrix Factorization using Markov Chain Monte Carlo", ICML
    2008, equations 11 to 13, for A and b; Efron, Morris, "Stein's Estimation Rule and Its Competitors", JASA 1973, for
    a prior estimated from the trained rows.
    """

    def __init__(self, trained_rows: SideSamples, fixed_rows: SideSamples, *, is_item: bool) -> None:
        """Prepare to solve for rows like `trained_rows`, given `fixed_rows` of the other side; both with precisions."""
        self.trained_rows, self.fixed_rows, self.is_item = trained_rows, fixed_rows, is_item
        self.num_samples = len(trained_rows.samples)
        dim = trained_rows.samples[0].as_matrix().shape[1]
        self.num_draws = 2 if self.num_samples > 1 else 4 * dim
        """Number of draws from each sample."""
        self._rated_terms = [term for term in trained_rows.new_row_terms if term.feature is None]
        self._feature_terms = [term for term in trained_rows.new_row_terms if term.feature is not None]
        self._priors: dict[int, _RowPrior] = {}

    @cached_property
    def _prior_rows(self) -> tuple[Tensor, Tensor]:
        """Select trained rows, (B,), and subtract their features: (S, B, D)."""
        count = self.trained_rows.num_owners
        index = torch.linspace(0, count - 1, min(NUM_PRIOR_ROWS, count)).round().long()
        rows = self.trained_rows.stack_rows(index)
        for term in self._feature_terms:
            tables = [nn.Embedding.from_pretrained(weights) for weights in term.weights]
            rows = rows - torch.stack([term.design.multiply_rows(index, table) for table in tables])
        return index, rows

    def _estimate_prior(self, count: int) -> _RowPrior:
        """Estimate the prior of a row with `count` ratings, one of PRIOR_COUNTS.

        Shrinks both covariances towards their diagonals, with the weight of D rows, to make them invertible.
        """
        if count not in self._priors:
            index, rows = self._prior_rows
            mean, slope = rows.mean(dim=1, keepdim=True), None
            residual = rows - mean
            if self._rated_terms:
                term_sums = torch.zeros_like(rows)
                for term in self._rated_terms:
                    term_sums += _multiply_samples(term.design.sample_columns(index, max_columns=count), term.weights)
                center = term_sums.mean(dim=1, keepdim=True)
                centered = term_sums - center
                slope = torch.linalg.solve(_estimate_covariance(centered), centered.mT @ residual / len(index))
                mean, residual = mean - center @ slope, residual - centered @ slope
            self._priors[count] = _RowPrior(mean[:, 0], torch.linalg.inv(_estimate_covariance(residual)), slope)
        return self._priors[count]

    def solve(self, observed: Observations) -> SideSamples:
        """Solve for new rows, and draw `num_draws` times from their distribution in each sample: S · num_draws samples.

        The draws of a sample have the mean of the distribution. They also have its variance: exactly for point
        estimates, else on average over the samples. Identical ratings give identical draws.
        """
        feature_sums, rated_sums = self._compute_terms(observed)
        counts = torch.bincount(observed.row, minlength=observed.num_rows)
        blocks = self._split_into_blocks(counts)
        draws, precision = list[Tensor](), list[Tensor]()
        for rows in blocks:
            prior = self._compute_prior(int(counts[rows[0]]), feature_sums[:, rows], rated_sums[:, rows])
            posterior = self._solve_block(observed, counts, rows, *prior)
            draws.append(self._draw(posterior).float())
            precision.append(posterior.precision.repeat_interleave(self.num_draws, dim=0).float())
        order = torch.cat(blocks).argsort()
        rows, has_biases = torch.cat(draws, dim=1)[:, order], self.trained_rows.has_biases
        samples = [
            SideFactors(sample[:, 1:], sample[:, :1], alpha) if has_biases else SideFactors(sample, None, alpha)
            for sample, alpha in zip(rows, torch.cat(precision, dim=1)[:, order], strict=True)
        ]
        return SideSamples(samples, self.trained_rows.mean)

    def rating_influences(self, observed: Observations, other_rows: SideSamples, index: Tensor) -> Tensor:
        """Compute the influence of each rating of one new row on its predictions for rows of the other side.

        The influence is the prediction minus the prediction without the rating, with the same α, m, C and Λ. It is
        exact: with h = α β xᵀ A⁻¹ x and e the rating's error, leaving it out moves v by

            −α β e A⁻¹ x / (1 − h) + A₋⁻¹ Λ C δ,   A₋ = A − α β x xᵀ,

        where δ is the change of z.

        Args:
            observed: the ratings and features of one row.
            other_rows: rows of the other side, some of which may be new, with `num_draws` draws from each sample.
            index: (C,) int64, selects from `other_rows`.

        Returns:
            (C, E) float64, in stars, averaged over the samples.

        Source: Cook, Weisberg, "Residuals and Influence in Regression", 1982, section 2.2.
        """
        count = len(observed.row)
        mean, precision = self._compute_prior(count, *self._compute_terms(observed))
        posterior = self._solve_block(observed, torch.tensor([count]), torch.tensor([0]), mean, precision)
        x, weight, error = posterior.regressors[:, 0], posterior.weight[:, 0], posterior.error[:, 0]
        solved_x = torch.cholesky_solve(x.mT, posterior.root[:, 0]).mT  # A⁻¹ x, (S, E, D)
        leverage = (weight * (x * solved_x).sum(dim=2))[..., None]
        change = -(weight * error)[..., None] * solved_x / (1 - leverage)
        shifts = self._compute_prior_shifts(observed.other)
        if shifts is not None:
            solved_shifts = torch.cholesky_solve(precision @ shifts.mT, posterior.root[:, 0]).mT  # A⁻¹ Λ C δ
            change += solved_shifts + (weight * (x * solved_shifts).sum(dim=2))[..., None] * solved_x / (1 - leverage)
        regressors = other_rows.stack_rows(index).unflatten(0, (self.num_samples, self.num_draws)).mean(dim=1)
        if other_rows.has_biases:
            regressors[..., 0] = 1
        return -(regressors @ change.mT).mean(dim=0)

    def _compute_prior_shifts(self, other: Tensor) -> Tensor | None:
        """Compute C δ, the change of one row's prior mean without each rating: (S, E, D). Returns None without C."""
        shifts, count = list[Tensor](), len(other)
        slope = self._estimate_prior(_round_down(count)).slope
        for term in self._rated_terms:
            weights = torch.stack([table[other] for table in term.weights]).double()
            total = weights.sum(dim=1, keepdim=True)
            shifts.append((total - weights) / max(count - 1, 1) ** 0.5 - total / count**0.5)
        return None if slope is None else torch.stack(shifts).sum(dim=0) @ slope

    def _compute_terms(self, observed: Observations) -> tuple[Tensor, Tensor]:
        """Compute Σ F y and z of new rows: (S, B, D) float64 each."""
        _, rows = self._prior_rows
        feature_sums = torch.zeros(len(rows), observed.num_rows, rows.shape[2], dtype=torch.float64)
        rated_sums = torch.zeros_like(feature_sums)
        for term, design in zip(self._feature_terms, observed.features, strict=True):
            feature_sums += _multiply_samples(design, term.weights)
        shape = {"num_rows": observed.num_rows, "num_columns": self.fixed_rows.num_owners}
        design = Design.from_sets(observed.row, observed.other.int(), **shape)
        for term in self._rated_terms:
            rated_sums += _multiply_samples(design, term.weights)
        return feature_sums, rated_sums

    def _compute_prior(self, count: int, feature_sums: Tensor, rated_sums: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the prior of rows with about `count` ratings: m + C z + Σ F y (S, B, D), and Λ (S, D, D)."""
        prior = self._estimate_prior(_round_down(count) if self._rated_terms else 0)
        mean = prior.mean[:, None] + feature_sums
        return mean if prior.slope is None else mean + rated_sums @ prior.slope, prior.precision

    def _split_into_blocks(self, counts: Tensor) -> list[Tensor]:
        """Split new rows, by number of ratings, into blocks of one prior and bounded memory: indices (B,) each.

        Memory holds two copies of x and six D × D matrices per row and sample.
        """
        dim = self._prior_rows[1].shape[2]
        order, blocks, pending = counts.argsort(stable=True).tolist(), list[Tensor](), list[int]()
        for row in order:
            size = (len(pending) + 1) * self.num_samples * dim * (2 * int(counts[row]) + 6 * dim)
            is_same = not pending or _round_down(int(counts[pending[-1]])) == _round_down(int(counts[row]))
            if pending and (size > MAX_VALUES_AT_ONCE or (self._rated_terms and not is_same)):
                blocks.append(torch.tensor(pending))
                pending = []
            pending.append(row)
        return [*blocks, torch.tensor(pending)]

    def _solve_block(
        self, observed: Observations, counts: Tensor, rows: Tensor, prior_mean: Tensor, prior_precision: Tensor
    ) -> _RowPosterior:
        """Compute the distributions of a block of rows: rows (B,), prior_mean (S, B, D), prior_precision (S, D, D)."""
        start = torch.cumsum(counts, dim=0) - counts
        most = int(counts[rows].max())
        is_rating = torch.arange(most) < counts[rows, None]  # (B, n)
        entry = torch.where(is_rating, start[rows, None] + torch.arange(most), 0)
        distinct, index = torch.unique(observed.other[entry], return_inverse=True)
        other_rows = self.fixed_rows.stack_rows(distinct)
        offset = torch.full(other_rows.shape[:2], self.fixed_rows.mean, dtype=torch.float64)
        if self.fixed_rows.has_biases:
            offset += other_rows[..., 0]
            other_rows[..., 0] = 1
        regressors, target = other_rows[:, index], observed.rating[entry] - offset[:, index]
        weight = torch.stack([each[distinct] for each in self.fixed_rows.noise_precisions()])[:, index] * is_rating
        prior_precision = prior_precision[:, None]
        pull = (prior_precision @ prior_mean[..., None])[..., 0]
        gram = (regressors * weight[..., None]).mT @ regressors
        moment = ((weight * target)[..., None] * regressors).sum(dim=2)
        precision, degrees, rate = self._noise_prior
        precision = precision.repeat(1, len(rows))
        for step in range(NOISE_STEPS):
            root = torch.linalg.cholesky(prior_precision + precision[..., None, None] * gram)
            mean = torch.cholesky_solve((pull + precision[..., None] * moment)[..., None], root)[..., 0]
            error = target - (regressors @ mean[..., None])[..., 0]
            if degrees == 0 or step == NOISE_STEPS - 1:
                break
            spread = torch.linalg.solve_triangular(root, regressors.mT, upper=False).square().sum(dim=2)
            squares = (weight * (error.square() + spread)).sum(dim=2)
            precision = (degrees + counts[rows]) / (2 * rate + squares)
        return _RowPosterior(mean, root, precision, regressors, precision[..., None] * weight, error)

    @cached_property
    def _noise_prior(self) -> tuple[Tensor, float, Tensor]:
        """Return the initial α (S, 1), and ν and γ (S, 1) of its prior; ν is 0 if α is fixed."""
        trained = torch.stack(self.trained_rows.noise_precisions()).double()
        # not the mean: users who rate everything alike have far higher precisions
        median = trained.median(dim=1, keepdim=True).values
        is_constant = bool((trained == median).all())
        rate = (NOISE_DEGREES / 2 - 1 / 3) / median  # the median of Gamma(a, γ) is about (a − 1/3) / γ
        return median, 0.0 if is_constant else NOISE_DEGREES, rate

    def _draw(self, posterior: _RowPosterior) -> Tensor:
        """Draw v + L⁻ᵀ z: (S', B, D)."""
        noise = self._noise(posterior.mean.shape[2])
        spread = torch.linalg.solve_triangular(posterior.root.mT, noise[:, None], upper=True)  # (S, B, D, K)
        draws = posterior.mean[..., None] + spread
        return draws.permute(0, 3, 1, 2).flatten(0, 1)

    def _noise(self, dim: int) -> Tensor:
        """Return z for the K draws of each sample: (S, D, K) float64.

        Several samples: z and −z. One sample: ±√D along each axis, twice, so that the signs of both sides cancel in
        x_u · y_i.
        """
        if self.num_samples == 1:
            axes = dim**0.5 * torch.eye(dim, dtype=torch.float64)
            signed_axes = [axes, -axes, axes, -axes] if self.is_item else [axes, axes, -axes, -axes]
            return torch.cat(signed_axes, dim=1)[None]
        generator = torch.Generator().manual_seed(int(self.is_item))
        noise = torch.randn(self.num_samples, dim, generator=generator, dtype=torch.float64)
        return torch.stack([noise, -noise], dim=2)


def _round_down(count: int) -> int:
    """Round a number of ratings down to one of PRIOR_COUNTS."""
    return max(prior_count for prior_count in PRIOR_COUNTS if prior_count <= count)


def _multiply_samples(design: Design, weights: Sequence[Tensor]) -> Tensor:
    """Compute F w in each sample: (S, num_rows, D) float64."""
    return torch.stack([design.multiply(table) for table in weights]).double()


def _estimate_covariance(rows: Tensor) -> Tensor:
    """Estimate the covariance of centered rows, shrunk towards its diagonal: (S, B, D) → (S, D, D)."""
    count, dim = rows.shape[1:]
    scatter = rows.mT @ rows
    variances = torch.diag_embed((scatter.diagonal(dim1=1, dim2=2) / count).clamp(min=MIN_PRIOR_VARIANCE))
    return (scatter + dim * variances) / (count + dim)
