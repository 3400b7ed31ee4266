import pytest
import torch

from ratinglab.models import biased_mf, mf
from ratinglab.models.discovery import build_model, model_class, model_name, model_names, options_class

USER, ITEM = torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([2, 0, 2], dtype=torch.int32)


def options(**changed):
    return {"embedding_dim": 2, "regularization": 0.5, "init_std": 0.1} | changed


def build(name, seed=0, rating_mean=3.0, **changed):
    return build_model(name, options(**changed), num_users=2, num_items=3, rating_mean=rating_mean, seed=seed)


def fill(model, **tables):
    for name, values in tables.items():
        getattr(model, name).weight.data = torch.tensor(values)
    return model


P, Q = [[1.0, 2.0], [3.0, -1.0]], [[0.5, 1.0], [0.0, 0.0], [2.0, 1.0]]


def test_mf_is_the_dot_product():
    model = fill(build("mf"), user_embedding=P, item_embedding=Q)
    assert model(USER, ITEM).tolist() == [4.0, 0.5, 5.0]
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * ((5 + 5) + (10 + 1.25) + (10 + 5)) / 3)


def test_biased_mf_adds_mean_and_biases():
    model = fill(
        build("biased_mf"),
        user_embedding=P,
        item_embedding=Q,
        user_bias=[[0.1], [0.2]],
        item_bias=[[0.3], [9.0], [-1.0]],
    )
    assert model(USER, ITEM).tolist() == pytest.approx([3 + 0.1 - 1 + 4, 3 + 0.2 + 0.3 + 0.5, 3 + 0.2 - 1 + 5])
    squares = (5 + 5 + 0.01 + 1) + (10 + 1.25 + 0.04 + 0.09) + (10 + 5 + 0.04 + 1)
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * squares / 3)


@pytest.mark.parametrize("name", ["mf", "biased_mf"])
@pytest.mark.parametrize("rating_mean", [3.5, -4.0, 0.0])
def test_the_first_predictions_lie_around_the_mean(name, rating_mean):
    model = build(name, rating_mean=rating_mean, embedding_dim=64, init_std=0.01)
    assert model(USER, ITEM).tolist() == pytest.approx([rating_mean] * 3, abs=0.2)


@pytest.mark.parametrize("name", ["mf", "biased_mf"])
def test_a_batch_of_one_keeps_its_shape(name):
    assert build(name)(USER[:1], ITEM[:1]).shape == (1,)


@pytest.mark.parametrize("name", ["mf", "biased_mf"])
def test_the_first_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(99)
    weights = [build(name, seed=seed).user_embedding.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", ["mf", "biased_mf"])
def test_every_option_changes_the_model(name):
    base = build(name)
    penalty = base.penalty(USER, ITEM).item()
    assert build(name, embedding_dim=3).user_embedding.weight.shape == (2, 3)
    assert not torch.equal(build(name, init_std=0.2).user_embedding.weight, base.user_embedding.weight)
    assert build(name, regularization=1.0).penalty(USER, ITEM).item() == pytest.approx(2 * penalty)


def test_equations_are_found_by_their_files():
    assert {"biased_mf", "mf"} <= set(model_names())
    assert model_class("mf") is mf.MF
    assert model_class("biased_mf") is biased_mf.BiasedMF


def test_options_taken_out_of_a_file_are_those_of_the_file():
    for module in (mf, biased_mf):
        found = options_class(module.__name__.rpartition(".")[2])
        assert found.__annotations__ == module.Options.__annotations__
        assert model_name(found(**options())) == model_name(module.Options(**options()))
