import pytest
import torch
from ratinglab.models.discovery import build_model, model_class, model_name, model_names, options_class

from ratinglab.errors import UserError
from ratinglab.models import biased_mf, mf
from ratinglab.models.equation import Interactions, ItemFeatures

USER, ITEM = torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([2, 0, 2], dtype=torch.int32)


def options(**changed):
    return {"embedding_dim": 2, "regularization": 0.5, "init_std": 0.1} | changed


RATED = Interactions(
    user=torch.tensor([1, 0, 1, 1], dtype=torch.int32),
    item=torch.tensor([2, 2, 0, 1], dtype=torch.int32),
    day=torch.tensor([10, 7, -22, 10], dtype=torch.int32),
)
"""User 0 has rated item 2 on day 7; user 1 items 2 and 1 on day 10, and item 0 on day −22."""
FEATURES = ItemFeatures(
    item=torch.tensor([0, 2, 2], dtype=torch.int32), feature=torch.tensor([0, 0, 1], dtype=torch.int32), num_features=2
)
"""Item 0 has feature 0, item 2 both, item 1 none."""


def build(name, seed=0, rating_mean=3.0, features=FEATURES, **changed):
    more = {"implicit": "both", "item_features": False} if name in ("svdpp", "timesvdpp") else {}
    more |= {"item_bins": 4} if name == "timesvdpp" else {}
    return build_model(
        name,
        options(**more) | changed,
        num_users=2,
        num_items=3,
        rating_mean=rating_mean,
        seed=seed,
        interactions=lambda: RATED,
        item_features=lambda: features,
    )


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


def test_bias_and_mean_know_nothing_of_who_likes_what():
    numbers = {"num_users": 2, "num_items": 3, "rating_mean": 3.0, "seed": 0}
    model = fill(
        build_model("bias", {"regularization": 0.5}, **numbers),
        user_bias=[[0.1], [0.2]],
        item_bias=[[0.3], [9.0], [-1.0]],
    )
    assert model(USER, ITEM).tolist() == pytest.approx([3 + 0.1 - 1, 3 + 0.2 + 0.3, 3 + 0.2 - 1])
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * ((0.01 + 1) + (0.04 + 0.09) + (0.04 + 1)) / 3)
    mean = build_model("mean", {}, **numbers)
    assert mean(USER, ITEM).tolist() == [3.0] * 3
    assert mean.penalty(USER, ITEM).item() == 0


def test_nmf_is_a_product_of_squares():
    model = fill(build("nmf"), user_embedding=P, item_embedding=Q)
    assert model(USER, ITEM).tolist() == [4 + 4, 9 * 0.25 + 1, 9 * 4 + 1]
    fourths = (1 + 16 + 16 + 1) + (81 + 1 + 0.0625 + 1) + (81 + 1 + 16 + 1)
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * fourths / 3)
    assert model.factors().user.tolist() == [[1, 4], [9, 1]]
    with pytest.raises(UserError, match="model=nmf predicts no rating below 0: the mean must be above 0, got -1"):
        build("nmf", rating_mean=-1.0)


Y, X = [[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]], [[3.0, 1.0], [1.0, -1.0]]


@pytest.mark.parametrize(
    ("implicit", "users", "items"),
    [
        # (1,2) + (-1,1); (3,-1) + (0,3)/√3
        ("user", [[0.0, 3.0], [3.0, -1 + 3**0.5]], [[0.5, 1.0], [0.0, 0.0], [2.0, 1.0]]),
        # items 0 and 1 are rated by user 1, item 2 by both: (4,0)/√2
        ("item", P, [[1.5, 0.0], [1.0, -1.0], [2 + 4 / 2**0.5, 1.0]]),
        ("both", [[0.0, 3.0], [3.0, -1 + 3**0.5]], [[1.5, 0.0], [1.0, -1.0], [2 + 4 / 2**0.5, 1.0]]),
    ],
)
def test_svdpp_adds_to_the_factors_what_follows_from_who_rated_what(implicit, users, items):
    tables = {
        "user_embedding": P,
        "item_embedding": Q,
        "user_bias": [[0.1], [0.2]],
        "item_bias": [[0.3], [9.0], [-1.0]],
    }
    tables |= {"user_implicit": Y} if implicit != "item" else {}
    tables |= {"item_implicit": X} if implicit != "user" else {}
    model = fill(build("svdpp", implicit=implicit), **tables)
    users, items = torch.tensor(users), torch.tensor(items)
    bias = torch.tensor([0.1 - 1, 0.2 + 0.3, 0.2 - 1])
    expected = 3 + bias + (users[USER.long()] * items[ITEM.long()]).sum(dim=1)
    assert model(USER, ITEM).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    factors = model.factors()
    assert factors.user.tolist() == [pytest.approx(row) for row in users.tolist()]
    assert factors.item.tolist() == [pytest.approx(row) for row in items.tolist()]
    squares = (5 + 5 + 0.01 + 1) + (10 + 1.25 + 0.04 + 0.09) + (10 + 5 + 0.04 + 1)
    if implicit != "item":
        squares += 2 + 7 + 7  # of the users 0, 1, 1
    if implicit != "user":
        squares += 12 + 2 + 12  # of the items 2, 0, 2
    assert model.penalty(USER, ITEM).item() == pytest.approx(0.5 * squares / 3)


BIASES = {"user_bias": [[0.1], [0.2]], "item_bias": [[0.3], [9.0], [-1.0]]}
Z = [[1.0, 1.0], [0.0, 4.0]]


def test_item_features_add_to_the_items_that_have_them():
    model = build("svdpp", implicit="user", item_features=True)
    fill(model, user_embedding=P, item_embedding=Q, user_implicit=Y, item_features=Z, **BIASES)
    # (0.5,1) + (1,1); nothing; (2,1) + (1,5)/√2
    expected = [[1.5, 2.0], [0.0, 0.0], [2 + 0.5**0.5, 1 + 5 * 0.5**0.5]]
    assert model.factors().item.tolist() == [pytest.approx(row) for row in expected]
    without = fill(build("svdpp", implicit="user"), user_embedding=P, item_embedding=Q, user_implicit=Y, **BIASES)
    more = model.penalty(USER, ITEM) - without.penalty(USER, ITEM)
    assert more.item() == pytest.approx(0.5 * (18 + 2 + 18) / 3)  # of the items 2, 0, 2


def test_item_features_that_are_not_known_are_asked_for():
    with pytest.raises(UserError, match=r"needs the items' genres, and there are none; data\.titles\.genres"):
        build("svdpp", item_features=True, features=None)
    build("svdpp", features=None)


def timed() -> torch.nn.Module:
    """Rows: user 0 on day 7; user 1 on the days −22 and 10, whose mean day is −2/3."""
    model = fill(build("timesvdpp", implicit="user"), user_embedding=P, item_embedding=Q, user_implicit=Y, **BIASES)
    fill(model, user_day_bias=[[0.5], [1.0], [2.0]], user_day_embedding=[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    fill(model, user_drift_bias=[[7.0], [0.1]], user_drift=[[5.0, 5.0], [0.2, 0.0]])
    return fill(model, item_bin_bias=[[float(number)] for number in range(12)])


DAY = torch.tensor([7, -22, 10], dtype=torch.int32)
EARLIER, LATER = -((22 - 2 / 3) ** 0.4), (10 + 2 / 3) ** 0.4


def test_timesvdpp_is_svdpp_whose_biases_and_users_move_with_the_days():
    model = timed()
    # user 0 has one day, at which nothing has drifted; 33 days in 4 bins: day 7 is in the last, day −22 in the first
    users = torch.tensor([[1.0, 3.0], [3 + 0.2 * EARLIER, 3**0.5], [2 + 0.2 * LATER, -1 + 3**0.5]])
    bias = torch.tensor(
        [0.1 + 0.5 - 1 + 11, 0.2 + 1.0 + 0.1 * EARLIER + 0.3 + 0, 0.2 + 2.0 + 0.1 * LATER - 1 + 11], dtype=torch.float32
    )
    expected = 3 + bias + (users * torch.tensor(Q)[ITEM.long()]).sum(dim=1)
    assert model(USER, ITEM, DAY).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    plain = fill(build("svdpp", implicit="user"), user_embedding=P, item_embedding=Q, user_implicit=Y, **BIASES)
    squares = (0.25 + 1 + 49 + 50 + 121) + (1 + 1 + 0.01 + 0.04 + 0) + (4 + 1 + 0.01 + 0.04 + 121)
    more = model.penalty(USER, ITEM, DAY) - plain.penalty(USER, ITEM)
    assert more.item() == pytest.approx(0.5 * squares / 3, rel=1e-5)


def test_timesvdpp_without_a_day_is_of_the_last_one_as_are_its_factors():
    model = timed()
    last = torch.tensor([7, 10, 10], dtype=torch.int32)
    # the last bin ends with day 10
    assert torch.equal(model(USER, ITEM, None), model(USER, ITEM, last))
    factors = model.factors()
    rating = factors.mean + (factors.user[USER.long()] * factors.item[ITEM.long()]).sum(dim=1)
    rating = rating + factors.biases[0][USER.long(), 0] + factors.biases[1][ITEM.long(), 0]
    assert rating.tolist() == pytest.approx(model(USER, ITEM).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("user", "days", "row"),
    [
        (0, [7, -9999, 9999, -(2**31), 2**31 - 1], 0),
        (1, [-22, -30, -7, -6, -(2**31)], 1),  # −6 is as near to both
        (1, [-5, 0, 10, 11, 2**31 - 1], 2),
    ],
)
def test_a_day_without_ratings_is_as_the_nearest_one_of_the_user(user, days, row):
    user = torch.full((5,), user, dtype=torch.int32)
    assert timed().user_rows(user, torch.tensor(days, dtype=torch.int32)).tolist() == [row] * 5


def test_without_a_day_items_are_as_in_their_last_bin_whatever_the_users_last_day():
    user, item = USER[:1], ITEM[:1]
    earlier = RATED._replace(day=torch.tensor([10, -20, -22, 10], dtype=torch.int32))
    model = build_model(
        "timesvdpp",
        options(implicit="user", item_features=False, item_bins=4),
        num_users=2, num_items=3, rating_mean=3.0, seed=0,
        interactions=lambda: earlier, item_features=lambda: None,
    )  # fmt: skip
    fill(model, item_bin_bias=[[float(number)] for number in range(12)])
    on_last_day = model(user, item, torch.tensor([-20], dtype=torch.int32))
    assert (model(user, item) - on_last_day).item() == pytest.approx(11 - 8)
    # outside the days of the training rows time is in the first or the last bin
    far = [model(user, item, torch.tensor([day], dtype=torch.int32)) for day in (-(2**31), 2**31 - 1)]
    assert [(each - on_last_day).item() for each in far] == pytest.approx([0, 11 - 8])


def test_timesvdpp_starts_as_svdpp():
    started, plain = build("timesvdpp"), build("svdpp")
    assert torch.equal(started(USER, ITEM, DAY), plain(USER, ITEM))


@pytest.mark.parametrize("name", ["mf", "biased_mf", "svdpp", "timesvdpp"])
@pytest.mark.parametrize("rating_mean", [3.5, -4.0, 0.0])
def test_the_first_predictions_lie_around_the_mean(name, rating_mean):
    model = build(name, rating_mean=rating_mean, embedding_dim=64, init_std=0.01)
    assert model(USER, ITEM).tolist() == pytest.approx([rating_mean] * 3, abs=0.2)


@pytest.mark.parametrize("name", ["mf", "biased_mf", "svdpp", "timesvdpp", "nmf"])
def test_a_batch_of_one_keeps_its_shape(name):
    assert build(name)(USER[:1], ITEM[:1]).shape == (1,)


@pytest.mark.parametrize("name", ["mf", "biased_mf", "svdpp", "timesvdpp", "nmf"])
def test_the_first_weights_depend_on_the_seed_alone(name):
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


def test_equations_are_found_by_their_files():
    assert {"biased_mf", "mf"} <= set(model_names())
    assert model_class("mf") is mf.MF
    assert model_class("biased_mf") is biased_mf.BiasedMF


def test_the_options_of_an_equation_are_found_by_its_name():
    for name, cls in {"mf": mf.MFOptions, "biased_mf": biased_mf.BiasedMFOptions}.items():
        assert options_class(name) is cls
        assert model_name(cls(**options())) == name
