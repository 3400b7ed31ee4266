"""Bayesian matrix factorization: Gibbs sampling of the weights, row by row."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ratinglab.batches import Batch, as_tensors
from ratinglab.fitting.fit_setup import FitSetup
from ratinglab.fitting.gibbs.chain import Chain
from ratinglab.fitting.gibbs.noise import draw_common, draw_precisions, redraw_common
from ratinglab.fitting.gibbs.priors import Normal, draw_normal
from ratinglab.fitting.row_fit import RowFit, joined, write_joined
from ratinglab.fitting.term_solver import TermSolver
from ratinglab.fitting.whole_epoch_options import GibbsOptions, Noise
from ratinglab.kernels.column_draws import compile_loops, in_blocks, out_of_blocks
from ratinglab.kernels.rows import Entries, FloatArray, RowPriors, gram, sample_rows, subtract_dots
from ratinglab.kernels.sorted_ratings import chunk_bounds
from ratinglab.models.equation import SIDE_NAMES, Factors, SideFactors, SideName, other_side
from ratinglab.models.factor_equation import Term
from ratinglab.models.posterior import Posterior
from ratinglab.models.predictor import Predictor

MIN_NOISE_STD = 0.01
"""Lowest standard deviation of a user's noise, in standard deviations of the ratings. Otherwise the precision of
perfectly fitted ratings grows without bound."""
WATCHED_ROWS = 4096
"""Number of rows over which the gain of more samples is estimated."""
MIN_RATINGS_PER_ROW = 2
"""Average number of ratings per row below which the rows of a user or item shift together."""
SAMPLES_PER_CHECK, MIN_SAMPLES_BEFORE_CHECK = 8, 32
"""Samples between convergence checks, and minimum before the first check."""
MIN_THIN_GROWTH = 16
"""Factor by which thin must have grown before a fit with the maximum number of samples can end."""
INDEPENDENT = 1.3
"""Samples count as independent if gain / independent gain is at most this."""
START_STD = 0.1
"""Standard deviation of the first prior. A prior drawn from weights near 0 would keep them small for many epochs."""


class GibbsFit(RowFit):
    """Sampler of the weights from their posterior given the ratings: one sweep per epoch, some kept as samples.

    r ~ Normal(r̂, 1/(α a_u β_i)): α ~ Gamma(1, 1) is common to all ratings; a_u ~ Gamma(ν/2, ν/2) and
    β_i ~ Gamma(ν'/2, ν'/2) are the relative precisions of users and items. ν and ν' are also drawn; if all ratings are
    equally noisy, they are large. α a_u is capped at the precision of MIN_NOISE_STD. With noise=one, a_u = β_i = 1, and
    nothing is capped.

    A weight row v holds a user's (or item's) bias and factors: v ~ Normal(m, Λ⁻¹). Each side draws its m and Λ from a
    Normal–Wishart prior (m₀ = 0, β₀ = 2, ν₀ = D, W₀ = I). Every conditional has a closed form, except for the cap. A
    sweep draws whole rows, and all rows of a side in parallel. There is nothing to tune; model.regularization has no
    effect.

    If rows are sums of terms, a row's mean is m + Σ F y over the side's terms, with y ~ Normal(0, (λ Λ)⁻¹) and one
    λ ~ Gamma(1, 1) per term. A sweep draws y one column of F at a time, each given all others. Each y also
    has a bias entry; its sum is stored in the row's own bias. If a user has several rows, such as one per day in
    timesvdpp, they share the user's a_u. If most of these rows have a single rating, p_u hardly moves given the rows,
    which stay close to their mean. A sweep then also draws p_u given the ratings and the rows' differences from p_u.

    No draw depends on the number of threads.

    The fit ends once more samples would lower the MSE by at most `min_gain` of train/mse: see Chain for the estimate,
    over validation rows or, without any, training rows. It also ends once the number of samples is at its maximum and
    the samples are nearly independent.

    Sources: Salakhutdinov, Mnih, "Bayesian Probabilistic Matrix Factorization using Markov Chain Monte Carlo", ICML
    2008; Lakshminarayanan, Bouchard, Archambeau, "Robust Bayesian Matrix Factorisation", AISTATS 2011, for the noise of
    each user and item; Simm et al., "Macau: Scalable Bayesian Factorization with High-Dimensional Side Information
    Using MCMC", MLSP 2017, for the prior of the y; Rendle, "Scaling Factorization Machines to Relational Data", VLDB
    2013, for draws by column with residuals kept up to date; Rendle, Zhang, Koren, "On the Difficulty of Evaluating
    Baselines", 2019, for implicit feedback on both sides; Yu, Meng, "To Center or Not to Center: That Is Not the
    Question", Journal of Computational and Graphical Statistics, 2011, for two draws of p_u.
    """

    user_precision: Tensor
    item_precision: Tensor
    noise_precision: Tensor

    def __init__(self, predictor: Predictor, setup: FitSetup, options: GibbsOptions) -> None:
        super().__init__(predictor, setup, options)
        self.options = options
        self.chain = Chain(self.posterior, thin=options.thin, max_samples=options.max_samples)
        # buffers, so that checkpoints keep them
        for name in SIDE_NAMES:
            side = self.side(name)
            self.register_buffer(f"{name}_precision", torch.ones(len(side.last_rows())))
            for term in side.terms:
                self.register_buffer(f"term_{term.name}_bias", torch.zeros(term.embedding.num_embeddings, 1))
                self.register_buffer(f"term_{term.name}_precision", torch.ones(()))
                if term.bias is not None:
                    nn.init.zeros_(term.bias.weight)  # the row's own bias holds the terms' sum
        if self.side("user").terms or self.side("item").terms:
            compile_loops()  # before the fit is timed
        self.register_buffer("noise_precision", torch.ones(()))
        self._highest_precision = float("inf")
        self._solvers: dict[str, TermSolver] = {}
        self._owners: dict[str, NDArray[np.int64]] = {}
        self._shared: dict[str, Term | None] = {}
        self._sums: dict[int, tuple[Tensor, int]] = {}

    @property
    def posterior(self) -> Posterior:
        """The samples so far, with the equation that holds the current draw."""
        model = self.predictor.model
        assert isinstance(model, Posterior)
        return model

    def on_train_start(self) -> None:
        """Sort the training ratings by row and build the term solvers."""
        super().on_train_start()
        for name in SIDE_NAMES:
            side, (count, dim) = self.side(name), self.own_rows(name).shape
            self._owners[name] = np.arange(count) if side.rows is None else side.rows.owner.numpy()
            self._solvers |= {term.name: TermSolver(term.design, dim=dim) for term in side.terms}
            self._shared[name] = self._shared_term(name)
        spread = float(self._ratings["user"].rating.std(dtype=np.float64)) or 1.0
        self._highest_precision = (MIN_NOISE_STD * spread) ** -2
        self.chain.watch(self._watched_rows())

    def _watched_rows(self) -> Batch:
        """Draw rows for the estimate of the gain, from the warm validation rows or, without any, the training rows."""
        for ratings in (self.data.validation_ratings, self.data.train_ratings_in_stars):
            rows = as_tensors(ratings)
            warm = self.predictor.baseline.known(rows.user, rows.item).nonzero()[:, 0]
            if len(warm) > 0:
                break
        chosen = np.random.default_rng(self.seed).permutation(len(warm))[:WATCHED_ROWS]
        return rows.take(warm[torch.from_numpy(np.sort(chosen))])

    def training_step(self, batches: list[Batch]) -> None:
        """Run one sweep: the users' prior, terms and rows, then the items', then the noise."""
        random = np.random.default_rng([self.seed, self.current_epoch])
        own, rows = dict[str, FloatArray](), dict[str, FloatArray]()
        for name in SIDE_NAMES:
            own[name] = self.own_rows(name)
            terms = sum(self._addends(name).values(), np.zeros_like(own[name]))
            if self.has_biases:
                own[name][:, 0] -= terms[:, 0]  # the row's own bias holds the terms' sum
            rows[name] = own[name] + terms
        for name in SIDE_NAMES:
            self._draw_side(name, rows[name], own[name], rows[other_side(name)], random)
        self._draw_noise(rows["user"], rows["item"], random)
        past_burn_in = self.current_epoch - self.options.burn_in
        if past_burn_in >= 0 and past_burn_in % self.chain.thin == 0:
            self._keep(rows["user"], rows["item"])

    def _draw_side(
        self, name: SideName, rows: FloatArray, own: FloatArray, other_rows: FloatArray, random: np.random.Generator
    ) -> None:
        """Draw one side's prior, terms and rows given the other side's rows; write the rows in place.

        Args:
            name: the side.
            rows: (num_rows, D) float32, all terms summed.
            own: (num_rows, D) float32, the rows minus their terms.
            other_rows: (num_others, D) float32, all terms summed.
            random: generator of the draws.
        """
        prior = self._draw_prior(name, own, random)
        mean = prior.mean.astype(np.float32)
        if self.side(name).terms:
            residual = self._draw_terms(name, own - mean, prior, random)
            means = np.subtract(rows, residual, out=residual)
        else:
            means = np.tile(mean, (len(rows), 1))
        self.solve(
            name,
            rows,
            other_rows,
            priors=RowPriors(means, prior.precision.astype(np.float32), np.ones(len(rows), dtype=np.float32)),
            weight=self._row_precision(name),
            other_weight=self._row_precision(other_side(name)),
            noise=random.standard_normal(rows.shape, dtype=np.float32),
        )
        means -= mean
        own = rows - means
        if (shared := self._shared.get(name)) is not None:
            self._shift_rows(name, shared, rows, other_rows, prior, random)
        if self.has_biases:
            own[:, 0] = rows[:, 0]
        self.write_own_rows(name, own)

    def _shared_term(self, name: SideName) -> Term | None:
        """Find the term that all rows of a user or item share, if most rows have a single rating."""
        side = self.side(name)
        if side.rows is None or len(self._ratings[name].rating) >= MIN_RATINGS_PER_ROW * len(side.rows):
            return None
        for term in side.terms:
            design = term.design
            if design.is_one_hot and torch.equal(design.column, side.rows.owner.int()) and (design.scale == 1).all():
                return term
        return None

    def _shift_rows(
        self,
        name: SideName,
        term: Term,
        rows: FloatArray,
        other_rows: FloatArray,
        prior: Normal,
        random: np.random.Generator,
    ) -> None:
        """Draw a shared term given the ratings and each row's difference from it; shifts the rows in place."""
        ratings, owner, before = self._ratings[name], self._owners[name], self._weights(term)
        others = self._seen(other_rows, self._row_precision(other_side(name)))
        rest = np.empty_like(ratings.rating)
        subtract_dots(ratings, rows - before[owner], others.features, rest)
        start = ratings.start[np.searchsorted(owner, np.arange(len(before) + 1))]
        of_owners = Entries(chunk_bounds(start, dim=rows.shape[1]), start, ratings.other, rest)
        scale = np.full(len(before), self._precision_of(term), dtype=np.float32)
        priors = RowPriors(np.zeros_like(before), prior.precision.astype(np.float32), scale)
        noise = random.standard_normal(before.shape, dtype=np.float32)
        drawn = np.empty_like(before)
        sample_rows(of_owners, others, priors, getattr(self, f"{name}_precision").numpy(), noise, drawn)
        rows += (drawn - before)[owner]
        write_joined(drawn, self._tables(term))

    def _draw_terms(
        self, name: SideName, residual: FloatArray, prior: Normal, random: np.random.Generator
    ) -> FloatArray:
        """Draw the terms of a side in turn, given its rows.

        Args:
            name: the side.
            residual: (num_rows, D) float32, the rows minus m and their terms.
            prior: m and Λ.
            random: generator of the draws.

        Returns:
            The residual after the draws, (num_rows, D) float32.
        """
        blocks = in_blocks(residual)
        for term in self.side(name).terms:
            drawn, precision = self._solvers[term.name].draw(
                blocks, self._weights(term), precision=self._precision_of(term), prior=prior, random=random
            )
            write_joined(drawn, self._tables(term))
            getattr(self, f"term_{term.name}_precision").fill_(precision)
        return out_of_blocks(blocks, residual.shape[1])

    def _draw_prior(self, name: SideName, own: FloatArray, random: np.random.Generator) -> Normal:
        """Draw m and Λ of a side, given its rows minus their terms, and the terms' weights."""
        if self.current_epoch == 0:
            return Normal(np.zeros(own.shape[1]), np.eye(own.shape[1]) / START_STD**2)
        weights = [(self._precision_of(term), self._weights(term)) for term in self.side(name).terms]
        spread = sum((precision * gram(y, y) for precision, y in weights), np.zeros(()))
        count = sum(len(y) for _, y in weights)
        return draw_normal(own, random, spread=spread, spread_rows=count)

    def _draw_noise(self, users: FloatArray, items: FloatArray, random: np.random.Generator) -> None:
        """Draw the common noise precision, and, unless noise=one, each user's and each item's relative to it."""
        alpha, beta = self.user_precision.numpy(), self.item_precision.numpy()  # not copies
        weighted = self.errors("user", users, items, other_weight=self._row_precision("item"))
        counts, squares = self._by_owner("user", self._ratings["user"].counts), self._by_owner("user", weighted)
        relative = alpha / float(self.noise_precision)
        common = draw_common(counts.sum(), float(relative @ squares), random)
        if self.options.noise is Noise.one:
            self.noise_precision.fill_(common)
            alpha[:] = common
            return
        relative, degrees = draw_precisions(counts, common * squares, random)
        precision = common * relative
        self.noise_precision.fill_(redraw_common(common, precision, degrees, random))
        alpha[:] = np.minimum(precision, self._highest_precision)
        weighted = self.errors("item", items, users, other_weight=self._row_precision("user"))
        counts = self._by_owner("item", self._ratings["item"].counts)
        beta[:], _ = draw_precisions(counts, self._by_owner("item", weighted), random)

    def _row_precision(self, name: SideName) -> FloatArray:
        """Look up the noise precision of each row's user or item: (num_rows,) float32."""
        precision: FloatArray = getattr(self, f"{name}_precision").numpy()[self._owners[name]]
        return precision

    def _by_owner(self, name: SideName, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum values over the rows of each user or item: (num_rows,) → (num_owners,)."""
        return np.bincount(self._owners[name], values).astype(np.float64)

    def _keep(self, users: FloatArray, items: FloatArray) -> None:
        """Keep the rows, all terms summed, as a sample."""
        user, item = (
            SideFactors(
                torch.from_numpy(self._factors(rows)).clone(),
                torch.from_numpy(rows[:, :1]).clone() if self.has_biases else None,
                precision.clone(),
            )
            for rows, precision in ((users, self.user_precision), (items, self.item_precision))
        )
        terms = [term for name in SIDE_NAMES for term in self.side(name).terms_of_new_rows]
        weights = {term.name: torch.from_numpy(self._weights(term)) for term in terms}
        is_thinned = self.chain.keep(Factors(user, item, float(self.equation.rating_mean), weights))
        if is_thinned:
            self._sums.clear()
        if self.stops_early or self._is_done(is_thinned=is_thinned):
            self.stop_early()

    def _is_done(self, *, is_thinned: bool) -> bool:
        """Return whether more samples would gain too little; checked once in a while."""
        count = self.posterior.num_samples
        is_due = is_thinned or count % SAMPLES_PER_CHECK == 0
        min_samples = min(MIN_SAMPLES_BEFORE_CHECK, max(2, self.chain.max_samples // 2))
        if self.options.min_gain == 0 or not is_due or count < min_samples:
            return False
        gain = self.chain.gain()
        is_spread = is_thinned and self.chain.thin >= MIN_THIN_GROWTH * self.options.thin
        are_independent = gain.actual <= INDEPENDENT * gain.independent
        return gain.actual <= self.options.min_gain * self.train_mse or (is_spread and are_independent)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the number of epochs between samples."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["thin"] = self.chain.thin

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the number of epochs between samples."""
        super().on_load_checkpoint(checkpoint)
        self.chain.thin = checkpoint["thin"]

    def predict_block(self, batch: Batch, block: int) -> Tensor:
        """Average the samples' predictions for a block of rows. Keeps a running sum per block."""
        kept = self.posterior.num_samples
        if kept == 0:
            return super().predict_block(batch, block)
        total, seen = self._sums.get(block, (torch.zeros(len(batch.rating), dtype=torch.float64), 0))
        for number in range(seen, kept):
            with self.posterior.using_sample(number):
                total = total + super().predict_block(batch, block).double()
        self._sums[block] = total, kept
        return (total / kept).float()

    def _addends(self, name: SideName) -> dict[str, FloatArray]:
        """Compute F y of each term of a side: (num_rows, D) float32."""
        return {term.name: self._solvers[term.name].times(self._weights(term)) for term in self.side(name).terms}

    def _factors(self, rows: FloatArray) -> FloatArray:
        """Return a view of the factors of rows, without the bias."""
        return rows[:, 1:] if self.has_biases else rows

    def _tables(self, term: Term) -> list[Tensor]:
        """Return the sampler's bias entries for a term's weights, if there are biases, and the weights."""
        bias = [getattr(self, f"term_{term.name}_bias")] if self.has_biases else []
        return [*bias, term.embedding.weight]

    def _weights(self, term: Term) -> FloatArray:
        """Copy a term's weights: (num_columns, D) float32, the bias entry first."""
        return joined(self._tables(term))

    def _precision_of(self, term: Term) -> float:
        """Return λ of a term."""
        return float(getattr(self, f"term_{term.name}_precision"))
