"""Bayesian matrix factorization: Gibbs sampling of the weights, row by row."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ratinglab.batches import Batch
from ratinglab.fitting.compiled_design import CompiledDesign
from ratinglab.fitting.fit_options import FitSetup
from ratinglab.fitting.gibbs.chain import Chain, choose_gain_ratings
from ratinglab.fitting.gibbs.noise import draw_precisions, draw_user_noise
from ratinglab.fitting.gibbs.priors import Normal, draw_prior
from ratinglab.fitting.gibbs.side_state import SideState, TermState
from ratinglab.fitting.row_fit import RowFit, list_tables, write_tables
from ratinglab.fitting.whole_epoch_options import GibbsOptions, Noise
from ratinglab.kernels.blas import one_blas_thread
from ratinglab.kernels.column_draws import compile_column_loops
from ratinglab.kernels.rows import Entries, Regressors, RowPriors, draw_rows, gram, subtract_dots, sum_squared_errors
from ratinglab.kernels.sorted_ratings import chunk_bounds
from ratinglab.models.factor_equation import Side
from ratinglab.models.factors import Factors
from ratinglab.models.posterior import Posterior
from ratinglab.models.predictor import Predictor
from ratinglab.sides import SIDE_NAMES, SideName

MIN_NOISE_STD = 0.01
"""Lowest standard deviation of a user's noise, in standard deviations of the ratings. Without it, the precision of
perfectly fitted ratings would grow without bound."""
MIN_RATINGS_PER_ROW = 2
"""Average number of ratings per row below which a sweep also shifts all rows of a user or item together."""
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
    sweep draws whole rows, and all rows of a side in parallel.

    If rows are sums of terms, a row's mean is m + Σ F y over the side's terms, with y ~ Normal(0, (λ Λ)⁻¹) and one
    λ ~ Gamma(1, 1) per term. A sweep draws y one column of F at a time, given all other columns. With biases,
    each y also has a bias entry. The row's own bias is stored with the sum of these entries included. If a user has
    several rows, such as one per day in timesvdpp, they share the user's a_u. If most of these rows have a single
    rating, p_u hardly moves given the rows, which stay close to their mean. A sweep then also draws p_u given the
    ratings and the rows' differences from p_u.

    No draw depends on the number of threads. `Chain.is_done` decides when the fit ends.

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
        # buffers, so checkpoints keep them
        for side in SIDE_NAMES:
            self.register_buffer(f"{side}_precision", torch.ones(len(self.equation.side(side).last_rows())))
            for term in self.equation.side(side).terms:
                self.register_buffer(f"term_{term.name}_bias", torch.zeros(term.embedding.num_embeddings, 1))
                self.register_buffer(f"term_{term.name}_precision", torch.ones(()))
                if term.bias is not None:
                    nn.init.zeros_(term.bias.weight)  # see SideState
        if any(self.equation.side(side).terms for side in SIDE_NAMES):
            compile_column_loops()  # before the fit is timed
        self.register_buffer("noise_precision", torch.ones(()))
        self._prediction_sums: dict[int, tuple[Tensor, int]] = {}
        """Sum of the samples' predictions, and the number of samples, by block of validation rows."""

    @property
    def posterior(self) -> Posterior:
        """The samples so far, with the equation that holds the current draw."""
        model = self.predictor.model
        assert isinstance(model, Posterior)
        return model

    def on_train_start(self) -> None:
        """Sort the training ratings by row, and make the states of both sides."""
        super().on_train_start()
        self.users, self.items = (self._make_side(side) for side in SIDE_NAMES)
        rating_std = float(self._ratings["user"].value.std(dtype=np.float64)) or 1.0
        self._max_user_precision = (MIN_NOISE_STD * rating_std) ** -2
        self.chain.gain_ratings = choose_gain_ratings(self.data, self.predictor.baseline, seed=self.seed)

    def _make_side(self, name: SideName) -> SideState:
        """Make the state of a side from the equation's tables and the buffers."""
        side = self.equation.side(name)
        num_rows, dim = self.own_rows(name).shape
        terms = {
            term.name: TermState(
                CompiledDesign(term.design, dim=dim),
                [*([self.get_buffer(f"term_{term.name}_bias")] if self.has_biases else []), term.embedding.weight],
                self.get_buffer(f"term_{term.name}_precision"),
            )
            for term in side.terms
        }
        return SideState(
            name,
            list_tables(side),
            np.arange(num_rows) if side.day_rows is None else side.day_rows.owner.numpy(),
            self.get_buffer(f"{name}_precision").numpy(),
            terms,
            self._find_shared_term(side, terms),
        )

    def _find_shared_term(self, side: Side, terms: dict[str, TermState]) -> TermState | None:
        """Find the term that all rows of an owner share. Returns None if rows have enough ratings or no such term."""
        day_rows = side.day_rows
        if day_rows is None or len(self.data.train_ratings_in_stars) >= MIN_RATINGS_PER_ROW * len(day_rows):
            return None
        for term in side.terms:
            design = term.design
            if design.is_one_hot and torch.equal(design.column, day_rows.owner.int()) and (design.scale == 1).all():
                return terms[term.name]
        return None

    @one_blas_thread()
    def training_step(self, batches: list[Batch]) -> None:
        """Run one sweep: the users' prior, terms and rows, then the items', then the noise."""
        random = np.random.default_rng([self.seed, self.current_epoch])
        for side in (self.users, self.items):
            side.read()  # rounded as in a resumed run
        self._draw_side(self.users, self.items, random)
        self._draw_side(self.items, self.users, random)
        self._draw_noise(random)
        epochs_after_burn_in = self.current_epoch - self.options.burn_in
        if epochs_after_burn_in >= 0 and epochs_after_burn_in % self.chain.thin == 0:
            self._keep_sample()
        for side in (self.users, self.items):
            side.release()

    def _draw_side(self, side: SideState, other: SideState, random: np.random.Generator) -> None:
        """Draw one side's prior, terms and rows given the other side's rows, and write them to the equation."""
        prior = self._draw_prior(side, random)
        mean = prior.mean.astype(np.float32)
        if side.terms:
            residual = side.own_rows - mean
            for term in side.terms.values():
                term.draw(residual, prior, random)
            row_means = np.subtract(side.rows, residual, out=residual)  # m plus the terms
        else:
            row_means = np.tile(mean, (len(side.rows), 1))
        regressors = self._regressors(other)
        ones = np.ones(len(side.rows), dtype=np.float32)
        priors = RowPriors(row_means, prior.precision.astype(np.float32), ones)
        normal_draws = random.standard_normal(side.rows.shape, dtype=np.float32)
        noise_precision = side.noise_precision[side.owner]
        draw_rows(self._ratings[side.name], regressors, priors, noise_precision, normal_draws, side.rows)
        side.own_rows = side.rows - np.subtract(row_means, mean, out=row_means)
        if side.shared_term is not None:
            self._shift_rows(side, side.shared_term, regressors, prior, random)
        side.write()

    def _draw_prior(self, side: SideState, random: np.random.Generator) -> Normal:
        """Draw m and Λ of a side, given its rows minus their terms, and the terms' weights."""
        dim = side.own_rows.shape[1]
        if self.current_epoch == 0:
            return Normal(np.zeros(dim), np.eye(dim) / FIRST_PRIOR_STD**2)
        weights = [(float(term.precision), term.weights()) for term in side.terms.values()]
        scatter = sum((term_precision * gram(y, y) for term_precision, y in weights), np.zeros(()))
        return draw_prior(side.own_rows, random, centered_scatter=scatter, num_centered=sum(len(y) for _, y in weights))

    def _shift_rows(
        self, side: SideState, term: TermState, regressors: Regressors, prior: Normal, random: np.random.Generator
    ) -> None:
        """Draw a shared term given the ratings and each row's difference from it. Shifts the rows in place."""
        ratings, weights = self._ratings[side.name], term.weights()
        residual = np.empty_like(ratings.value)
        subtract_dots(ratings, side.rows - weights[side.owner], regressors.values, residual)
        start = ratings.start[np.searchsorted(side.owner, np.arange(len(weights) + 1))]
        ratings_by_owner = Entries(chunk_bounds(start, dim=weights.shape[1]), start, ratings.column, residual)
        scale = np.full(len(weights), float(term.precision), dtype=np.float32)
        priors = RowPriors(np.zeros_like(weights), prior.precision.astype(np.float32), scale)
        normal_draws = random.standard_normal(weights.shape, dtype=np.float32)
        drawn = np.empty_like(weights)
        draw_rows(ratings_by_owner, regressors, priors, side.noise_precision, normal_draws, drawn)
        side.rows += (drawn - weights)[side.owner]
        write_tables(drawn, term.tables)

    def _draw_noise(self, random: np.random.Generator) -> None:
        """Draw the users' noise precisions and, unless noise=one, the items'. Computes train/mse from the errors."""
        users, items = self.users, self.items
        errors, weighted = sum_squared_errors(self._ratings["user"], users.rows, self._regressors(items))
        common, users.noise_precision[:] = draw_user_noise(
            users.noise_precision / float(self.noise_precision),
            users.sum_by_owner(self._ratings["user"].counts),
            users.sum_by_owner(weighted),
            noise=self.options.noise,
            max_precision=self._max_user_precision,
            random=random,
        )
        self.noise_precision.fill_(common)
        if self.options.noise is Noise.own:
            errors, weighted = sum_squared_errors(self._ratings["item"], items.rows, self._regressors(users))
            counts = items.sum_by_owner(self._ratings["item"].counts)
            items.noise_precision[:], _ = draw_precisions(counts, items.sum_by_owner(weighted), random)
        self.train_mse = float(errors.sum()) / len(self.data.train_ratings_in_stars)

    def _regressors(self, side: SideState) -> Regressors:
        """Make the regressors of a side's rows, with the noise precision of each row's user or item."""
        return self.make_regressors(side.rows, noise_precision=side.noise_precision[side.owner])

    def _keep_sample(self) -> None:
        """Keep the rows, with all terms added, as a sample. Ends the fit if more samples would gain too little."""
        terms = self.users.terms | self.items.terms
        names = [term.name for side in self.equation.sides() for term in side.terms_of_new_rows]
        weights = {name: torch.from_numpy(terms[name].weights()) for name in names}
        user, item = self.users.copy_factors(), self.items.copy_factors()
        sample = Factors(user, item, float(self.equation.rating_mean), weights)
        if self.chain.keep(sample):
            self._prediction_sums.clear()
        if self.chain.is_done(min_gain=self.options.min_gain, train_mse=self.train_mse):
            self.stop_early()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["thin"] = self.chain.thin

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.chain.thin = checkpoint["thin"]

    def predict_block(self, batch: Batch, block_number: int) -> Tensor:
        """Average the samples' predictions for a block of rows. Keeps a running sum per block."""
        num_samples = len(self.posterior.samples)
        if num_samples == 0:
            return super().predict_block(batch, block_number)
        no_sum = torch.zeros(len(batch.rating), dtype=torch.float64), 0
        total, num_summed = self._prediction_sums.get(block_number, no_sum)
        for number in range(num_summed, num_samples):
            predicted = self.predictor.predict_unclipped(batch.user, batch.item, batch.day, sample=number)
            total = total + predicted.double()
        self._prediction_sums[block_number] = total, num_samples
        return (total / num_samples).float()
