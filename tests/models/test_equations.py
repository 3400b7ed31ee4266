"""Equations against values computed by hand."""

import itertools
from copy import deepcopy

import pytest
import torch
from equations import equation_of, multiply_pairs, options_of

from ratinglab.batches import Batch
from ratinglab.models.design import Design
from ratinglab.models.equation import Equation, TrainingData, zero_embedding
from ratinglab.models.factor_equation import BiasedFactorEquation, Term
from ratinglab.models.svdpp import ImplicitSide

USER, ITEM = torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([2, 0, 2], dtype=torch.int32)
RATED = Batch(
    user=torch.tensor([1, 0, 1, 1], dtype=torch.int32),
    item=torch.tensor([2, 2, 0, 1], dtype=torch.int32),
    rating=torch.tensor([3.0, 2.0, 4.0, 5.0]),
    day=torch.tensor([10, 7, -22, 10], dtype=torch.int32),
)
"""User 0 has rated item 2 on day 7; user 1 items 2 and 1 on day 10, and item 0 on day −22."""


def genres() -> Design:
    """Make genres: item 0 has genre 0, item 2 both, item 1 none."""
    item, genre = torch.tensor([0, 2, 2], dtype=torch.int32), torch.tensor([0, 0, 1], dtype=torch.int32)
    return Design.from_sets(item, genre, num_rows=3, num_columns=2)


def gender() -> Design:
    """Make genders: user 0 has gender 1, user 1 gender 0."""
    return Design.one_hot(torch.tensor([1, 0]), num_columns=2)


def age() -> Design:
    """Make ages: user 0 is 2 standard deviations above the mean, user 1 half of one below it."""
    return Design.one_hot(torch.tensor([0, 0]), num_columns=1, scale=torch.tensor([2.0, -0.5]))


def training_data(*, rating_mean=3.0, rows=RATED) -> TrainingData:
    return TrainingData(
        num_users=2,
        num_items=3,
        rating_mean=rating_mean,
        rows=rows,
        user_features={"gender": gender(), "age": age()},
        item_features={"genres": genres()},
    )


def build(name, *, seed=0, rating_mean=3.0, rows=RATED, **changed) -> Equation:
    training = training_data(rating_mean=rating_mean, rows=rows)
    regularization = {} if name == "mean" else {"regularization": 0.5}
    return equation_of(name, training, seed=seed, **regularization | changed)


def fill(model, **tables):
    for name, values in tables.items():
        getattr(model, name).weight.data = torch.tensor(values)
    return model


P, Q = [[1.0, 2.0], [3.0, -1.0]], [[0.5, 1.0], [0.0, 0.0], [2.0, 1.0]]
BIASES = {"user_bias": [[0.1], [0.2]], "item_bias": [[0.3], [9.0], [-1.0]]}


def test_mf_predicts_the_dot_product():
    model = fill(build("mf"), user_embedding=P, item_embedding=Q)
    assert model(USER, ITEM).tolist() == [4.0, 0.5, 5.0]
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * ((5 + 5) + (10 + 1.25) + (10 + 5)) / 3)


def test_biased_mf_adds_mean_and_biases():
    model = fill(build("biased_mf"), user_embedding=P, item_embedding=Q, **BIASES)
    assert model(USER, ITEM).tolist() == pytest.approx([3 + 0.1 - 1 + 4, 3 + 0.2 + 0.3 + 0.5, 3 + 0.2 - 1 + 5])
    squares = (5 + 5 + 0.01 + 1) + (10 + 1.25 + 0.04 + 0.09) + (10 + 5 + 0.04 + 1)
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * squares / 3)


def test_bias_and_mean_predict_without_embeddings():
    model = fill(build("bias"), **BIASES)
    assert model(USER, ITEM).tolist() == pytest.approx([3 + 0.1 - 1, 3 + 0.2 + 0.3, 3 + 0.2 - 1])
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * ((0.01 + 1) + (0.04 + 0.09) + (0.04 + 1)) / 3)
    mean = build("mean")
    assert mean(USER, ITEM).tolist() == [3.0] * 3
    assert mean.penalty(USER, ITEM).item() == 0


def test_nmf_predicts_the_dot_product_of_squares():
    model = fill(build("nmf"), user_embedding=P, item_embedding=Q)
    assert model(USER, ITEM).tolist() == [4 + 4, 9 * 0.25 + 1, 9 * 4 + 1]
    fourths = (1 + 16 + 16 + 1) + (81 + 1 + 0.0625 + 1) + (81 + 1 + 16 + 1)
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * fourths / 3)
    assert model.factors().user.factors.tolist() == [[1, 4], [9, 1]]


Y, X = [[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]], [[3.0, 1.0], [1.0, -1.0]]


@pytest.mark.parametrize(
    ("implicit", "users", "items"),
    [
        # (1,2) + (-1,1); (3,-1) + (0,3)/√3
        (ImplicitSide.user, [[0.0, 3.0], [3.0, -1 + 3**0.5]], [[0.5, 1.0], [0.0, 0.0], [2.0, 1.0]]),
        # items 0 and 1 are rated by user 1, item 2 by both: (4,0)/√2
        (ImplicitSide.item, P, [[1.5, 0.0], [1.0, -1.0], [2 + 4 / 2**0.5, 1.0]]),
        (ImplicitSide.both, [[0.0, 3.0], [3.0, -1 + 3**0.5]], [[1.5, 0.0], [1.0, -1.0], [2 + 4 / 2**0.5, 1.0]]),
    ],
)
def test_svdpp_adds_implicit_factors(implicit, users, items):
    tables = {"user_implicit": Y} if implicit != ImplicitSide.item else {}
    tables |= {"item_implicit": X} if implicit != ImplicitSide.user else {}
    model = fill(build("svdpp", implicit=implicit), user_embedding=P, item_embedding=Q, **BIASES, **tables)
    users, items = torch.tensor(users), torch.tensor(items)
    bias = torch.tensor([0.1 - 1, 0.2 + 0.3, 0.2 - 1])
    expected = 3 + bias + (users[USER.long()] * items[ITEM.long()]).sum(dim=1)
    assert model(USER, ITEM).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    factors = model.factors()
    assert factors.user.factors.tolist() == [pytest.approx(row) for row in users.tolist()]
    assert factors.item.factors.tolist() == [pytest.approx(row) for row in items.tolist()]
    squares = (5 + 5 + 0.01 + 1) + (10 + 1.25 + 0.04 + 0.09) + (10 + 5 + 0.04 + 1)
    if implicit != ImplicitSide.item:
        squares += 2 + 7 + 7  # of the users 0, 1, 1
    if implicit != ImplicitSide.user:
        squares += 12 + 2 + 12  # of the items 2, 0, 2
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * squares / 3)


Z = [[1.0, 1.0], [0.0, 4.0]]


def test_item_features_are_added_to_item_factors():
    model = build("svdpp", implicit=ImplicitSide.user, item_features=["genres"])
    fill(model, user_embedding=P, item_embedding=Q, user_implicit=Y, **BIASES)
    fill(model.item_features, **{"0": Z})
    # (0.5,1) + (1,1); nothing; (2,1) + (1,5)/√2
    expected = [[1.5, 2.0], [0.0, 0.0], [2 + 0.5**0.5, 1 + 5 * 0.5**0.5]]
    assert model.factors().item.factors.tolist() == [pytest.approx(row) for row in expected]
    without = fill(
        build("svdpp", implicit=ImplicitSide.user), user_embedding=P, item_embedding=Q, user_implicit=Y, **BIASES
    )
    more = model.penalty(USER, ITEM) - without.penalty(USER, ITEM)
    assert more.item() == pytest.approx(0.5 * (18 + 2 + 18) / 3)  # of the items 2, 0, 2


G, A = [[1.0, -1.0], [0.0, 2.0]], [[4.0, 2.0]]


def with_features() -> Equation:
    features = {"user_features": ["gender", "age"], "item_features": ["genres"]}
    model = fill(build("biased_mf", **features), user_embedding=P, item_embedding=Q, **BIASES)
    fill(model.user_features, **{"0": G, "1": A})
    fill(model.item_features, **{"0": Z})
    return model


def test_user_and_item_features_are_added_to_both_factors():
    model = with_features()
    # (1,2) + (0,2) + 2 (4,2); (3,−1) + (1,−1) − ½ (4,2)
    users = torch.tensor([[9.0, 8.0], [2.0, -3.0]])
    items = torch.tensor([[1.5, 2.0], [0.0, 0.0], [2 + 0.5**0.5, 1 + 5 * 0.5**0.5]])
    bias = torch.tensor([0.1 - 1, 0.2 + 0.3, 0.2 - 1])
    expected = 3 + bias + (users[USER.long()] * items[ITEM.long()]).sum(dim=1)
    assert model(USER, ITEM).tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    # p, gender, age, q, genres and both biases of each pair; the weights count unscaled
    squares = (5 + 4 + 20 + 5 + 18 + 0.01 + 1) + (10 + 2 + 20 + 1.25 + 2 + 0.04 + 0.09)
    squares += 10 + 2 + 20 + 5 + 18 + 0.04 + 1
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * squares / 3)


def test_feature_weights_follow_the_option_order_and_leave_others_unchanged():
    plain, model = build("biased_mf"), build("biased_mf", user_features=["age", "gender"])
    assert [weights.num_embeddings for weights in model.user_features] == [1, 2]
    assert len(model.item_features) == 0
    for name in ("user_embedding", "item_embedding"):
        assert torch.equal(getattr(plain, name).weight, getattr(model, name).weight)
    assert all(0 < weights.weight.abs().max() < 0.5 for weights in model.user_features)


def timed() -> torch.nn.Module:
    """Build timesvdpp with rows for user 0 on day 7 and user 1 on days −22 and 10, mean day −2/3."""
    model = fill(
        build("timesvdpp", implicit=ImplicitSide.user), user_embedding=P, item_embedding=Q, user_implicit=Y, **BIASES
    )
    fill(model, user_day_bias=[[0.5], [1.0], [2.0]], user_day_embedding=[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    return fill(model, user_drift_bias=[[7.0], [0.1]], user_drift=[[5.0, 5.0], [0.2, 0.0]])


DAY = torch.tensor([7, -22, 10], dtype=torch.int32)
EARLIER, LATER = -1, 0.5**0.4  # 21 ⅓ and 10 ⅔ days from the mean, over the power of the largest


def test_timesvdpp_adds_daily_biases_factors_and_drift_to_svdpp():
    model = timed()
    # user 0 has one day, so no drift
    users = torch.tensor([[1.0, 3.0], [3 + 0.2 * EARLIER, 3**0.5], [2 + 0.2 * LATER, -1 + 3**0.5]])
    bias = torch.tensor([0.1 + 0.5 - 1, 0.2 + 1.0 + 0.1 * EARLIER + 0.3, 0.2 + 2.0 + 0.1 * LATER - 1])
    expected = 3 + bias + (users * torch.tensor(Q)[ITEM.long()]).sum(dim=1)
    assert model(USER, ITEM, DAY).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    svdpp = build("svdpp", implicit=ImplicitSide.user)
    plain = fill(svdpp, user_embedding=P, item_embedding=Q, user_implicit=Y, **BIASES)
    squares = (0.25 + 1 + 49 + 50) + (1 + 1 + 0.01 + 0.04) + (4 + 1 + 0.01 + 0.04)
    more = model.penalty(USER, ITEM, DAY) - plain.penalty(USER, ITEM)
    assert more.item() == pytest.approx(0.5 * squares / 3, rel=1e-5)


def test_timesvdpp_uses_the_last_day_without_a_day_and_for_factors():
    model = timed()
    last = torch.tensor([7, 10, 10], dtype=torch.int32)
    assert torch.equal(model(USER, ITEM, None), model(USER, ITEM, last))
    rating = multiply_pairs(model.factors(), USER, ITEM)
    assert rating.tolist() == pytest.approx(model(USER, ITEM).tolist(), abs=1e-5)


def test_user_features_are_equal_on_all_days():
    model = build("timesvdpp", user_features=["gender", "age"])
    fill(model.user_features, **{"0": G, "1": A})
    without = fill(build("timesvdpp"), user_embedding=model.user_embedding.weight.tolist())
    for name in ("user_implicit", "item_implicit", "item_embedding"):
        getattr(without, name).weight.data = getattr(model, name).weight.data
    extended, plain = (equation.user_side().compute(torch.arange(3)).factors for equation in (model, without))
    # (0,2) + 2 (4,2) of user 0, on one day; (1,−1) − ½ (4,2) of user 1, on two
    assert (extended - plain).tolist() == [pytest.approx(row, abs=1e-6) for row in ([8, 6], [-1, -2], [-1, -2])]


FACTORED = {
    "mf": {},
    "biased_mf": {"user_features": ["gender", "age"], "item_features": ["genres"]},
    "nmf": {},
    "svdpp": {"item_features": ["genres"]},
    "timesvdpp": {"user_features": ["gender"]},
}


@pytest.mark.parametrize("name", ["biased_mf", "svdpp", "timesvdpp"])
def test_designs_and_weights_of_terms_belong_to_the_equation_and_to_its_copy(name):
    model = build(name, **FACTORED[name])
    for equation in (model, deepcopy(model)):
        modules = set(equation.modules())
        terms = [term for side in equation.sides() for term in side.terms]
        assert len(terms) > 0
        for term in terms:
            assert {term.design, term.embedding} <= modules, "a move to a device would leave it behind"


def test_subclass_adds_a_term_to_features_and_has_its_own_mean():
    class Shifted(BiasedFactorEquation):
        """Adds the term of weights that are made after the features, and sets an attribute `mean`."""

        def __init__(self, options, training):
            generator = torch.Generator().manual_seed(0)
            super().__init__(options, training, generator=generator)
            self.add_features(options, training, generator=generator)
            self.mean = training.rating_mean
            self.shift = Design.one_hot(torch.zeros(3, dtype=torch.int64), num_columns=1)
            self.shift_embedding = zero_embedding(1, options.embedding_dim)

        def side_terms(self, side):
            own = (Term("shift", self.shift, self.shift_embedding),) if side == "item" else ()
            return (*super().side_terms(side), *own)

    equation = Shifted(options_of("biased_mf", item_features=["genres"]), training_data())
    assert [term.name for term in equation.item_side().terms] == ["item_feature_0", "shift"]
    assert (equation.mean, float(equation.rating_mean)) == (3.0, 3.0)


@pytest.mark.parametrize("name", FACTORED)
def test_factors_reproduce_the_equation_for_all_pairs(name):
    model = build(name, **FACTORED[name])
    for number, parameter in enumerate(model.parameters()):
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(number))
    factors = model.factors()
    assert (factors.user.factors.shape, factors.item.factors.shape) == ((2, 2), (3, 2))
    if factors.user.bias is not None:
        assert (factors.user.bias.shape, factors.item.bias.shape) == ((2, 1), (3, 1))
    pairs = torch.arange(2).repeat_interleave(3).int(), torch.arange(3).repeat(2).int()
    assert torch.allclose(multiply_pairs(factors, *pairs), model(*pairs), atol=1e-5)


@pytest.mark.parametrize("name", ["bias", "mean"])
def test_equation_of_another_form_has_no_factors(name):
    assert build(name).factors() is None


@pytest.mark.parametrize("name", ["mf", "biased_mf", "svdpp", "timesvdpp", "nmf", "bias", "mean"])
def test_arguments_include_the_day_only_when_declared(name):
    model = build(name)
    assert model.takes_day == (name == "timesvdpp")
    assert len(model.forward_arguments(USER, ITEM, DAY)) == (3 if name == "timesvdpp" else 2)
    assert model(*model.forward_arguments(USER, ITEM, DAY)).shape == (3,)


def test_initial_timesvdpp_equals_svdpp():
    started, plain = build("timesvdpp"), build("svdpp")
    assert torch.equal(started(USER, ITEM, DAY), plain(USER, ITEM))


@pytest.mark.parametrize(
    ("name", "rating_mean"),
    [*itertools.product(["mf", "biased_mf", "svdpp", "timesvdpp"], [3.5, -4.0, 0.0]), ("nmf", 3.5)],
)
def test_initial_predictions_are_near_the_mean(name, rating_mean):
    model = build(name, rating_mean=rating_mean, embedding_dim=64, init_std=0.01)
    assert model(USER, ITEM).tolist() == pytest.approx([rating_mean] * 3, abs=0.2)


@pytest.mark.parametrize("name", ["mf", "biased_mf", "svdpp", "timesvdpp", "nmf"])
def test_batch_of_one_keeps_its_shape(name):
    assert build(name)(USER[:1], ITEM[:1]).shape == (1,)


@pytest.mark.parametrize("name", ["mf", "biased_mf", "svdpp", "timesvdpp", "nmf"])
def test_initial_weights_depend_only_on_the_seed(name):
    torch.manual_seed(99)
    weights = [build(name, seed=seed).user_embedding.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", ["mf", "biased_mf", "svdpp", "timesvdpp", "nmf"])
def test_every_option_changes_the_model(name):
    base = build(name)
    penalty = base.penalty(USER, ITEM).item()
    assert build(name, embedding_dim=3).user_embedding.weight.shape == (2, 3)
    assert not torch.equal(build(name, init_std=0.2).user_embedding.weight, base.user_embedding.weight)
    assert build(name, regularization=1.0).penalty(USER, ITEM).item() == pytest.approx(2 * penalty)
