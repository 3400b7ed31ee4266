import numpy as np
import pytest

from ratinglab.errors import UserError
from ratinglab.options import check_options
from ratinglab.ratings.holdout import hold_out
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.splits import RandomSplit, RowsSplit, Split
from ratinglab.ratings.table import Ratings, RatingTable


def table_of(num_rows: int) -> RatingTable:
    row = np.arange(num_rows)
    return RatingTable(
        name="rows",
        ratings=Ratings(
            user=(row % 5).astype(np.int32), item=(row % 7).astype(np.int32), rating=row.astype(np.float32)
        ),
        user_ids=IdMap([10, 11, 12, 13, 14]),
        item_ids=IdMap(list("abcdefg")),
        titles=np.array([f"title {letter}" for letter in "abcdefg"], dtype=object),
        noise_floor=None,
    )


def assert_parts(split: Split, *, num_rows: int, sizes: tuple[int, int, int]) -> None:
    parts = (split.train, split.validation, split.test)
    assert tuple(len(part) for part in parts) == sizes
    assert sorted(np.concatenate(parts).tolist()) == list(range(num_rows))


def test_random_parts_have_the_fractions_of_all_rows():
    split = RandomSplit(seed=0, validation=0.2, test=0.1).apply(table_of(100))
    assert_parts(split, num_rows=100, sizes=(70, 20, 10))


def test_random_without_validation_or_test():
    assert_parts(RandomSplit(seed=0, validation=0.0, test=0.0).apply(table_of(10)), num_rows=10, sizes=(10, 0, 0))


def test_random_depends_on_its_seed_alone():
    digests = [RandomSplit(seed=seed, validation=0.2, test=0.1).apply(table_of(100)).digest() for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_rows_takes_the_range_for_test_and_validation_from_the_others():
    split = RowsSplit(test_start=3, test_stop=13, seed=0, validation=0.5).apply(table_of(33))
    assert split.test.tolist() == list(range(3, 13))
    assert_parts(split, num_rows=33, sizes=(11, 12, 10))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (RandomSplit(seed=0, validation=0.5, test=0.5), r"split.validation \+ split.test must be below 1"),
        (RowsSplit(test_start=5, test_stop=5, seed=0, validation=0.0), "test_stop must be above split.test_start"),
    ],
)
def test_fields_that_do_not_go_together(split, message):
    with pytest.raises(UserError, match=message):
        check_options(split)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (RandomSplit(seed=0, validation=0.0, test=0.01), "split.test=0.01 of 20 rows is no row"),
        (RandomSplit(seed=0, validation=0.01, test=0.5), "split.validation=0.01 of 20 rows is no row"),
        (RowsSplit(test_start=0, test_stop=21, seed=0, validation=0.0), "test_stop must be at most 20"),
        (RowsSplit(test_start=0, test_stop=20, seed=0, validation=0.0), "no row to train on"),
    ],
)
def test_a_part_that_cannot_be_is_refused(split, message):
    with pytest.raises(UserError, match=message):
        split.apply(table_of(20))


def test_hold_out_puts_users_and_items_with_training_rows_first():
    table = table_of(35)
    # rows 0, 7, 14, … are item a; rows 1, 6, 11, … user 11
    train = np.array([row for row in range(35) if row % 7 != 0 and row % 5 != 1])
    test = np.setdiff1d(np.arange(35), train)
    holdout = hold_out(table, Split(train=train, validation=np.empty(0, dtype=np.int64), test=test))
    assert (holdout.num_users, holdout.num_items) == (4, 6)
    assert holdout.table.user_ids.ids.tolist() == [10, 12, 13, 14, 11]
    assert holdout.table.item_ids.ids.tolist() == list("bcdefga")
    assert holdout.table.titles.tolist() == [f"title {letter}" for letter in "bcdefga"]
    assert holdout.train.user.max() == 3
    assert holdout.train.item.max() == 5


def test_hold_out_keeps_every_row_under_its_own_ids():
    table = table_of(35)
    holdout = hold_out(table, RandomSplit(seed=1, validation=0.1, test=0.8).apply(table))
    for rows, part in (
        (holdout.split.train, holdout.train),
        (holdout.split.validation, holdout.validation),
        (holdout.split.test, holdout.test),
    ):
        assert holdout.table.user_ids.ids[part.user].tolist() == table.user_ids.ids[table.ratings.user[rows]].tolist()
        assert holdout.table.item_ids.ids[part.item].tolist() == table.item_ids.ids[table.ratings.item[rows]].tolist()
        assert part.rating.tolist() == rows.tolist()
