"""Bayesian matrix factorization: Gibbs sampling of the weights, row by row."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ratinglab.batches import Batch, as_tensors
from ratinglab.fitting.fit_options import FitSetup
from ratinglab.fitting.gibbs.chain import Chain
from ratinglab.fitting.gibbs.noise import draw_common_precision, draw_precisions, redraw_common_precision
from ratinglab.fitting.gibbs.priors import Normal, draw_prior
from ratinglab.fitting.gibbs.term_draws import draw_term
from ratinglab.fitting.row_fit import RowFit, join_tables, write_tables
from ratinglab.fitting.term_solver import TermSolver
from ratinglab.fitting.whole_epoch_options import GibbsOptions, Noise
from ratinglab.kernels.column_draws import compile_loops, join_columns, split_columns
from ratinglab.kernels.rows import Entries, FloatArray, RowPriors, gram, subtract_dots, update_rows
from ratinglab.kernels.sorted_ratings import chunk_bounds
from ratinglab.models.factor_equation import Term
from ratinglab.models.factors import Factors, SideFactors
from ratinglab.models.posterior import Posterior
from ratinglab.models.predictor import Predictor
from ratinglab.sides import SIDE_NAMES, SideName, other_side

MIN_NOISE_STD = 0.01
"""Lowest standard deviation of a user's noise, in standard deviations of the ratings. Otherwise the precision of
perfectly fitted ratings grows without bound."""
NUM_GAIN_RATINGS = 4096
"""Number of ratings over which the gain of more samples is estimated."""
MIN_RATINGS_PER_ROW = 2
"""Average number of ratings per row below which a sweep also shifts all rows of a user or item together."""
SAMPLES_PER_CHECK, MIN_SAMPLES_BEFORE_CHECK = 8, 32
"""Number of samples between checks whether the fit is done, and before the first check."""
MIN_THIN_GROWTH = 16
"""Factor by which thin must have grown before a fit with the maximum number of samples can end."""
MAX_INDEPENDENT_RATIO = 1.3
"""Highest ratio of actual to independent gain at which samples count as independent."""
FIRST_PRIOR_STD = 0.1
"""Standard deviation of the first prior. A prior drawn from weights near 0 would keep weights small for many epochs."""


class GibbsFit(RowFit):
    """Sampler of the weights from their posterior given the ratings. An epoch is one sweep; some are kept as samples.

    r ~ Normal(r̂, 1/(α a_u β_i)): α ~ Gamma(1, 1) is common to all ratings; a_u ~ Gamma(ν/2, ν/2) and
    β_i ~ Gamma(ν'/2, ν'/2) are the relative precisions of users and items. ν and ν' are also drawn; if all ratings are
    equally noisy, they are large. α a_u is capped at the precision of MIN_NOISE_STD. With noise=one, a_u = β_i = 1, and
    nothing is capped.

    A weight row v holds a user's (or item's) bias and factors: v ~ Normal(m, Λ⁻¹). Each side draws its m and Λ from a
    Normal–Wishart prior (m₀ = 0, β₀ = 2, ν₀ = D, W₀ = I). Every conditional has a closed form, except for the cap. A
    sweep draws whole rows, and all rows of a side in parallel. There is nothing to tune; model.regularization has no
    effect.

    If rows are sums of terms, a row's mean is m + Σ F y over the side's terms, with y ~ Normal(0, (λ Λ)⁻¹) and one
    λ ~ Gamma(1, 1) per term. A sweep draws y one column of F at a time, each given all others. With biases, each y also
    has a bias entry. The row's own bias is stored with the sum of these entries included. If a user has several rows,
    such as one per day in timesvdpp, they share the user's a_u. If most of these rows have a single rating, p_u hardly
    moves given the rows, which stay close to their mean. A sweep then also draws p_u given the ratings and the rows'
    differences from p_u.

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
        for side in SIDE_NAMES:
            self.register_buffer(f"{side}_precision", torch.ones(len(self.equation.side(side).last_rows())))
            for term in self.equation.side(side).terms:
                self.register_buffer(f"term_{term.name}_bias", torch.zeros(term.embedding.num_embeddings, 1))
                self.register_buffer(f"term_{term.name}_precision", torch.ones(()))
                if term.bias is not None:
                    nn.init.zeros_(term.bias.weight)  # the row's own bias holds the terms' sum
        if any(self.equation.side(side).terms for side in SIDE_NAMES):
            compile_loops()  # before the fit is timed
        self.register_buffer("noise_precision", torch.ones(()))
        self._max_user_precision = float("inf")
        self._solvers: dict[str, TermSolver] = {}
        """Solver of each term, by name."""
        self._owners: dict[str, NDArray[np.int64]] = {}
        """The user or item of each row, by side."""
        self._shared_terms: dict[str, Term | None] = {}
        """Results of _shared_term, by side."""
        self._prediction_sums: dict[int, tuple[Tensor, int]] = {}
        """Sum of the samples' predictions, and the number of samples, by block of validation rows."""

    @property
    def posterior(self) -> Posterior:
        """The samples so far, with the equation that holds the current draw."""
        model = self.predictor.model
        assert isinstance(model, Posterior)
        return model

    def on_train_start(self) -> None:
        """Sort the training ratings by row and build the term solvers."""
        super().on_train_start()
        for side in SIDE_NAMES:
            num_rows, dim = self.own_rows(side).shape
            day_rows, terms = self.equation.side(side).day_rows, self.equation.side(side).terms
            self._owners[side] = np.arange(num_rows) if day_rows is None else day_rows.owner.numpy()
            self._solvers |= {term.name: TermSolver(term.design, dim=dim) for term in terms}
            self._shared_terms[side] = self._shared_term(side)
        rating_std = float(self._ratings["user"].rating.std(dtype=np.float64)) or 1.0
        self._max_user_precision = (MIN_NOISE_STD * rating_std) ** -2
        self.chain.gain_ratings = self._draw_gain_ratings()

    def _draw_gain_ratings(self) -> Batch:
        """Choose ratings from which to estimate the gain: warm validation rows or, without any, training rows."""
        for ratings in (self.data.validation_ratings, self.data.train_ratings_in_stars):
            batch = as_tensors(ratings)
            warm = self.predictor.baseline.is_known_pair(batch.user, batch.item).nonzero()[:, 0]
            if len(warm) > 0:
                break
        drawn = np.random.default_rng(self.seed).permutation(len(warm))[:NUM_GAIN_RATINGS]
        return batch.take(warm[torch.from_numpy(np.sort(drawn))])

    def training_step(self, batches: list[Batch]) -> None:
        """Run one sweep: the users' prior, terms and rows, then the items', then the noise."""
        random = np.random.default_rng([self.seed, self.current_epoch])
        own_rows, rows = dict[str, FloatArray](), dict[str, FloatArray]()
        for side in SIDE_NAMES:
            own_rows[side] = self.own_rows(side)
            term_sum = sum(self._multiply_terms(side).values(), np.zeros_like(own_rows[side]))
            if self.has_biases:
                own_rows[side][:, 0] -= term_sum[:, 0]  # the row's own bias holds the terms' sum
            rows[side] = own_rows[side] + term_sum
        for side in SIDE_NAMES:
            self._draw_side(side, rows[side], own_rows[side], rows[other_side(side)], random)
        self._draw_noise(rows["user"], rows["item"], random)
        epochs_after_burn_in = self.current_epoch - self.options.burn_in
        if epochs_after_burn_in >= 0 and epochs_after_burn_in % self.chain.thin == 0:
            self._keep_sample(rows["user"], rows["item"])

    def _draw_side(
        self,
        side: SideName,
        rows: FloatArray,
        own_rows: FloatArray,
        other_rows: FloatArray,
        random: np.random.Generator,
    ) -> None:
        """Draw one side's prior, terms and rows given the other side's rows; write the rows in place.

        Args:
            side: the side.
            rows: (num_rows, D) float32, with all terms added; overwritten.
            own_rows: (num_rows, D) float32, the rows minus their terms.
            other_rows: (num_others, D) float32, with all terms added.
            random: generator of the draws.
        """
        prior = self._draw_prior(side, own_rows, random)
        mean = prior.mean.astype(np.float32)
        if self.equation.side(side).terms:
            residual = self._draw_terms(side, own_rows - mean, prior, random)
            row_means = np.subtract(rows, residual, out=residual)  # m plus the terms
        else:
            row_means = np.tile(mean, (len(rows), 1))
        self.update_rows(
            side,
            rows,
            other_rows,
            priors=RowPriors(row_means, prior.precision.astype(np.float32), np.ones(len(rows), dtype=np.float32)),
            precision=self._row_precision(side),
            other_precision=self._row_precision(other_side(side)),
            normal_draws=random.standard_normal(rows.shape, dtype=np.float32),
        )
        term_sum = np.subtract(row_means, mean, out=row_means)
        drawn = rows - term_sum
        if (shared_term := self._shared_terms[side]) is not None:
            self._shift_rows(side, shared_term, rows, other_rows, prior, random)
        if self.has_biases:
            drawn[:, 0] = rows[:, 0]  # the row's own bias holds the terms' sum
        self.write_own_rows(side, drawn)

    def _shared_term(self, side: SideName) -> Term | None:
        """Find the term that all rows of a user or item share. Return None if there are enough ratings per row."""
        day_rows = self.equation.side(side).day_rows
        if day_rows is None or len(self._ratings[side].rating) >= MIN_RATINGS_PER_ROW * len(day_rows):
            return None
        for term in self.equation.side(side).terms:
            design = term.design
            if design.is_one_hot and torch.equal(design.column, day_rows.owner.int()) and (design.scale == 1).all():
                return term
        return None

    def _shift_rows(
        self,
        side: SideName,
        term: Term,
        rows: FloatArray,
        other_rows: FloatArray,
        prior: Normal,
        random: np.random.Generator,
    ) -> None:
        """Draw a shared term given the ratings and each row's difference from it. Shifts the rows in place."""
        ratings, owner, weights = self._ratings[side], self._owners[side], self._weights(term)
        others = self._as_other_rows(other_rows, self._row_precision(other_side(side)))
        residual = np.empty_like(ratings.rating)
        subtract_dots(ratings, rows - weights[owner], others.regressors, residual)
        start = ratings.start[np.searchsorted(owner, np.arange(len(weights) + 1))]
        entries_by_owner = Entries(chunk_bounds(start, dim=rows.shape[1]), start, ratings.column, residual)
        scale = np.full(len(weights), self._term_precision(term), dtype=np.float32)
        priors = RowPriors(np.zeros_like(weights), prior.precision.astype(np.float32), scale)
        normal_draws = random.standard_normal(weights.shape, dtype=np.float32)
        drawn = np.empty_like(weights)
        precision = getattr(self, f"{side}_precision").numpy()
        update_rows(entries_by_owner, others, priors, precision, normal_draws, drawn)
        rows += (drawn - weights)[owner]
        write_tables(drawn, self._tables(term))

    def _draw_terms(
        self, side: SideName, residual: FloatArray, prior: Normal, random: np.random.Generator
    ) -> FloatArray:
        """Draw the terms of a side in turn, given its rows, and write them to the equation.

        Args:
            side: the side.
            residual: (num_rows, D) float32, the rows minus m and their terms.
            prior: m and Λ.
            random: generator of the draws.

        Returns:
            The residual after the draws, (num_rows, D) float32.
        """
        blocks = split_columns(residual)
        for term in self.equation.side(side).terms:
            drawn, term_precision = draw_term(
                self._solvers[term.name],
                blocks,
                self._weights(term),
                term_precision=self._term_precision(term),
                prior=prior,
                random=random,
            )
            write_tables(drawn, self._tables(term))
            getattr(self, f"term_{term.name}_precision").fill_(term_precision)
        return join_columns(blocks, residual.shape[1])

    def _draw_prior(self, side: SideName, own_rows: FloatArray, random: np.random.Generator) -> Normal:
        """Draw m and Λ of a side, given its rows minus their terms, and the terms' weights."""
        dim = own_rows.shape[1]
        if self.current_epoch == 0:
            return Normal(np.zeros(dim), np.eye(dim) / FIRST_PRIOR_STD**2)
        weights = [(self._term_precision(term), self._weights(term)) for term in self.equation.side(side).terms]
        scatter = sum((term_precision * gram(y, y) for term_precision, y in weights), np.zeros(()))
        return draw_prior(own_rows, random, centered_scatter=scatter, num_centered=sum(len(y) for _, y in weights))

    def _draw_noise(self, users: FloatArray, items: FloatArray, random: np.random.Generator) -> None:
        """Draw the common noise precision and, unless noise=one, each user's and each item's relative precision."""
        alpha, beta = self.user_precision.numpy(), self.item_precision.numpy()  # not copies
        weighted = self.sum_squared_errors("user", users, items, other_precision=self._row_precision("item"))
        counts, squares = self._sum_by_owner("user", self._ratings["user"].counts), self._sum_by_owner("user", weighted)
        relative = alpha / float(self.noise_precision)
        common = draw_common_precision(counts.sum(), float(relative @ squares), random)
        if self.options.noise is Noise.one:
            self.noise_precision.fill_(common)
            alpha[:] = common
            return
        relative, degrees = draw_precisions(counts, common * squares, random)
        precision = common * relative
        self.noise_precision.fill_(redraw_common_precision(common, precision, degrees, random))
        alpha[:] = np.minimum(precision, self._max_user_precision)
        weighted = self.sum_squared_errors("item", items, users, other_precision=self._row_precision("user"))
        counts = self._sum_by_owner("item", self._ratings["item"].counts)
        beta[:], _ = draw_precisions(counts, self._sum_by_owner("item", weighted), random)

    def _row_precision(self, side: SideName) -> FloatArray:
        """Look up the noise precision of each row's user or item: (num_rows,) float32."""
        precision: FloatArray = getattr(self, f"{side}_precision").numpy()[self._owners[side]]
        return precision

    def _sum_by_owner(self, side: SideName, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum values over the rows of each user or item: (num_rows,) → (num_owners,)."""
        return np.bincount(self._owners[side], values).astype(np.float64)

    def _keep_sample(self, users: FloatArray, items: FloatArray) -> None:
        """Keep the rows, with all terms added, as a sample. Ends the fit if more samples would gain too little."""
        user, item = (
            SideFactors(
                torch.from_numpy(rows[:, 1:] if self.has_biases else rows).clone(),
                torch.from_numpy(rows[:, :1]).clone() if self.has_biases else None,
                precision.clone(),
            )
            for rows, precision in ((users, self.user_precision), (items, self.item_precision))
        )
        terms = [term for side in SIDE_NAMES for term in self.equation.side(side).terms_of_new_rows]
        weights = {term.name: torch.from_numpy(self._weights(term)) for term in terms}
        is_thinned = self.chain.keep(Factors(user, item, float(self.equation.rating_mean), weights))
        if is_thinned:
            self._prediction_sums.clear()
        if self.stops_early or self._is_done(is_thinned=is_thinned):
            self.stop_early()

    def _is_done(self, *, is_thinned: bool) -> bool:
        """Return whether more samples would gain too little. Checks this after every SAMPLES_PER_CHECK samples only."""
        num_samples = self.posterior.num_samples
        is_due = is_thinned or num_samples % SAMPLES_PER_CHECK == 0
        min_samples = min(MIN_SAMPLES_BEFORE_CHECK, max(2, self.chain.max_samples // 2))
        if self.options.min_gain == 0 or not is_due or num_samples < min_samples:
            return False
        gain = self.chain.gain()
        is_long = is_thinned and self.chain.thin >= MIN_THIN_GROWTH * self.options.thin
        are_independent = gain.actual <= MAX_INDEPENDENT_RATIO * gain.independent
        return gain.actual <= self.options.min_gain * self.train_mse or (is_long and are_independent)

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
        num_samples = self.posterior.num_samples
        if num_samples == 0:
            return super().predict_block(batch, block)
        no_sum = torch.zeros(len(batch.rating), dtype=torch.float64), 0
        total, num_summed = self._prediction_sums.get(block, no_sum)
        for number in range(num_summed, num_samples):
            predicted = self.predictor.predict_sample(number, batch.user, batch.item, batch.day)
            total = total + predicted.double()
        self._prediction_sums[block] = total, num_samples
        return (total / num_samples).float()

    def _multiply_terms(self, side: SideName) -> dict[str, FloatArray]:
        """Compute F y of each term of a side, by name: (num_rows, D) float32."""
        terms = self.equation.side(side).terms
        return {term.name: self._solvers[term.name].multiply(self._weights(term)) for term in terms}

    def _tables(self, term: Term) -> list[Tensor]:
        """List the sampler's bias entries for a term's weights, if there are biases, and the weights."""
        bias = [getattr(self, f"term_{term.name}_bias")] if self.has_biases else []
        return [*bias, term.embedding.weight]

    def _weights(self, term: Term) -> FloatArray:
        """Copy a term's weights: (num_columns, D) float32, the bias entry first."""
        return join_tables(self._tables(term))

    def _term_precision(self, term: Term) -> float:
        """Return λ of a term."""
        return float(getattr(self, f"term_{term.name}_precision"))
