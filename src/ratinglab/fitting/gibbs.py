"""Bayesian matrix factorization: weights drawn from their posterior, row by row."""

import numba
import numpy as np
import torch
from torch import Tensor, nn

from ratinglab.datamodule import Batch, RatingDataModule
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.implicit import Implicit
from ratinglab.fitting.kernels.rows import gram, load, sample_rows, squared_errors
from ratinglab.fitting.optimizers import Gibbs
from ratinglab.fitting.priors import Array, Normal, draw_normal
from ratinglab.fitting.sides import sides
from ratinglab.models.posterior import Posterior, Sample
from ratinglab.models.predictor import Predictor

SHAPE, RATE = 1.0, 1.0
"""Of the gamma prior on the precision of the noise."""
START_STD = 0.1
"""Of what the first rows are drawn from: a prior drawn given weights near 0 would keep them there for long."""


class GibbsFit(Fit):
    """Draws the weights from their posterior given the ratings, a sweep an epoch, and keeps samples of them.

    r ~ Normal(r̂, 1/α). A row v of weights is a user's bias and factors together, or an item's: v ~ Normal(m, Λ⁻¹), with
    m and Λ of each side from a Normal–Wishart prior (m₀ = 0, β₀ = 2, ν₀ = D, W₀ = I), and α from Gamma(1, 1). Each is
    drawn given all others, from the distribution that follows in closed form: a whole row at once, and all rows of a
    side at the same time. Nothing is tuned; model.regularization is not read.

    In svdpp a row's mean is m + |N|^−½ Σ_{j ∈ N} y_j, with y ~ Normal(0, (λ Λ)⁻¹) and λ ~ Gamma(1, 1); here y has an
    entry for the bias too, which ends up in the user's.

    No draw depends on the number of threads.

    Sources: Salakhutdinov, Mnih, "Bayesian Probabilistic Matrix Factorization using Markov Chain Monte Carlo", ICML
    2008; Simm et al., "Macau: Scalable Bayesian Factorization with High-Dimensional Side Information Using MCMC", MLSP
    2017, for the y; Rendle, Zhang, Koren, "On the Difficulty of Evaluating Baselines", 2019, for who rated what as
    side information of users and of items.
    """

    noise_precision: Tensor

    def __init__(self, predictor: Predictor, *, optimizer: Gibbs, seed: int) -> None:
        """Sample the equation inside `predictor.model`, which must be a Posterior of mf, biased_mf or svdpp."""
        super().__init__(predictor, lr=None)
        self.burn_in, self.thin, self.seed = optimizer.burn_in, optimizer.thin, seed
        factors = self.posterior.equation.factors()
        assert factors is not None, "the options refuse an equation without factors"
        self._mean, self._has_biases = np.float32(factors.mean), factors.biases[0] is not None
        # buffers, so that they are kept in checkpoints
        self.register_buffer("noise_precision", torch.ones(()))
        for name in ("user", "item"):
            implicit = self._embedding(f"{name}_implicit")
            if implicit is not None:
                self.register_buffer(f"{name}_implicit_bias", torch.zeros(len(implicit.weight), 1))
                self.register_buffer(f"{name}_implicit_precision", torch.ones(()))
        load()  # before the clock of the fit runs
        self._implicit: dict[str, Implicit] = {}
        self._sums: dict[int, tuple[Tensor, int]] = {}
        self._train_mse = 0.0

    @property
    def posterior(self) -> Posterior:
        """The samples, and the equation whose weights are drawn next."""
        model = self.predictor.model
        assert isinstance(model, Posterior)
        return model

    def configure_optimizers(self) -> None:
        """None: the weights are drawn in place."""

    def on_train_start(self) -> None:
        """Sort the training rows by user and by item."""
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, RatingDataModule)
        embedding = self._embedding("user_embedding")
        assert embedding is not None
        dim = embedding.embedding_dim + self._has_biases
        by_user, by_item = sides(data.train_ratings, num_users=data.num_users, num_items=data.num_items, dim=dim)
        self._sides = {"user": by_user, "item": by_item}
        for name, side, other in (("user", by_user, by_item), ("item", by_item, by_user)):
            if self._embedding(f"{name}_implicit") is not None:
                self._implicit[name] = Implicit(side, other)

    def training_step(self, batches: list[Batch]) -> None:
        """A sweep: the users' prior and rows, then the items', then the noise."""
        random = np.random.default_rng([self.seed, self.current_epoch])
        users, items = self._rows("user"), self._rows("item")
        self._draw_side("user", users, items, random)
        self._draw_side("item", items, users, random)
        by_user = self._sides["user"]
        squares = squared_errors(
            by_user.bounds, by_user.start, by_user.other, by_user.rating, users, *self._as_features(items)
        )
        count = len(by_user.rating)
        self._train_mse = squares / count
        self.noise_precision.fill_(random.gamma(SHAPE + count / 2, 1 / (RATE + squares / 2)))
        if self.current_epoch >= self.burn_in and (self.current_epoch - self.burn_in) % self.thin == 0:
            split = 1 if self._has_biases else 0
            user, item = torch.from_numpy(users), torch.from_numpy(items)
            self.posterior.keep(
                Sample(
                    user=user[:, split:].clone(),
                    item=item[:, split:].clone(),
                    user_bias=user[: len(user) * split, :1].clone(),
                    item_bias=item[: len(item) * split, :1].clone(),
                    noise_precision=self.noise_precision.clone(),
                )
            )

    def _draw_side(self, name: str, rows: Array, other_rows: Array, random: np.random.Generator) -> None:
        """Draw the prior and, in place, the rows of one side, given the rows of the other."""
        side = self._sides[name]
        implicit = self._implicit.get(name)
        part, weights, precision = np.zeros_like(rows), rows[:0], 1.0
        if implicit is not None:
            weights, precision = self._implicit_rows(name), float(getattr(self, f"{name}_implicit_precision"))
            part = implicit.part(weights)
        spread = precision * gram(weights, weights)
        if self.current_epoch == 0:
            prior = Normal(np.zeros(rows.shape[1]), np.eye(rows.shape[1]) / START_STD**2)
        else:
            prior = draw_normal(rows - part, random, spread=spread, spread_rows=len(weights))
        if implicit is not None:
            weights, precision = implicit.draw(rows, weights, precision=precision, prior=prior, random=random)
            part = implicit.part(weights)
            self._write_implicit(name, weights, precision)
        sample_rows(
            side.bounds,
            side.start,
            side.other,
            side.rating,
            *self._as_features(other_rows),
            part + prior.mean.astype(np.float32),
            prior.precision.astype(np.float32),
            np.float32(float(self.noise_precision)),
            np.ones(len(rows), dtype=np.float32),
            random.standard_normal(rows.shape, dtype=np.float32),
            rows,
        )
        self._write(name, rows, part)

    def train_mse(self) -> float:
        """The pooled squared error of the training rows under the weights of this epoch, drawn given these rows."""
        return self._train_mse

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

    def _embedding(self, name: str) -> nn.Embedding | None:
        """An equation's table of weights, where it has one of that name."""
        found: nn.Embedding | None = getattr(self.posterior.equation, name, None)
        return found

    def _rows(self, name: str) -> Array:
        """(num_rows, D) float32: each row's bias, where there are biases, and its factors with their implicit part."""
        embedding, bias = self._embedding(f"{name}_embedding"), self._embedding(f"{name}_bias")
        assert embedding is not None
        columns = [embedding.weight] if bias is None else [bias.weight, embedding.weight]
        rows: Array = torch.cat(columns, dim=1).detach().numpy()
        if name in self._implicit:
            rows[:, 1:] += self._implicit[name].part(self._implicit_rows(name))[:, 1:]
        return rows

    def _as_features(self, rows: Array) -> tuple[Array, Array]:
        """What the other side's rows are multiplied with, and what is added: the 1 of its bias, and this bias and μ."""
        if not self._has_biases:
            return rows, np.full(len(rows), self._mean)
        features = rows.copy()
        features[:, 0] = 1
        return features, self._mean + rows[:, 0]

    def _implicit_rows(self, name: str) -> Array:
        embedding = self._embedding(f"{name}_implicit")
        assert embedding is not None
        rows: Array = torch.cat([getattr(self, f"{name}_implicit_bias"), embedding.weight.detach()], dim=1).numpy()
        return rows

    def _write(self, name: str, rows: Array, part: Array) -> None:
        """Make rows the equation's weights."""
        embedding, bias = self._embedding(f"{name}_embedding"), self._embedding(f"{name}_bias")
        assert embedding is not None
        with torch.no_grad():
            if bias is not None:
                bias.weight.copy_(torch.from_numpy(rows[:, :1]))
                rows, part = rows[:, 1:], part[:, 1:]
            embedding.weight.copy_(torch.from_numpy(rows - part))

    def _write_implicit(self, name: str, weights: Array, precision: float) -> None:
        embedding = self._embedding(f"{name}_implicit")
        assert embedding is not None
        with torch.no_grad():
            getattr(self, f"{name}_implicit_bias").copy_(torch.from_numpy(weights[:, :1]))
            embedding.weight.copy_(torch.from_numpy(weights[:, 1:]))
        getattr(self, f"{name}_implicit_precision").fill_(precision)
