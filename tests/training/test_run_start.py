"""The header that training prints."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
from fits import split_ratings_of, training_data
from tables import table_with_features

from ratinglab.config.job import compose_call
from ratinglab.fitting.fit_options import FitOptions
from ratinglab.models.build_equation import build_equation
from ratinglab.models.posterior import Posterior
from ratinglab.training.run_start import describe_start


@dataclass
class OwnSampling(FitOptions):
    """A user's own fit that keeps samples."""

    name: ClassVar[str] = "own_sampling"
    keeps_samples: ClassVar[bool] = True

    def build(self, predictor, setup):
        raise NotImplementedError


def lines_of(*overrides, **changed) -> str:
    options = replace(compose_call(overrides, config_dir=None).options, **changed)
    split_ratings = split_ratings_of(table_with_features(), options.model)
    model = Posterior(build_equation(options.model, training_data(split_ratings), seed=0))
    record = SimpleNamespace(refit_epochs=None, scale=None)
    prepared = SimpleNamespace(
        options=options, requested_model=options.model.name, ratings=split_ratings, record=record
    )
    return "\n".join(describe_start(prepared, model, epochs_done=0))


def test_a_sampling_fit_of_ones_own_has_a_header():
    lines = lines_of("model=biased_mf", optimizer=OwnSampling())
    assert "optimizer  own_sampling: batches of 1,024, at most 100 epochs" in lines
    assert "note: " not in lines


@pytest.mark.parametrize(("max_samples", "is_warned"), [(10_000_000, True), (9, False), ("null", False)])
def test_gibbs_warns_of_samples_that_take_much_memory(max_samples, is_warned):
    burn_in = ["optimizer.burn_in=1", "trainer.max_epochs=10000001"]
    lines = lines_of("model=biased_mf", "optimizer=gibbs", *burn_in, f"optimizer.max_samples={max_samples}")
    assert "embedding_dim=" in lines
    assert "regularization=" not in lines, "it has no effect"
    assert ("warning: 10000000 samples take " in lines) == is_warned
