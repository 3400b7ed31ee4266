"""Alternating least squares: the minimum by rows and terms, and independence of threads."""

import itertools

import numpy as np
import pytest
import torch
from designs import cases as design_cases
from designs import dense, rated_items
from equations import options_of
from fits import Fitted, fit, objective
from pytorch_lightning import Callback
from tables import table_with_features

from ratinglab.batches import as_tensors
from ratinglab.fitting.als import solve_for_weights
from ratinglab.fitting.compiled_design import CompiledDesign
from ratinglab.fitting.whole_epoch_options import ALSOptions
from ratinglab.models.svdpp import ImplicitSide
from ratinglab.splits.random_rows import RandomSplitOptions

SPLIT = RandomSplitOptions(refit=False, seed=0, validation=0.0, test=0.1)
FEATURES = {"user_features": ["group", "age"], "item_features": ["genres"]}
CASES = {
    "mf": ("mf", {}, 2),
    "biased_mf": ("biased_mf", {}, 4),
    "biased_mf with features": ("biased_mf", FEATURES, 7),
    "svdpp of users": ("svdpp", {"implicit": ImplicitSide.user}, 5),
    "svdpp of items": ("svdpp", {"implicit": ImplicitSide.item}, 5),
    "svdpp with genres": ("svdpp", {"item_features": ["genres"]}, 7),
    "timesvdpp": ("timesvdpp", {"implicit": ImplicitSide.user}, 9),
    "timesvdpp with features": ("timesvdpp", FEATURES, 13),
}
"""Equation, options and number of weight tables."""


class Objectives(Callback):
    """The objective after each sweep."""

    def __init__(self):
        self.values = []

    def on_train_epoch_end(self, trainer, pl_module):
        with torch.no_grad():
            self.values.append(float(objective(pl_module.predictor.model, trainer.datamodule)))


def fit_als(case: str, *, epochs: int, threads: int = 1, damping: float = 0.0, callbacks=(), **changed) -> Fitted:
    name, options, _ = CASES[case]
    model = options_of(name, **{"embedding_dim": 2, **options, **changed})
    table = table_with_features()
    return fit(
        model, ALSOptions(damping=damping), table, epochs=epochs, split=SPLIT, threads=threads, callbacks=callbacks
    )


def gradients(fitted: Fitted) -> dict[str, float]:
    """Find the largest entry of the objective's gradient in each weight table, by autograd."""
    fitted.equation.zero_grad()
    objective(fitted.equation, fitted.data).backward()
    weights = {key: weight for key, weight in fitted.equation.named_parameters() if weight.requires_grad}
    return {key: float(weight.grad.abs().max()) for key, weight in weights.items()}


@pytest.mark.parametrize("case", ["mf", "biased_mf"])
def test_gradient_of_item_weights_is_zero_after_a_sweep(case):
    """The items are solved last; the gradient is computed by autograd."""
    for key, size in gradients(fit_als(case, epochs=1)).items():
        assert size < 1e-5 if key.startswith("item") else size > 1e-4, key


def test_damping_pulls_each_row_towards_its_value_before_the_sweep():
    before, after = (fit_als("biased_mf", epochs=epochs, damping=5.0) for epochs in (1, 2))
    after.equation.zero_grad()
    objective(after.equation, after.data).backward()
    for name in ("item_bias", "item_embedding"):
        old, new = (getattr(fitted.equation, name).weight for fitted in (before, after))
        # the gradient of Σ (r − r̂)² + λ … + ρ ‖v − v'‖² is 0
        count = len(after.data.train_ratings_in_stars)
        torch.testing.assert_close(count * new.grad, -2 * 5.0 * (new - old).detach(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("case", "damping"), [*((case, 0.0) for case in CASES), ("timesvdpp with features", 5.0)])
def test_sweeps_never_increase_the_objective(case, damping):
    objectives = Objectives()
    fit_als(case, epochs=30, damping=damping, callbacks=[objectives])
    for before, after in itertools.pairwise(objectives.values):
        assert after < before * (1 + 1e-6)
    assert objectives.values[-1] < 0.95 * objectives.values[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_sweeps_converge_to_a_zero_gradient(case):
    first, last = (gradients(fit_als(case, epochs=epochs)) for epochs in (1, 200 if "time" in case else 100))
    assert max(last.values()) < 1e-4 * max(first.values())
    assert len(last) == CASES[case][2]


@pytest.mark.parametrize("case", ["biased_mf", "timesvdpp with features"])
def test_training_error_equals_the_error_of_the_weights(case):
    fitted = fit_als(case, epochs=3)
    user, item, rating, day = as_tensors(fitted.data.train_ratings_in_stars)
    error = (fitted.equation(*fitted.equation.forward_arguments(user, item, day)) - rating).square().mean()
    assert fitted.module.train_mse == pytest.approx(float(error.detach()), rel=1e-5)


@pytest.mark.parametrize("case", ["biased_mf", "biased_mf with features", "timesvdpp with features"])
def test_weights_depend_on_regularization_but_not_on_threads(case):
    one, two, other = (
        fit_als(case, epochs=3, **settings).weights
        for settings in ({"threads": 1}, {"threads": 2}, {"regularization": 0.2})
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("case", design_cases())
def test_weights_of_a_term_solve_their_equations(case, is_weighted):
    design, matrix = design_cases()[case]
    random = np.random.default_rng(0)
    row_weight = random.uniform(0.5, 3, len(matrix)).astype(np.float32) if is_weighted else None
    compiled = CompiledDesign(design, dim=2, row_weight=row_weight)
    if row_weight is not None:
        matrix = row_weight[:, None] * matrix
    right = random.normal(size=(matrix.shape[1], 2)).astype(np.float32)
    for ridge in (np.float32(0.3), random.uniform(0.2, 4, (len(right), 1)).astype(np.float32)):
        system = matrix.T @ matrix + np.diag(np.broadcast_to(np.ravel(ridge), len(right)))
        solution = solve_for_weights(compiled, right, np.zeros_like(right), ridge)
        assert solution == pytest.approx(np.linalg.solve(system, right), abs=1e-4)


def test_weights_of_a_term_converge_from_any_start():
    design, matrix = CompiledDesign(rated_items(), dim=2), dense()
    right = np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]], dtype=np.float32)
    expected = np.linalg.solve(matrix.T @ matrix + 0.3 * np.eye(3), right)
    for start in (np.zeros((3, 2), np.float32), np.full((3, 2), 5, np.float32), expected.astype(np.float32)):
        solution = solve_for_weights(design, right, start, np.float32(0.3))
        assert solution == pytest.approx(expected, abs=1e-4)
