"""Bayesian matrix factorization: weights drawn from their posterior, row by row."""

import numpy as np
import torch
from torch import Tensor

from ratinglab.datamodule import Batch
from ratinglab.fitting.implicit import Implicit
from ratinglab.fitting.kernels.rows import gram
from ratinglab.fitting.optimizers import Gibbs, Noise
from ratinglab.fitting.priors import Array, Normal, draw_normal
from ratinglab.fitting.row_fit import RowFit
from ratinglab.models.posterior import Posterior, Sample
from ratinglab.models.predictor import Predictor

SHAPE, RATE = 1.0, 1.0
"""Of the gamma priors on precisions."""
DEGREES = 10.0
"""ν of the gamma priors on the precisions of single users and items: as many ratings hold each to what is common."""
START_STD = 0.1
"""Of what the first rows are drawn from: a prior drawn given weights near 0 would keep them there for long."""


class GibbsFit(RowFit):
    """Draws the weights from their posterior given the ratings, a sweep an epoch, and keeps samples of them.

    r ~ Normal(r̂, 1/(α_u β_i)): each user and each item has a precision of its own, α_u ~ Gamma(ν/2, γ) with
    γ ~ Gamma(1, 1), and β_i ~ Gamma(ν/2, ν/2), ν = 10. Where the options ask for one noise, all α_u are the same, from
    Gamma(1, 1), and all β_i are 1.

    A row v of weights is a user's bias and factors together, or an item's: v ~ Normal(m, Λ⁻¹), with m and Λ of each
    side from a Normal–Wishart prior (m₀ = 0, β₀ = 2, ν₀ = D, W₀ = I). Each is drawn given all others, from the
    distribution that follows in closed form: a whole row at once, and all rows of a side at the same time. Nothing is
    tuned; model.regularization is not read.

    In svdpp a row's mean is m + |N|^−½ Σ_{j ∈ N} y_j, with y ~ Normal(0, (λ Λ)⁻¹) and λ ~ Gamma(1, 1); here y has an
    entry for the bias too, which ends up in the user's.

    No draw depends on the number of threads.

    Sources: Salakhutdinov, Mnih, "Bayesian Probabilistic Matrix Factorization using Markov Chain Monte Carlo", ICML
    2008; Lakshminarayanan, Bouchard, Archambeau, "Robust Bayesian Matrix Factorisation", AISTATS 2011, for the noise of
    each user and item; Simm et al., "Macau: Scalable Bayesian Factorization with High-Dimensional Side Information
    Using MCMC", MLSP 2017, for the y; Rendle, Zhang, Koren, "On the Difficulty of Evaluating Baselines", 2019, for who
    rated what as side information of users and of items.
    """

    user_precision: Tensor
    item_precision: Tensor

    def __init__(self, predictor: Predictor, *, optimizer: Gibbs, seed: int) -> None:
        """Sample the equation inside `predictor.model`, which must be a Posterior of mf, biased_mf or svdpp."""
        assert isinstance(predictor.model, Posterior)
        super().__init__(predictor, predictor.model.equation)
        self.burn_in, self.thin, self.seed = optimizer.burn_in, optimizer.thin, seed
        self.has_own_noise = optimizer.noise == Noise.own
        # buffers, so that they are kept in checkpoints
        for name in ("user", "item"):
            self.register_buffer(f"{name}_precision", torch.ones(len(self.rows(name))))
            implicit = self.table(f"{name}_implicit")
            if implicit is not None:
                self.register_buffer(f"{name}_implicit_bias", torch.zeros(len(implicit.weight), 1))
                self.register_buffer(f"{name}_implicit_precision", torch.ones(()))
        self._implicit: dict[str, Implicit] = {}
        self._sums: dict[int, tuple[Tensor, int]] = {}

    @property
    def posterior(self) -> Posterior:
        """The samples, and the equation whose weights are drawn next."""
        model = self.predictor.model
        assert isinstance(model, Posterior)
        return model

    def on_train_start(self) -> None:
        """Sort the training rows by user and by item."""
        super().on_train_start()
        for name, other in (("user", "item"), ("item", "user")):
            if self.table(f"{name}_implicit") is not None:
                self._implicit[name] = Implicit(self._sides[name], self._sides[other])

    def training_step(self, batches: list[Batch]) -> None:
        """A sweep: the users' prior and rows, then the items', then the noise."""
        random = np.random.default_rng([self.seed, self.current_epoch])
        users, items = self.rows("user"), self.rows("item")
        for name, rows in (("user", users), ("item", items)):
            rows[:, 1:] += self._part(name)[:, 1:]  # a bias has its part in it: the equation adds none there
        self._draw_side("user", users, items, random)
        self._draw_side("item", items, users, random)
        self._draw_noise(users, items, random)
        if self.current_epoch >= self.burn_in and (self.current_epoch - self.burn_in) % self.thin == 0:
            self._keep(torch.from_numpy(users), torch.from_numpy(items))

    def _draw_side(self, name: str, rows: Array, other_rows: Array, random: np.random.Generator) -> None:
        """Draw the prior and, in place, the rows of one side, given the rows of the other."""
        weights, part = self._implicit_rows(name), self._part(name)
        precision = float(getattr(self, f"{name}_implicit_precision", 1.0))
        if self.current_epoch == 0:
            prior = Normal(np.zeros(rows.shape[1]), np.eye(rows.shape[1]) / START_STD**2)
        else:
            spread = precision * gram(weights, weights)
            prior = draw_normal(rows - part, random, spread=spread, spread_rows=len(weights))
        if name in self._implicit:
            weights, precision = self._implicit[name].draw(
                rows, weights, precision=precision, prior=prior, random=random
            )
            self._write_implicit(name, weights, precision)
            part = self._implicit[name].part(weights)
        self.solve(
            name,
            rows,
            other_rows,
            mean=part + prior.mean.astype(np.float32),
            precision=prior.precision.astype(np.float32),
            scale=np.ones(len(rows), dtype=np.float32),
            weight=self._precision(name),
            other_weight=self._precision("item" if name == "user" else "user"),
            noise=random.standard_normal(rows.shape, dtype=np.float32),
        )
        own = rows.copy()
        own[:, 1:] -= part[:, 1:]
        self.write(name, own)

    def _draw_noise(self, users: Array, items: Array, random: np.random.Generator) -> None:
        """Draw the precision of the noise, of each user and then of each item, or one."""
        alpha, beta = self._precision("user"), self._precision("item")
        plain, weighted = self.errors("user", users, items, other_weight=beta)
        if not self.has_own_noise:
            count = len(self._sides["user"].rating)
            alpha[:] = random.gamma(SHAPE + count / 2, 1 / (RATE + plain.sum() / 2))
            return
        rate = random.gamma(SHAPE + len(alpha) * DEGREES / 2, 1 / (RATE + alpha.sum(dtype=np.float64)))
        alpha[:] = random.gamma((DEGREES + self._sides["user"].counts) / 2, 1 / (rate + weighted / 2))
        _, weighted = self.errors("item", items, users, other_weight=alpha)
        beta[:] = random.gamma((DEGREES + self._sides["item"].counts) / 2, 2 / (DEGREES + weighted))

    def _precision(self, name: str) -> Array:
        """(num_rows,) float32, the precision of the noise that each row stands for: changed in place."""
        found: Array = getattr(self, f"{name}_precision").numpy()
        return found

    def _keep(self, users: Tensor, items: Tensor) -> None:
        """Keep the rows, with their implicit parts, as a sample."""
        first = 1 if self.has_biases else 0
        self.posterior.keep(
            Sample(
                user=users[:, first:].clone(),
                item=items[:, first:].clone(),
                user_bias=users[: len(users) * first, :1].clone(),
                item_bias=items[: len(items) * first, :1].clone(),
                user_precision=self.user_precision.clone(),
                item_precision=self.item_precision.clone(),
            )
        )

    def score_block(self, user: Tensor, item: Tensor, block: int) -> Tensor:
        """The mean of the samples' predictions for a block of rows, of which the sums so far are kept."""
        kept = self.posterior.num_samples
        if kept == 0:
            return self.predictor.score(user, item)
        total, seen = self._sums.get(block, (torch.zeros(len(user), dtype=torch.float64), 0))
        for number in range(seen, kept):
            with self.posterior.only(number):
                total = total + self.predictor.score(user, item).double()
        self._sums[block] = total, kept
        return (total / kept).float()

    def _part(self, name: str) -> Array:
        """(num_rows, D) float32: what follows from who rated what; 0 where nothing does."""
        weights = self._implicit_rows(name)
        if name not in self._implicit:
            return np.zeros((self._sides[name].num_rows, weights.shape[1]), dtype=np.float32)
        return self._implicit[name].part(weights)

    def _implicit_rows(self, name: str) -> Array:
        """(num_others, D) float32: the implicit weights, the bias's first; of no row where there are none."""
        implicit = self.table(f"{name}_implicit")
        if implicit is None:
            return self.rows(name)[:0]
        rows: Array = torch.cat([getattr(self, f"{name}_implicit_bias"), implicit.weight.detach()], dim=1).numpy()
        return rows

    def _write_implicit(self, name: str, weights: Array, precision: float) -> None:
        implicit = self.table(f"{name}_implicit")
        assert implicit is not None
        with torch.no_grad():
            getattr(self, f"{name}_implicit_bias").copy_(torch.from_numpy(weights[:, :1]))
            implicit.weight.copy_(torch.from_numpy(weights[:, 1:]))
        getattr(self, f"{name}_implicit_precision").fill_(precision)
