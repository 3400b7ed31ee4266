"""Similarity of items, beside the decomposition of the whole matrix of predictions."""

import numpy as np
import pytest
import torch
from equations import equation_of

from ratinglab.models.equation import Equation, TrainingData
from ratinglab.models.posterior import Posterior
from ratinglab.recommend.item_similarity import SHRINKAGE, ItemSimilarity

NUM_USERS, NUM_ITEMS, DIM = 40, 25, 3
RANDOM = torch.Generator().manual_seed(0)
USER_COUNT, ITEM_COUNT = (torch.randint(1, 30, (count,), generator=RANDOM) for count in (NUM_USERS, NUM_ITEMS))
SHARED = torch.randint(0, 50, (NUM_ITEMS,), generator=RANDOM)
TRAINING = TrainingData(num_users=NUM_USERS, num_items=NUM_ITEMS, rating_mean=3.0)


def equation(name: str, *, seed: int = 0) -> Equation:
    """Build an equation with random weights whose means differ from 0."""
    built = equation_of(name, TRAINING, embedding_dim=DIM)
    random = torch.Generator().manual_seed(seed)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, mean=0.7, generator=random)
    return built


def posterior(*, num_samples: int) -> tuple[Posterior, list[Equation]]:
    """Make a posterior, and the equations that its samples come from."""
    model, drawn = Posterior(equation("biased_mf")), [equation("biased_mf", seed=seed) for seed in range(num_samples)]
    for each in drawn:
        model.samples.append(each.factors())
    return model, drawn


def similarity_of(model: Equation) -> ItemSimilarity:
    return ItemSimilarity(model, user_count=USER_COUNT, item_count=ITEM_COUNT)


@torch.no_grad()
def by_hand(model: Equation, item: int) -> np.ndarray:
    """Compute the shrunk cosines from the predictions alone: (num_items,)."""
    user, items = torch.arange(NUM_USERS).repeat_interleave(NUM_ITEMS), torch.arange(NUM_ITEMS).repeat(NUM_USERS)
    matrix = model(user.int(), items.int()).view(NUM_USERS, NUM_ITEMS).double().numpy()
    by_user, by_item = (count.numpy() / count.sum().item() for count in (USER_COUNT, ITEM_COUNT))
    matrix = matrix - by_user @ matrix
    matrix = matrix - (matrix @ by_item)[:, None]
    _, singular, right = np.linalg.svd(np.sqrt(by_user)[:, None] * matrix * np.sqrt(by_item))
    vectors = right[:DIM].T * np.sqrt(singular[:DIM])
    cosines = []
    for other in range(NUM_ITEMS):
        one, two = vectors[item], vectors[other]
        cosines.append(one @ two / np.sqrt((one @ one) * (two @ two)))
    return np.array(cosines) * SHARED.numpy() / (SHARED.numpy() + SHRINKAGE)


@pytest.mark.parametrize("name", ["mf", "biased_mf", "nmf"])
@pytest.mark.parametrize("item", [0, 7])
def test_similarity_is_the_shrunk_cosine_of_the_decomposed_predictions(name, item):
    model = equation(name)
    mean, deviation = similarity_of(model).similarities(item, shared_raters=SHARED)
    assert mean.tolist() == pytest.approx(by_hand(model, item), abs=1e-4)
    assert deviation.tolist() == [0] * NUM_ITEMS


def test_similarity_from_samples_is_their_mean_with_their_deviation():
    model, drawn = posterior(num_samples=4)
    expected = np.array([by_hand(each, 5) for each in drawn])
    mean, deviation = similarity_of(model).similarities(5, shared_raters=SHARED)
    assert mean.tolist() == pytest.approx(expected.mean(axis=0), abs=1e-4)
    assert deviation.tolist() == pytest.approx(expected.std(axis=0), abs=1e-3)


def test_similarity_does_not_depend_on_the_coordinates_of_the_factors():
    model, random = equation("biased_mf"), np.random.default_rng(0)
    expected = similarity_of(model).similarities(3, shared_raters=SHARED)[0]
    change = random.normal(size=(DIM, DIM)) + 2 * np.eye(DIM)
    with torch.no_grad():
        user, item = model.user_embedding.weight, model.item_embedding.weight
        user.copy_(user @ torch.from_numpy(np.linalg.inv(change).T).float())
        item.copy_(item @ torch.from_numpy(change).float() + 5)
        model.item_bias.weight.add_(2)
    found = similarity_of(model).similarities(3, shared_raters=SHARED)[0]
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("name", ["mean", "bias"])
def test_similarity_of_a_model_without_factors_is_empty(name):
    assert similarity_of(equation_of(name, TRAINING)).is_empty
    assert not similarity_of(equation("mf")).is_empty


@pytest.mark.parametrize("columns", [0, 1, 2])
def test_factors_that_do_not_differ_are_left_out(columns):
    """Embeddings that regularization has turned off have no direction."""
    model = equation("biased_mf")
    with torch.no_grad():
        model.user_embedding.weight[:, columns:] = 0.3
        model.item_embedding.weight[:, columns:] = 0.3
    found = similarity_of(model).similarities(2, shared_raters=SHARED)[0]
    assert found.isfinite().all()
    assert (found.abs() <= 1).all()
    assert (columns > 0) == bool((found != 0).any())
