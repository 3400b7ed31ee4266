"""Samples, and the mean and variance of their predictions."""

import pytest
import torch
from equations import equation_of, multiply_pairs

from ratinglab.models.equation import TrainingData
from ratinglab.models.factors import Factors, SideFactors
from ratinglab.models.posterior import Posterior

USER, ITEM = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([2, 0], dtype=torch.int32)


def posterior(name="biased_mf", *, num_items=3) -> Posterior:
    return Posterior(equation_of(name, TrainingData(num_users=2, num_items=num_items, rating_mean=3.0)))


def sample(seed: int, *, biased=True, noise_precision=2.0) -> Factors:
    random = torch.Generator().manual_seed(seed)
    shapes = (2, 2), (3, 2), (2, 1), (3, 1)
    user, item, user_bias, item_bias = (torch.randn(shape, generator=random) for shape in shapes)
    own = torch.tensor([1.0, 2.0]) * noise_precision
    return Factors(
        SideFactors(user, user_bias if biased else None, own),
        SideFactors(item, item_bias if biased else None, torch.tensor([1.0, 2.0, 4.0])),
        mean=3.0 if biased else 0.0,
    )


def test_posterior_without_samples_predicts_like_the_equation():
    model = posterior()
    assert torch.equal(model(USER, ITEM), model.equation(USER, ITEM))
    assert torch.equal(model.factors().user.factors, model.equation.factors().user.factors)


@pytest.mark.parametrize("name", ["biased_mf", "mf"])
def test_prediction_is_the_sample_mean_and_variance_includes_the_noise(name):
    model = posterior(name)
    samples = [sample(seed, biased=name != "mf", noise_precision=1.0 + seed) for seed in range(3)]
    for each in samples:
        model.samples.append(each)
    predicted = torch.stack([multiply_pairs(each, USER, ITEM) for each in samples]).double()
    assert model(USER, ITEM).tolist() == pytest.approx(predicted.mean(dim=0).tolist(), abs=1e-5)
    # user 0 and item 2, user 1 and item 0
    noise = (1 / 1 + 1 / 2 + 1 / 3) / 3 * torch.tensor([1 / (1 * 4), 1 / (2 * 1)])
    expected = predicted.var(dim=0, correction=0) + noise
    assert model.variance(USER, ITEM).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert model.predict_sample(1, USER, ITEM, None).tolist() == pytest.approx(predicted[1].tolist(), abs=1e-5)
    assert len(model.samples) == 3


@pytest.mark.parametrize("name", ["biased_mf", "mf"])
def test_factors_reproduce_the_mean_prediction(name):
    model = posterior(name)
    for seed in range(3):
        model.samples.append(sample(seed, biased=name != "mf"))
    rating = multiply_pairs(model.factors(), USER, ITEM)
    assert rating.tolist() == pytest.approx(model(USER, ITEM).tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["biased_mf", "mf"])
def test_state_dict_holds_samples_as_plain_tensors_with_biases_only_if_there_are_any(tmp_path, name):
    model, other = posterior(name), posterior(name)
    for seed in range(2):
        model.samples.append(sample(seed, biased=name != "mf"))
    torch.save(model.state_dict(), tmp_path / "weights")
    other.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    assert len(other.samples) == 2
    assert torch.equal(other(USER, ITEM), model(USER, ITEM))
    assert (other.factors().user.bias is None) == (name == "mf")
    assert set(other.get_extra_state()) == set(model.get_extra_state())
    assert ("user_bias" in model.get_extra_state()) == (name != "mf")
    other.load_state_dict(posterior(name).state_dict())
    assert len(other.samples) == 0


def test_weights_of_terms_are_part_of_the_state():
    model, weights = posterior(), torch.ones(4, 3)
    model.samples.append(sample(0)._replace(term_weights={"user_implicit": weights}))
    assert torch.equal(model.get_extra_state()["term/user_implicit"], weights[None])
    model.set_extra_state(model.get_extra_state())
    assert torch.equal(model.samples[0].term_weights["user_implicit"], weights)


@pytest.mark.parametrize("name", ["biased_mf", "mf"])
def test_sample_bytes_is_known_before_the_first_sample(name):
    model = posterior(name)
    foretold = model.sample_bytes
    one = sample(0, biased=name != "mf")
    assert foretold == sum(tensor.nbytes for tensor in (*one.user, *one.item) if tensor is not None)


def test_samples_of_another_shape_are_refused():
    model = posterior()
    model.samples.append(sample(0))
    state = posterior(num_items=4).state_dict() | {"_extra_state": model.get_extra_state()}
    with pytest.raises(RuntimeError, match="the samples' shapes differ from the equation's"):
        posterior(num_items=4).load_state_dict(state)
