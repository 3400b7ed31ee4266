"""Files of a run: a loaded run predicts like the written one, also in an earlier format."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from equations import options_of
from fits import split_ratings_of
from run_folders import accept_files, edit_record, record_of, run_json_of, write_run_of, write_weights
from tables import NO_SIDE_INFORMATION, table_of, table_with_features

from ratinglab.errors import UserError
from ratinglab.models.factor_equation import Side
from ratinglab.models.factors import Factors, SideFactors
from ratinglab.models.svdpp import ImplicitSide
from ratinglab.runs.record import read_record
from ratinglab.runs.storage import count_training_ratings, write_run
from ratinglab.runs.weights import load_predictor, read_checkpoint, read_training_data
from ratinglab.splits.split import TEST, TRAIN, Split
from ratinglab.splits.split_ratings import make_split_ratings

MODELS = {
    "mf": ("mf", {}),
    "biased_mf with features": ("biased_mf", {"user_features": ["age", "group"], "item_features": ["genres"]}),
    "svdpp with genres": ("svdpp", {"item_features": ["genres"]}),
    "svdpp": ("svdpp", {"implicit": ImplicitSide.user}),
    "timesvdpp": ("timesvdpp", {"item_features": ["genres"]}),
}


def model_of(case):
    name, options = MODELS[case]
    return options_of(name, **options)


def pairs():
    """Pair each user with each item, known or not, on a day."""
    user, item = torch.arange(-1, 31).repeat_interleave(22).int(), torch.arange(-1, 21).repeat(32).int()
    return user, item, (user.abs() % 3).int()


@pytest.mark.parametrize("case", MODELS)
def test_loaded_run_predicts_like_the_written_one(tmp_path, case):
    written = write_run_of(tmp_path / "run", model_of(case), table_with_features())
    loaded, best_epoch = load_predictor(read_record(tmp_path / "run"), tmp_path / "run")
    assert torch.equal(loaded(*pairs()), written(*pairs()))
    assert best_epoch == 2
    assert not loaded.training


def test_run_stores_the_side_information_its_equation_needs_and_all_item_features(tmp_path):
    model = model_of("biased_mf with features")
    write_run_of(tmp_path / "run", model, table_with_features())
    split_ratings = split_ratings_of(table_with_features(), model)
    users, items = (pd.read_parquet(tmp_path / "run" / f"{name}.parquet") for name in ("users", "items"))
    assert list(users) == ["user_id", "feature/age", "feature/group"]
    assert list(items) == ["item_id", "title", "feature/genres"]
    assert np.array_equal(users["feature/age"], split_ratings.side_information.user_features["age"], equal_nan=True)
    assert users["feature/group"].tolist() == split_ratings.side_information.user_features["group"].tolist()
    assert "day" not in pd.read_parquet(tmp_path / "run" / "ratings.parquet")
    write_run_of(tmp_path / "plain", options_of("biased_mf"), table_with_features())
    users, items = (pd.read_parquet(tmp_path / "plain" / f"{name}.parquet") for name in ("users", "items"))
    assert list(users) == ["user_id"]
    assert (
        items["feature/genres"].tolist()
        == table_with_features().item_columns["genres"][split_ratings.item_order].tolist()
    )
    write_run_of(tmp_path / "timed", model_of("timesvdpp"), table_with_features())
    assert pd.read_parquet(tmp_path / "timed" / "ratings.parquet")["day"].isin([0, 1, 2]).all()


def test_tables_list_users_and_items_with_training_rows_first(tmp_path):
    titles = np.array([f"title {item}" for item in range(7)], dtype=object)
    columns = {"year": np.arange(7, dtype=np.float64)}
    table = table_of(np.arange(35) % 5, np.arange(35) % 7, 1 + np.arange(35) % 5, titles=titles, item_columns=columns)
    # rows 0, 7, 14, … are of item 0; rows 1, 6, 11, … of user 1
    part = np.array([TEST if row % 7 == 0 or row % 5 == 1 else TRAIN for row in range(35)], dtype=np.int8)
    split_ratings = make_split_ratings(table, Split(part=part, identity="x"), NO_SIDE_INFORMATION)
    write_run(tmp_path, record=record_of(options_of("mf"), split_ratings), ratings=split_ratings)
    users, items = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("users", "items"))
    item_order = [1, 2, 3, 4, 5, 6, 0]
    assert users["user_id"].tolist() == [0, 2, 3, 4, 1]
    assert items["item_id"].tolist() == items["feature/year"].tolist() == item_order
    assert items["title"].tolist() == [f"title {item}" for item in item_order]


def test_features_can_have_the_names_of_other_columns(tmp_path):
    table = table_with_features()
    table = replace(table, user_columns={"user_id": table.user_columns["group"]})
    model = options_of("biased_mf", user_features=["user_id"])
    written = write_run_of(tmp_path / "run", model, table)
    loaded, _ = load_predictor(read_record(tmp_path / "run"), tmp_path / "run")
    assert torch.equal(loaded(*pairs()), written(*pairs()))


def test_training_data_holds_only_what_the_equation_needs(tmp_path):
    for case, interactions, days in (("mf", False, False), ("svdpp", True, False), ("timesvdpp", True, True)):
        write_run_of(tmp_path / case, model_of(case), table_with_features())
        part = read_training_data(read_record(tmp_path / case), tmp_path / case)
        assert (part.rows is not None) == interactions
        assert (part.rows is not None and part.rows.day is not None) == days


def sample(predictor) -> Factors:
    random = torch.Generator().manual_seed(3)

    def drawn(side: Side) -> SideFactors:
        factors, bias = (torch.randn(table.weight.shape, generator=random) for table in (side.embedding, side.bias))
        return SideFactors(factors, bias, torch.ones(len(side.last_rows())))

    return Factors(*map(drawn, predictor.model.equation.sides()), mean=float(predictor.model.equation.rating_mean))


def test_samples_of_a_run_with_features_are_loaded(tmp_path):
    folder = tmp_path / "run"
    written = write_run_of(folder, model_of("svdpp with genres"), table_with_features(), is_sampled=True)
    record = read_record(folder)
    with pytest.raises(UserError, match=r"best\.ckpt holds no sample yet: the run was stopped during burn-in; resume="):
        load_predictor(record, folder)
    written.model.samples.append(sample(written))
    write_weights(folder, {f"predictor.{name}": weight for name, weight in written.state_dict().items()})
    loaded, _ = load_predictor(read_record(folder), folder)
    assert torch.equal(loaded(*pairs()), written(*pairs()))


def test_weights_that_do_not_match_the_options_are_refused(tmp_path):
    folder = tmp_path / "run"
    write_run_of(folder, model_of("svdpp with genres"), table_with_features())
    options = run_json_of(folder)["model_options"]
    edit_record(folder, model_options=options | {"embedding_dim": 5})
    with pytest.raises(UserError, match=r"best\.ckpt does not hold the weights of svdpp$"):
        load_predictor(read_record(folder), folder)
    for changed, message in (
        ({"embeding_dim": 5}, "run.json: SVDppOptions has no option embeding_dim, which the run has$"),
        ({"implicit": "all"}, r"run\.json is damaged: "),
    ):
        edit_record(folder, model_options=options | changed)
        with pytest.raises(UserError, match=message):
            load_predictor(read_record(folder), folder)


def test_run_without_a_needed_feature_is_refused(tmp_path):
    folder = tmp_path / "run"
    write_run_of(folder, model_of("biased_mf with features"), table_with_features())
    users = pd.read_parquet(folder / "users.parquet")
    users.drop(columns="feature/age").to_parquet(folder / "users.parquet")
    accept_files(folder)
    with pytest.raises(UserError, match=r"users\.parquet is damaged: it has no column feature/age$"):
        load_predictor(read_record(folder), folder)


@pytest.mark.parametrize("name", ["users.parquet", "ratings.parquet", "checkpoints/best.ckpt"])
def test_missing_or_truncated_file_gives_a_one_line_error(tmp_path, name):
    folder = tmp_path / "run"
    model = options_of("svdpp", user_features=["group"])
    write_run_of(folder, model, table_with_features())
    content = (folder / name).read_bytes()
    for damaged in (content[: len(content) // 2], None):
        (folder / name).unlink()
        if damaged is not None:
            (folder / name).write_bytes(damaged)
        with pytest.raises(UserError, match=name.replace(".", r"\.")) as error:
            load_predictor(read_record(folder), folder)
        assert "\n" not in str(error.value)
        if damaged is not None:
            assert "damaged" in str(error.value)


def test_a_checkpoint_has_the_number_of_its_epochs(tmp_path):
    write_run_of(tmp_path / "run", model_of("mf"), table_with_features())
    record = read_record(tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", record=record).epochs == 2


def test_a_damaged_checkpoint_is_refused(tmp_path):
    write_run_of(tmp_path / "run", model_of("mf"), table_with_features())
    record, path = read_record(tmp_path / "run"), tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"^run: \S+best\.ckpt is damaged"):
        read_checkpoint(path, record=record)


def test_training_ratings_are_counted_without_those_held_out(tmp_path):
    write_run_of(tmp_path / "run", model_of("mf"), table_with_features())
    rows = pd.read_parquet(tmp_path / "run" / "ratings.parquet")
    train = rows[rows["part"] == 0]
    assert 0 < len(train) < len(rows)
    users, items = count_training_ratings(tmp_path / "run", num_users=30, num_items=20)
    assert users.tolist() == [int((train["user"] == user).sum()) for user in range(30)]
    assert items.tolist() == [int((train["item"] == item).sum()) for item in range(20)]
