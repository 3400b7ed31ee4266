"""Fold-in: solve for the weights of new users or items from their ratings, with the other side's weights fixed."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ratinglab.models.design import Design
from ratinglab.models.equation import ColumnSource, SideFactors, SideRows

NUM_PRIOR_ROWS = 2_000
"""Number of trained rows, evenly spaced, from which the prior of a new row is estimated."""
NOISE_DEGREES = 10.0
"""ν of the gamma prior on a new row's noise precision: strength of the pull to the trained rows' median precision, in
ratings. It does not follow the ν that a fit drew: 6 to 11 for the users of MovieLens 100K and latest-small."""
NOISE_STEPS = 5
"""Number of alternations between a new row and its noise precision."""
COUNTS = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 135, 200)
"""Numbers of ratings for which a prior is estimated, if it depends on implicit feedback. A row uses the largest that
does not exceed its own number."""
MAX_VALUES_AT_ONCE = 1 << 24
"""Number of float64 values held at once: 128 MiB."""
MIN_PRIOR_VARIANCE = 1e-12
"""Minimum prior variance of a weight; identical rows would make the prior singular."""


class NewRows(NamedTuple):
    """Ratings, sorted by row, and features of new rows.

    Attributes:
        row: (E,) int64, from 0 to num_rows − 1.
        other: (E,) int64, rows of the other side.
        rating: (E,) float64, in stars.
        num_rows: number of new rows; rows without ratings are allowed.
        features: F of the new rows for each term of the side that has a feature.
    """

    row: Tensor
    other: Tensor
    rating: Tensor
    num_rows: int
    features: Sequence[Design] = ()

    def single(self, number: int) -> "NewRows":
        """Return one row."""
        is_own = self.row == number
        other, features = self.other[is_own], [design.single_row(number) for design in self.features]
        return NewRows(torch.zeros_like(other), other, self.rating[is_own], 1, features)


class _Prior(NamedTuple):
    """Prior of new rows in each sample: Normal(m + C z + Σ F y, Λ⁻¹).

    Attributes:
        mean: (S, D) float64, m.
        precision: (S, D, D) float64, Λ.
        slope: (S, D, D) float64, Cᵀ; None for a side without implicit feedback.
    """

    mean: Tensor
    precision: Tensor
    slope: Tensor | None


class _Posterior(NamedTuple):
    """Normal(mean, A⁻¹) of each new row in each sample, and the ratings behind it, padded to n per row.

    Attributes:
        mean: (S, B, D) float64.
        root: (S, B, D, D) float64, L with L Lᵀ = A.
        precision: (S, B) float64, α.
        features: (S, B, n, D) float64, x.
        weight: (S, B, n) float64, α β; 0 for padding.
        error: (S, B, n) float64, r − o − v · x.
    """

    mean: Tensor
    root: Tensor
    precision: Tensor
    features: Tensor
    weight: Tensor
    error: Tensor


class FoldInSolver:
    """Solver for new rows of one side. The rows of the other side are fixed.

    A new row v has the prior Normal(m + C z + Σ F y, Λ⁻¹). F y are the terms from features; z is the term from implicit
    feedback, the items that the user has rated. m, C and Λ are the intercept, the slopes and the residual precision of
    a linear regression of the trained rows, without their features, on z. If the new row has n ratings, z of each
    trained row is computed from n of its ratings, drawn at random: with few ratings, C is small because implicit
    feedback carries little information. With ratings r ~ Normal(o + v · x, 1 / (α β)), v is normal with precision A and
    mean A⁻¹ b:

        A = Λ + α Σ β x xᵀ,   b = Λ (m + C z + Σ F y) + α Σ β x (r − o)

    x are the other side's factors, preceded by 1 if there are biases, and o is the rest of the prediction. With samples
    of the weights, v is computed in each. If each user (or item) has a noise precision α, updates of v and of
    α = E[α | r, v] alternate, with the prior Gamma(ν/2, γ) fitted to the trained precisions. If these are all equal, α
    is fixed to them.

    Source: Salakhutdinov, Mnih, "Bayesian Probabilistic Matrix Factorization using Markov Chain Monte Carlo", ICML
    2008, equations 11 to 13, for A and b; Efron, Morris, "Stein's Estimation Rule and Its Competitors", JASA 1973, for
    a prior estimated from the trained rows.
    """

    def __init__(self, own: SideRows, other: SideRows, *, is_item: bool) -> None:
        """`own` has the trained rows of this side, `other` those of the fixed side; both with precisions."""
        self.own, self.other, self.is_item = own, other, is_item
        self.num_samples = len(own.samples)
        dim = own.samples[0].joined().shape[1]
        self.draws = 2 if self.num_samples > 1 else 4 * dim
        """Number of draws from each sample."""
        self._rated_terms = [term for term in own.terms if term.source is ColumnSource.rated]
        self._feature_terms = [term for term in own.terms if term.source is ColumnSource.feature]
        self._priors: dict[int, _Prior] = {}

    @cached_property
    def _prior_rows(self) -> tuple[Tensor, Tensor]:
        """Select trained rows, (B,), and subtract their features: (S, B, D)."""
        index = torch.linspace(0, self.own.num_owners - 1, min(NUM_PRIOR_ROWS, self.own.num_owners)).round().long()
        rows = self.own.take(index)
        for term in self._feature_terms:
            tables = [nn.Embedding.from_pretrained(weights) for weights in term.weights]
            rows = rows - torch.stack([term.design.times(index, table) for table in tables])
        return index, rows

    def _prior(self, count: int) -> _Prior:
        """Estimate the prior of a row with `count` ratings, one of COUNTS.

        Shrinks both covariances towards their diagonals, with the weight of D rows, so that they are invertible.
        """
        if count not in self._priors:
            index, rows = self._prior_rows
            mean, slope = rows.mean(dim=1, keepdim=True), None
            residual = rows - mean
            if self._rated_terms:
                some = torch.zeros_like(rows)
                for term in self._rated_terms:
                    some += _times(term.design.some_columns(index, most=count), term.weights)
                center = some.mean(dim=1, keepdim=True)
                slope = torch.linalg.solve(_shrunk(some - center), (some - center).mT @ residual / len(index))
                mean, residual = mean - center @ slope, residual - (some - center) @ slope
            self._priors[count] = _Prior(mean[:, 0], torch.linalg.inv(_shrunk(residual)), slope)
        return self._priors[count]

    def solve(self, new: NewRows) -> SideRows:
        """Solve for new rows, and draw `draws` times from their distribution in each sample: S · draws samples.

        The draws of a sample have the mean of the distribution. They also have its variance: exactly for point
        estimates, else on average over the samples. Equal ratings give equal draws.
        """
        features, rated = self._terms_of(new)
        counts = torch.bincount(new.row, minlength=new.num_rows)
        blocks = self._blocks(counts)
        drawn, precision = list[Tensor](), list[Tensor]()
        for rows in blocks:
            prior = self._prior_of(int(counts[rows[0]]), features[:, rows], rated[:, rows])
            posterior = self._solve_block(new, counts, rows, *prior)
            drawn.append(self._draw(posterior).float())
            precision.append(posterior.precision.repeat_interleave(self.draws, dim=0).float())
        order = torch.cat(blocks).argsort()
        rows, has_biases = torch.cat(drawn, dim=1)[:, order], self.own.has_biases
        samples = [
            SideFactors(sample[:, 1:], sample[:, :1], alpha) if has_biases else SideFactors(sample, None, alpha)
            for sample, alpha in zip(rows, torch.cat(precision, dim=1)[:, order], strict=True)
        ]
        return SideRows(samples, self.own.mean)

    def changes(self, new: NewRows, other_features: Tensor) -> Tensor:
        """Compute how much each rating of one new row changed its predictions for rows of the other side.

        The change is the prediction minus the prediction without the rating, with the same α, m, C and Λ. It is exact:
        with h = α β xᵀ A⁻¹ x and e the rating's error, leaving it out moves v by

            −α β e A⁻¹ x / (1 − h) + A₋⁻¹ Λ C δ,   A₋ = A − α β x xᵀ,

        where δ is the change of z.

        Args:
            new: one row.
            other_features: (S, C, D) float64, x of these rows, from `features`.

        Returns:
            (C, E) float64, in stars, averaged over the samples.

        Source: Cook, Weisberg, "Residuals and Influence in Regression", 1982, section 2.2.
        """
        count = len(new.row)
        mean, precision = self._prior_of(count, *self._terms_of(new))
        posterior = self._solve_block(new, torch.tensor([count]), torch.tensor([0]), mean, precision)
        x, weight, error = posterior.features[:, 0], posterior.weight[:, 0], posterior.error[:, 0]
        solved = torch.cholesky_solve(x.mT, posterior.root[:, 0]).mT  # A⁻¹ x, (S, E, D)
        leverage = (weight * (x * solved).sum(dim=2))[..., None]
        moved = -(weight * error)[..., None] * solved / (1 - leverage)
        shift = self._shift_of_terms(new.other)
        if shift is not None:
            pulled = torch.cholesky_solve(precision @ shift.mT, posterior.root[:, 0]).mT
            moved += pulled + (weight * (x * pulled).sum(dim=2))[..., None] * solved / (1 - leverage)
        return -(other_features @ moved.mT).mean(dim=0)

    def _shift_of_terms(self, other: Tensor) -> Tensor | None:
        """Compute C δ, the change of one row's prior mean without each rating: (S, E, D); None if there is none."""
        shifts, count = list[Tensor](), len(other)
        slope = self._prior(_nearest_below(count)).slope
        for term in self._rated_terms:
            weights = torch.stack([table[other] for table in term.weights]).double()
            total = weights.sum(dim=1, keepdim=True)
            shifts.append((total - weights) / max(count - 1, 1) ** 0.5 - total / count**0.5)
        return None if slope is None else torch.stack(shifts).sum(dim=0) @ slope

    def _terms_of(self, new: NewRows) -> tuple[Tensor, Tensor]:
        """Compute Σ F y and z of new rows: (S, B, D) float64 each."""
        _, rows = self._prior_rows
        features, rated = (torch.zeros(len(rows), new.num_rows, rows.shape[2], dtype=torch.float64) for _ in range(2))
        for term, design in zip(self._feature_terms, new.features, strict=True):
            features += _times(design, term.weights)
        design = Design.from_sets(new.row, new.other.int(), num_rows=new.num_rows, num_columns=self.other.num_owners)
        for term in self._rated_terms:
            rated += _times(design, term.weights)
        return features, rated

    def _prior_of(self, count: int, features: Tensor, rated: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the prior of rows with about `count` ratings: m + C z + Σ F y (S, B, D), and Λ (S, D, D)."""
        prior = self._prior(_nearest_below(count) if self._rated_terms else 0)
        mean = prior.mean[:, None] + features
        return mean if prior.slope is None else mean + rated @ prior.slope, prior.precision

    def _blocks(self, counts: Tensor) -> list[Tensor]:
        """Split new rows, by number of ratings, into blocks of one prior and bounded memory: indices (B,) each.

        Memory holds two copies of x and six D × D matrices per row and sample.
        """
        dim = self._prior_rows[1].shape[2]
        order, blocks, pending = counts.argsort(stable=True).tolist(), list[Tensor](), list[int]()
        for row in order:
            size = (len(pending) + 1) * self.num_samples * dim * (2 * int(counts[row]) + 6 * dim)
            is_same = not pending or _nearest_below(int(counts[pending[-1]])) == _nearest_below(int(counts[row]))
            if pending and (size > MAX_VALUES_AT_ONCE or (self._rated_terms and not is_same)):
                blocks.append(torch.tensor(pending))
                pending = []
            pending.append(row)
        return [*blocks, torch.tensor(pending)]

    def features(self, others: SideRows, index: Tensor) -> Tensor:
        """Return x of rows of the other side, which may be extended: `draws` samples for each of the S samples.

        index (C,) int64 → (S, C, D) float64, averaged over the draws of each sample.
        """
        drawn = others.take(index)
        features = drawn.unflatten(0, (self.num_samples, self.draws)).mean(dim=1)
        if others.has_biases:
            features[..., 0] = 1
        return features

    def _solve_block(
        self, new: NewRows, counts: Tensor, rows: Tensor, prior_mean: Tensor, prior_precision: Tensor
    ) -> _Posterior:
        """Compute the distributions of a block of rows: rows (B,), prior_mean (S, B, D), prior_precision (S, D, D)."""
        start = torch.cumsum(counts, dim=0) - counts
        most = int(counts[rows].max())
        is_rating = torch.arange(most) < counts[rows, None]  # (B, n)
        place = torch.where(is_rating, start[rows, None] + torch.arange(most), 0)
        distinct, index = torch.unique(new.other[place], return_inverse=True)
        known = self.other.take(distinct)
        offset = torch.full(known.shape[:2], self.other.mean, dtype=torch.float64)
        if self.other.has_biases:
            offset += known[..., 0]
            known[..., 0] = 1
        features, target = known[:, index], new.rating[place] - offset[:, index]
        weight = torch.stack([precision[distinct] for precision in self.other.precisions()])[:, index] * is_rating
        prior_precision = prior_precision[:, None]
        pull = (prior_precision @ prior_mean[..., None])[..., 0]
        gram = (features * weight[..., None]).mT @ features
        moment = ((weight * target)[..., None] * features).sum(dim=2)
        precision, degrees, rate = self._noise_prior
        precision = precision.repeat(1, len(rows))
        for step in range(NOISE_STEPS):
            root = torch.linalg.cholesky(prior_precision + precision[..., None, None] * gram)
            mean = torch.cholesky_solve((pull + precision[..., None] * moment)[..., None], root)[..., 0]
            error = target - (features @ mean[..., None])[..., 0]
            if degrees == 0 or step == NOISE_STEPS - 1:
                break
            spread = torch.linalg.solve_triangular(root, features.mT, upper=False).square().sum(dim=2)
            squares = (weight * (error.square() + spread)).sum(dim=2)
            precision = (degrees + counts[rows]) / (2 * rate + squares)
        return _Posterior(mean, root, precision, features, precision[..., None] * weight, error)

    @cached_property
    def _noise_prior(self) -> tuple[Tensor, float, Tensor]:
        """Return the initial α (S, 1), and ν and γ (S, 1) of its prior; ν is 0 if α is fixed."""
        trained = torch.stack(self.own.precisions()).double()
        # not the mean: users who rate everything alike have far higher precisions
        middle = trained.median(dim=1, keepdim=True).values
        is_common = bool((trained == middle).all())
        rate = (NOISE_DEGREES / 2 - 1 / 3) / middle  # the median of Gamma(a, γ) is about (a − 1/3) / γ
        return middle, 0.0 if is_common else NOISE_DEGREES, rate

    def _draw(self, posterior: _Posterior) -> Tensor:
        """Draw v + L⁻ᵀ z: (S', B, D)."""
        noise = self._noise(posterior.mean.shape[2])
        spread = torch.linalg.solve_triangular(posterior.root.mT, noise[:, None], upper=True)  # (S, B, D, K)
        drawn = posterior.mean[..., None] + spread
        return drawn.permute(0, 3, 1, 2).flatten(0, 1)

    def _noise(self, dim: int) -> Tensor:
        """Return z for the K draws of each sample: (S, D, K) float64.

        Several samples: z and −z. One sample: ±√D along each axis, twice, so that the signs of both sides cancel in
        x_u · y_i.
        """
        if self.num_samples == 1:
            axes = dim**0.5 * torch.eye(dim, dtype=torch.float64)
            quarters = [axes, -axes, axes, -axes] if self.is_item else [axes, axes, -axes, -axes]
            return torch.cat(quarters, dim=1)[None]
        generator = torch.Generator().manual_seed(int(self.is_item))
        drawn = torch.randn(self.num_samples, dim, generator=generator, dtype=torch.float64)
        return torch.stack([drawn, -drawn], dim=2)


def _nearest_below(count: int) -> int:
    """Find the largest of COUNTS that is at most `count`."""
    return max(listed for listed in COUNTS if listed <= count)


def _times(design: Design, weights: Sequence[Tensor]) -> Tensor:
    """Compute F w in each sample: (S, num_rows, D) float64."""
    return torch.stack([design.times_all(table) for table in weights]).double()


def _shrunk(rows: Tensor) -> Tensor:
    """Estimate the covariance of centred rows, shrunk towards its diagonal: (S, B, D) → (S, D, D)."""
    count, dim = rows.shape[1:]
    scatter = rows.mT @ rows
    variances = torch.diag_embed((scatter.diagonal(dim1=1, dim2=2) / count).clamp(min=MIN_PRIOR_VARIANCE))
    return (scatter + dim * variances) / (count + dim)
