"""Bayesian matrix factorization: weights drawn from their posterior, row by row."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.datamodule import Batch
from ratinglab.fitting.incidence import Incidence
from ratinglab.fitting.kernels.rows import gram
from ratinglab.fitting.optimizers import Gibbs, Noise
from ratinglab.fitting.priors import Array, Normal, draw_normal
from ratinglab.fitting.row_fit import RowFit
from ratinglab.models.bag import Bag
from ratinglab.models.posterior import Posterior, Sample
from ratinglab.models.predictor import Predictor
from ratinglab.models.timesvdpp import TimeSVDpp

SHAPE, RATE = 1.0, 1.0
"""Of the gamma priors on precisions."""
PARTS = {"user": ["user_embedding", "user_drift", "user_implicit"], "item": ["item_implicit", "item_features"]}
"""The tables of an equation that may add a part to the rows of a side, in the order in which they are drawn."""
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
    entry for the bias too, which ends up in the row's. So with genres, each of these parts with a λ of its own. In
    timesvdpp the rows are those of a user on a day, and p_u and the drift are two parts more, with their entries for
    the bias; α_u remains the user's.

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
        """Sample the equation in `predictor.model`, a Posterior of mf, biased_mf, svdpp or timesvdpp."""
        assert isinstance(predictor.model, Posterior)
        super().__init__(predictor, predictor.model.equation)
        factors = predictor.model.factors()
        self.burn_in, self.thin, self.seed = optimizer.burn_in, optimizer.thin, seed
        self.has_own_noise = optimizer.noise == Noise.own
        # buffers, so that they are kept in checkpoints
        for name, count in (("user", len(factors.user)), ("item", len(factors.item))):
            self.register_buffer(f"{name}_precision", torch.ones(count))
        self._parts = {side: [part for part in PARTS[side] if self.table(part) is not None] for side in PARTS}
        if not self.equation.takes_day:
            self._parts["user"].remove("user_embedding")  # these are the rows themselves
        for part in self._parts["user"] + self._parts["item"]:
            self.register_buffer(f"{part}_bias", torch.zeros(len(self._embedding(part)), 1))
            self.register_buffer(f"{part}_precision", torch.ones(()))
        self._incidences: dict[str, Incidence] = {}
        self._user_of_row = np.arange(len(factors.user))
        self._sums: dict[int, tuple[Tensor, int]] = {}

    @property
    def posterior(self) -> Posterior:
        """The samples, and the equation whose weights are drawn next."""
        model = self.predictor.model
        assert isinstance(model, Posterior)
        return model

    def on_train_start(self) -> None:
        """Sort the training rows by user and by item, and what these have."""
        super().on_train_start()
        dim = self.rows("user").shape[1]
        of_days = None
        if isinstance(self.equation, TimeSVDpp):
            self._user_of_row = self.equation.user_of_row.numpy()
            of_user = self._user_of_row.astype(np.int32)
            each = np.arange(len(of_user) + 1)
            num_users = len(self.user_precision)

            def one_hot(scale: Array) -> Incidence:
                return Incidence(each, of_user, num_columns=num_users, scale=scale, dim=dim)

            of_days = one_hot(np.ones(len(of_user), dtype=np.float32))
            self._incidences = {"user_embedding": of_days, "user_drift": one_hot(self.equation.drift.numpy())}
        for part in self._parts["user"] + self._parts["item"]:
            bag = self.table(part)
            if isinstance(bag, Bag):
                self._incidences[part] = Incidence(
                    bag.start.numpy(),
                    bag.column.numpy(),
                    num_columns=bag.num_embeddings,
                    scale=bag.scale.numpy(),
                    dim=dim,
                    spread=of_days if part.startswith("user") else None,
                )

    def training_step(self, batches: list[Batch]) -> None:
        """A sweep: the users' prior and rows, then the items', then the noise."""
        random = np.random.default_rng([self.seed, self.current_epoch])
        users, items = self.rows("user"), self.rows("item")
        user_parts, item_parts = self._added("user"), self._added("item")
        for rows, parts in ((users, user_parts), (items, item_parts)):
            for part in parts.values():
                rows[:, 1:] += part[:, 1:]  # a bias has all its parts in it: the equation adds none there
        self._draw_side("user", users, items, user_parts, random)
        self._draw_side("item", items, users, item_parts, random)
        self._draw_noise(users, items, random)
        if self.current_epoch >= self.burn_in and (self.current_epoch - self.burn_in) % self.thin == 0:
            self._keep(torch.from_numpy(users), torch.from_numpy(items))

    def _draw_side(
        self, name: str, rows: Array, other_rows: Array, parts: dict[str, Array], random: np.random.Generator
    ) -> None:
        """Draw the prior, the parts and, in place, the rows of one side, given the rows of the other."""
        if self.current_epoch == 0:
            prior = Normal(np.zeros(rows.shape[1]), np.eye(rows.shape[1]) / START_STD**2)
        else:
            weights = {part: self._weights(part) for part in parts}
            spread = sum((self._scalar(of) * gram(each, each) for of, each in weights.items()), np.zeros(()))
            count = sum(len(each) for each in weights.values())
            prior = draw_normal(_without(rows, parts), random, spread=spread, spread_rows=count)
        for part in parts:
            others = {other: each for other, each in parts.items() if other != part}
            drawn, precision = self._incidences[part].draw(
                _without(rows, others),
                self._weights(part),
                precision=self._scalar(part),
                prior=prior,
                random=random,
            )
            self._write_part(part, drawn, precision)
            parts[part] = self._incidences[part].part(drawn)
        mean = np.broadcast_to(prior.mean.astype(np.float32), rows.shape)
        self.solve(
            name,
            rows,
            other_rows,
            mean=sum(parts.values(), mean.copy()),
            precision=prior.precision.astype(np.float32),
            scale=np.ones(len(rows), dtype=np.float32),
            weight=self._row_precision(name),
            other_weight=self._row_precision("item" if name == "user" else "user"),
            noise=random.standard_normal(rows.shape, dtype=np.float32),
        )
        own = rows.copy()
        for each in parts.values():
            own[:, 1:] -= each[:, 1:]
        self.write(name, own)

    def _draw_noise(self, users: Array, items: Array, random: np.random.Generator) -> None:
        """Draw the precision of the noise, of each user and then of each item, or one."""
        alpha, beta = self._precision("user"), self._precision("item")
        plain, weighted = self.errors("user", users, items, other_weight=beta)
        if not self.has_own_noise:
            count = len(self._sides["user"].rating)
            alpha[:] = random.gamma(SHAPE + count / 2, 1 / (RATE + plain.sum() / 2))
            return
        counts = self._by_user(self._sides["user"].counts)
        rate = random.gamma(SHAPE + len(alpha) * DEGREES / 2, 1 / (RATE + alpha.sum(dtype=np.float64)))
        alpha[:] = random.gamma((DEGREES + counts) / 2, 1 / (rate + self._by_user(weighted) / 2))
        _, weighted = self.errors("item", items, users, other_weight=self._row_precision("user"))
        beta[:] = random.gamma((DEGREES + self._sides["item"].counts) / 2, 2 / (DEGREES + weighted))

    def _precision(self, name: str) -> Array:
        """(num_users,) or (num_items,) float32, the precision of the noise that each stands for: changed in place."""
        found: Array = getattr(self, f"{name}_precision").numpy()
        return found

    def _row_precision(self, name: str) -> Array:
        """(num_rows,) float32, the same of each row."""
        precision = self._precision(name)
        return precision[self._user_of_row] if name == "user" else precision

    def _by_user(self, values: NDArray[Any]) -> NDArray[Any]:
        """The sum of what each user's rows have: (num_rows,) → (num_users,)."""
        return np.bincount(self._user_of_row, values)

    def _keep(self, users: Tensor, items: Tensor) -> None:
        """Keep the rows, with all their parts, as a sample."""
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

    def score_block(self, batch: Batch, block: int) -> Tensor:
        """The mean of the samples' predictions for a block of rows, of which the sums so far are kept."""
        kept = self.posterior.num_samples
        if kept == 0:
            return super().score_block(batch, block)
        total, seen = self._sums.get(block, (torch.zeros(len(batch.rating), dtype=torch.float64), 0))
        for number in range(seen, kept):
            with self.posterior.only(number):
                total = total + super().score_block(batch, block).double()
        self._sums[block] = total, kept
        return (total / kept).float()

    def _added(self, name: str) -> dict[str, Array]:
        """(num_rows, D) float32 of each part of a side's rows: what follows from what is known of them."""
        return {part: self._incidences[part].part(self._weights(part)) for part in self._parts[name]}

    def _embedding(self, part: str) -> Tensor:
        table = self.table(part)
        assert table is not None
        return table.weight.detach()

    def _weights(self, part: str) -> Array:
        """(num_columns, D) float32: the weights of a part, the bias's first."""
        weights: Array = torch.cat([getattr(self, f"{part}_bias"), self._embedding(part)], dim=1).numpy()
        return weights

    def _scalar(self, part: str) -> float:
        """λ of a part."""
        return float(getattr(self, f"{part}_precision"))

    def _write_part(self, part: str, weights: Array, precision: float) -> None:
        getattr(self, f"{part}_bias").copy_(torch.from_numpy(weights[:, :1]))
        self._embedding(part).copy_(torch.from_numpy(weights[:, 1:]))
        getattr(self, f"{part}_precision").fill_(precision)


def _without(rows: Array, parts: dict[str, Array]) -> Array:
    """The rows less these parts: (num_rows, D) float32."""
    for part in parts.values():
        rows = rows - part
    return rows
