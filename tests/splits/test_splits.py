"""Splits: the part of each row, their identities, and the messages about empty parts."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from tables import NO_SIDE_INFORMATION, table_of

from ratinglab.errors import UserError
from ratinglab.options import check_options
from ratinglab.splits.by_time import LeaveLastSplitOptions, TemporalSplitOptions
from ratinglab.splits.chosen_rows import FilesSplitOptions, RowsSplitOptions
from ratinglab.splits.folds import KFoldSplitOptions, MovieLensUSplitOptions, SurpriseKFoldSplitOptions
from ratinglab.splits.held_out_users import HeldOutUsersSplitOptions
from ratinglab.splits.random_rows import PerUserSplitOptions, RandomSplitOptions
from ratinglab.splits.split import TEST, TEST_HISTORY, TRAIN, VALIDATION, VALIDATION_HISTORY, Split, SplitOptions
from ratinglab.splits.split_ratings import make_split_ratings


def numbered(num_rows: int, *, num_users: int = 5, time=None, sources=()):
    """Make a table in which each row's rating is its row number."""
    row = np.arange(num_rows)
    return table_of(row % num_users, row % 7, row, timestamp=time, sources=sources)


def rows(split: Split, part: int) -> list[int]:
    return np.flatnonzero(split.part == part).tolist()


def sizes(split: Split) -> tuple[int, int, int]:
    return tuple(split.count(part) for part in (TRAIN, VALIDATION, TEST))


def random(*, seed=0, validation=0.2, test=0.1, refit=False) -> RandomSplitOptions:
    return RandomSplitOptions(refit=refit, seed=seed, validation=validation, test=test)


def test_surprise_folds_follow_the_shuffle_of_surprise():
    """The expected order is RandomState(0).shuffle(arange(10)); numpy guarantees that legacy streams do not change."""
    parts = [
        rows(
            SurpriseKFoldSplitOptions(refit=False, folds=3, fold=fold, seed=0, validation=0.0).apply(numbered(10)), TEST
        )
        for fold in (1, 2, 3)
    ]
    assert parts == [[2, 4, 8, 9], [1, 6, 7], [0, 3, 5]]


def kfold(fold: int, *, folds=5, seed=0, validation=0.25) -> KFoldSplitOptions:
    return KFoldSplitOptions(refit=False, folds=folds, fold=fold, seed=seed, validation=validation)


def test_random_parts_have_the_fractions_of_all_rows():
    assert sizes(random().apply(numbered(100))) == (70, 20, 10)
    assert sizes(random(validation=0.0, test=0.0).apply(numbered(10))) == (10, 0, 0)


def test_random_depends_only_on_its_seed():
    parts = [random(seed=seed).apply(numbered(100)).part.tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


def test_files_refuses_rows_that_were_merged_across_files():
    files = FilesSplitOptions(refit=False, test_files="b", validation_files=None, seed=0, validation=0.0)
    table = numbered(10, sources=[("a", 6), ("b", 10)])
    assert rows(files.apply(table), TEST) == [6, 7, 8, 9]
    with pytest.raises(UserError, match=r"split=files needs each pair .* merged 1 pair with rows in several files$"):
        files.apply(replace(table, merged_across_files=1))


def test_per_user_takes_the_fraction_of_each_user():
    user = np.repeat([0, 1, 2], [20, 10, 3])
    table = table_of(user, np.arange(33), np.arange(33))
    split = PerUserSplitOptions(refit=False, seed=0, validation=0.2, test=0.3).apply(table)
    counts = [
        [int(((split.part == part) & (user == one)).sum()) for part in (TRAIN, VALIDATION, TEST)] for one in range(3)
    ]
    assert counts == [[10, 4, 6], [5, 2, 3], [1, 1, 1]]
    other = PerUserSplitOptions(refit=False, seed=1, validation=0.2, test=0.3).apply(table)
    assert other.part.tolist() != split.part.tolist()


def test_per_user_leaves_each_user_a_training_row():
    table = table_of([0, 0, 1], [0, 1, 0], [1, 2, 3])
    assert sizes(PerUserSplitOptions(refit=False, seed=0, validation=0.0, test=0.9).apply(table)) == (2, 0, 1)


def test_leave_last_takes_the_last_rows_by_time_then_row_number():
    #              user 0: times 5, 9, 9, 1, 7; user 1: times 3, 2, 4; user 2: two rows are too few
    table = table_of(
        [0, 0, 0, 0, 0, 1, 1, 1, 2, 2], np.arange(10), np.arange(10), timestamp=[5, 9, 9, 1, 7, 3, 2, 4, 1, 2]
    )
    split = LeaveLastSplitOptions(refit=False, validation=1, test=1).apply(table)
    assert rows(split, TEST) == [2, 7]
    assert rows(split, VALIDATION) == [1, 5]
    assert split.notes == ("all ratings of 1 user with at most 2 ratings are used for training",)
    two = LeaveLastSplitOptions(refit=False, validation=0, test=2).apply(table)
    assert rows(two, TEST) == [1, 2, 5, 7]


def test_temporal_split_holds_out_the_last_rows():
    time = np.random.default_rng(0).permutation(10)
    split = TemporalSplitOptions(refit=False, validation=0.3, test=0.2).apply(numbered(10, time=time))
    assert split.part[np.argsort(time)].tolist() == [TRAIN] * 5 + [VALIDATION] * 3 + [TEST] * 2


def test_temporal_split_trains_only_on_earlier_rows():
    time = np.random.default_rng(0).integers(0, 30, 200)
    split = TemporalSplitOptions(refit=False, validation=0.2, test=0.1).apply(numbered(200, time=time))
    latest_train, validation = time[split.part == TRAIN].max(), time[split.part == VALIDATION]
    assert latest_train < validation.min()
    assert validation.max() < time[split.part == TEST].min()
    assert split.count(TEST) >= 20  # rows of the same time stay together
    assert split.count(TEST) + split.count(VALIDATION) >= 60


def test_rows_tests_on_the_range_and_validates_on_other_rows():
    split = RowsSplitOptions(refit=False, test_start=3, test_stop=13, seed=0, validation=0.5).apply(numbered(33))
    assert rows(split, TEST) == list(range(3, 13))
    assert sizes(split) == (11, 12, 10)


def test_folds_are_disjoint_and_cover_all_rows():
    found = [kfold(fold).apply(numbered(33)) for fold in range(1, 6)]
    assert [split.count(TEST) for split in found] == [7, 7, 7, 6, 6]
    assert sorted(row for split in found for row in rows(split, TEST)) == list(range(33))
    assert all(split.count(VALIDATION) == round(0.25 * (33 - split.count(TEST))) for split in found)


def test_files_assigns_whole_files_by_name():
    table = numbered(12, sources=[("a/u1.base", 6), ("u1.valid", 8), ("a/u1.test", 12)])
    split = FilesSplitOptions(
        refit=False, test_files="u1.test", validation_files="*.valid", seed=0, validation=0.0
    ).apply(table)
    assert rows(split, TEST) == [8, 9, 10, 11]
    assert rows(split, VALIDATION) == [6, 7]
    drawn = FilesSplitOptions(
        refit=False, test_files="a/u1.test", validation_files=None, seed=0, validation=0.25
    ).apply(table)
    assert sizes(drawn) == (6, 2, 4)
    assert rows(drawn, TEST) == [8, 9, 10, 11]


def test_published_folds_are_consecutive_fifths_of_the_rows(monkeypatch):
    table = numbered(100_000)
    u = MovieLensUSplitOptions(refit=False, fold=1, seed=0, validation=0.1)
    with pytest.raises(UserError, match=r"split=movielens_u needs all rows of MovieLens 100K .*, and table differs"):
        u.apply(table)
    monkeypatch.setattr(MovieLensUSplitOptions, "data_digest", table.digest)
    assert rows(u.apply(table), TEST) == list(range(20_000))
    assert sizes(u.apply(table)) == (72_000, 8_000, 20_000)


def test_identity_depends_on_data_policy_and_seed_and_ends_with_the_fold():
    table = numbered(50)
    families = {kfold(fold).apply(table).identity.split("/")[0] for fold in (1, 2, 3)}
    assert len(families) == 1
    assert [kfold(fold).apply(table).identity.split("/")[1] for fold in (1, 2)] == ["1", "2"]
    others = [kfold(1, seed=1), kfold(1, folds=4), kfold(1, validation=0.5), random(), random(seed=1)]
    identities = {split.apply(table).identity for split in others} | {kfold(1).apply(numbered(49)).identity}
    assert len(identities | families) == 7
    assert random().apply(table).identity == random(refit=True).apply(table).identity


def test_identity_of_a_files_split_depends_on_file_borders():
    split = FilesSplitOptions(refit=False, test_files="u[1].test", validation_files=None, seed=0, validation=0.0)
    tables = [numbered(10, sources=[("a.train", border), ("u[1].test", 10)]) for border in (7, 5)]
    assert len({split.apply(table).identity for table in tables}) == 2


def test_identities_are_stable_across_versions():
    table = numbered(50, time=np.arange(50))
    found = [
        random().apply(table),
        kfold(2).apply(table),
        LeaveLastSplitOptions(refit=False, validation=1, test=1).apply(table),
    ]
    assert [split.identity for split in found] == ["6d31714ceed8", "d20a2cd028aa/2", "2a3aad96869e"]


def held_out_users(*, validation=1, test=1, hidden=0.5, seed=0) -> HeldOutUsersSplitOptions:
    return HeldOutUsersSplitOptions(refit=False, validation=validation, test=test, hidden=hidden, seed=seed)


def test_held_out_users_keep_a_history_and_have_no_training_rows():
    """RandomState(0) orders four users 2, 3, 1, 0, so user 0 is for test and user 1 for validation."""
    user = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    item = [0, 1, 2, 9, 0, 1, 2, 0, 1, 1, 2]  # nobody else has rated item 9
    split = held_out_users().apply(table_of(user, item, np.arange(11)))
    assert rows(split, TRAIN) == [7, 8, 9, 10]
    assert (split.count(TEST), split.count(TEST_HISTORY), 3 in rows(split, TEST_HISTORY)) == (1, 3, True)
    assert (split.count(VALIDATION), split.count(VALIDATION_HISTORY)) == (1, 2)
    assert {user[row] for row in rows(split, TEST)} == {0}
    assert {user[row] for row in rows(split, VALIDATION)} == {1}
    refitted = split.for_refit()
    assert rows(refitted, TRAIN) == [4, 5, 6, 7, 8, 9, 10]
    assert rows(refitted, TEST) == rows(split, TEST)
    assert rows(refitted, TEST_HISTORY) == rows(split, TEST_HISTORY)


def test_held_out_users_and_rows_are_those_of_the_published_code():
    """Written anew from Liang et al.'s description: a seeded permutation of users; then for validation, and again for
    test, the seed, and for each user in order of ids with at least 5 rows of trained items, a draw of a fifth of them.
    """
    random = np.random.default_rng(3)
    user, item = np.nonzero(random.random((60, 40)) < np.linspace(0.01, 0.4, 40))
    table = table_of(user, item, np.ones(len(user)) * (1 + user % 5))
    np.random.seed(98765)
    order = np.random.permutation(60)
    expected, trained_items = {}, {i for u, i in zip(user, item, strict=True) if u in order[:36]}
    for part, users in ((VALIDATION, order[36:44]), (TEST, order[44:])):
        np.random.seed(98765)
        expected[part] = []
        for each in sorted(users):
            own = [row for row in np.flatnonzero(user == each) if item[row] in trained_items]
            if len(own) >= 5:
                drawn = np.random.choice(len(own), size=int(0.2 * len(own)), replace=False)
                expected[part] += [own[number] for number in drawn]
    split = held_out_users(validation=8, test=16, hidden=0.2, seed=98765).apply(table)
    assert {part: rows(split, part) for part in expected} == {part: sorted(own) for part, own in expected.items()}
    assert set(user[split.part == TRAIN]) == set(order[:36])
    counts = np.bincount(user)
    assert counts.min() < 5, "some users have too few rows to hide any"


def test_more_held_out_users_than_users_are_refused():
    with pytest.raises(UserError) as refusal:
        held_out_users(validation=3, test=2).apply(numbered(20))
    message = "split.validation + split.test must be below 5, the users of table, got 3 + 2 = 5"
    assert str(refusal.value) == message
    with pytest.raises(UserError, match="leaves no row of table for test: no held-out user has enough ratings to hide"):
        held_out_users(hidden=0.1).apply(numbered(20))


def test_identity_of_a_temporal_split_depends_on_times():
    identities = {
        TemporalSplitOptions(refit=False, validation=0.0, test=0.5)
        .apply(numbered(10, time=np.arange(10) + late))
        .identity
        for late in (0, 1)
    }
    assert len(identities) == 2


def test_refitted_split_trains_on_the_validation_rows():
    split = random(refit=True).apply(numbered(100))
    assert sizes(split.for_refit()) == (90, 0, 10)
    assert rows(split.for_refit(), TEST) == rows(split, TEST)
    assert split.for_refit().identity == split.identity


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (random(validation=0.5, test=0.5), r"split.validation \+ split.test must be below 1"),
        (
            PerUserSplitOptions(refit=False, seed=0, validation=0.5, test=0.5),
            r"split.validation \+ split.test must be below 1",
        ),
        (
            TemporalSplitOptions(refit=False, validation=0.5, test=0.5),
            r"split.validation \+ split.test must be below 1",
        ),
        (
            RowsSplitOptions(refit=False, test_start=5, test_stop=5, seed=0, validation=0.0),
            "test_stop must be above split.test_start",
        ),
        (kfold(6), "split.fold must be at most split.folds, got 6 and 5"),
        (kfold(0), "split.fold must be at least 1, got 0"),
        (kfold(1, folds=1), "split.folds must be at least 2, got 1"),
        (MovieLensUSplitOptions(refit=False, fold=6, seed=0, validation=0.1), "split.fold must be from 1 to 5, got 6"),
        (LeaveLastSplitOptions(refit=False, validation=0, test=0), "split.test must be at least 1, got 0"),
    ],
)
def test_conflicting_options_are_refused(split, message):
    with pytest.raises(UserError, match=message):
        check_options(split, prefix="split.")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            random(validation=0.0, test=0.01),
            "split=random with split.test=0.01 leaves no row of table for test: it has 20 ",
        ),
        (random(validation=0.01, test=0.5), "with split.validation=0.01 leaves no row of table for validation"),
        (
            RowsSplitOptions(refit=False, test_start=0, test_stop=21, seed=0, validation=0.0),
            "test_stop must be at most 20",
        ),
        (
            RowsSplitOptions(refit=False, test_start=0, test_stop=20, seed=0, validation=0.0),
            "leaves no row of table to train on",
        ),
        (kfold(1, folds=21), "split.folds must be at most 20, the rows of table, got 21"),
        (
            PerUserSplitOptions(refit=False, seed=0, validation=0.0, test=0.1),
            "split=per_user with split.test=0.1 leaves no row of table for test: the number of rows is rounded per "
            "user, and no user has more than [1-4] ratings?$",
        ),
        (
            LeaveLastSplitOptions(refit=False, validation=9, test=9),
            "no row of table for test: no user has more than . ratings?, and at least one",
        ),
        (
            TemporalSplitOptions(refit=False, validation=0.0, test=0.1),
            "to train on: rows with equal timestamps stay together, and the data have 1 timestamp$",
        ),
        (
            FilesSplitOptions(refit=False, test_files="b.tst", validation_files=None, seed=0, validation=0.0),
            "split.test_files: no file of data.path matches b.tst: it has a.base, b.test; did you mean b.test?",
        ),
        (
            FilesSplitOptions(refit=False, test_files="b.*", validation_files="*.test", seed=0, validation=0.0),
            "split.validation_files=.*.test and split.test_files=b",
        ),
        (
            FilesSplitOptions(refit=False, test_files="*", validation_files=None, seed=0, validation=0.0),
            "split.test_files=. matches every file of data.path: none is left to train on",
        ),
    ],
)
def test_impossible_part_is_refused(split, message):
    table = numbered(20, time=np.zeros(20), sources=[("x/a.base", 12), ("x/b.test", 20)])
    with pytest.raises(UserError, match=message):
        split.apply(table)


@dataclass
class OwnSplit(SplitOptions):
    name: ClassVar[str] = "own"

    parts: list[int]
    validation: str

    def assign(self, table):
        return np.array(self.parts)


def test_custom_split_can_return_any_integer_type():
    split = OwnSplit(refit=False, parts=[TRAIN, TEST, TRAIN], validation="").apply(numbered(3))
    assert (split.part.dtype, sizes(split)) == (np.int8, (2, 0, 1))


@pytest.mark.parametrize(
    ("parts", "validation", "message"),
    [
        (
            [TRAIN, TEST],
            "",
            r"^split=own: assign must return 3 part codes, each 0, 1 or 2; got shape \(2,\) and values \[0 2\]$",
        ),
        (
            [TRAIN, TEST, 3],
            "",
            r"^split=own: assign must return 3 part codes, each 0, 1 or 2; got shape \(3,\) and values \[0 2 3\]$",
        ),
        (
            [TRAIN, TEST, TEST],
            "late",
            "^split=own with split.validation=late leaves no row of table for validation: it has 3 ratings$",
        ),
        ([VALIDATION, TEST, TEST], "late", "^split=own leaves no row of table to train on: it has 3 ratings$"),
    ],
)
def test_invalid_parts_of_a_custom_split_are_refused(parts, validation, message):
    with pytest.raises(UserError, match=message):
        OwnSplit(refit=False, parts=parts, validation=validation).apply(numbered(3))


@pytest.mark.parametrize(
    "split",
    [
        LeaveLastSplitOptions(refit=False, validation=1, test=1),
        TemporalSplitOptions(refit=False, validation=0.1, test=0.1),
    ],
)
def test_split_by_time_needs_times(split):
    with pytest.raises(UserError, match=r"needs timestamps: set data.columns.timestamp to their column"):
        split.apply(numbered(20))


def test_hold_out_puts_users_and_items_with_training_rows_first():
    table = table_of(np.arange(35) % 5, np.arange(35) % 7, np.arange(35))
    # rows 0, 7, 14, … are of item 0; rows 1, 6, 11, … of user 1
    part = np.array([TEST if row % 7 == 0 or row % 5 == 1 else TRAIN for row in range(35)], dtype=np.int8)
    split_ratings = make_split_ratings(table, Split(part=part, identity="x"), NO_SIDE_INFORMATION)
    assert (split_ratings.num_users, split_ratings.num_items) == (4, 6)
    assert split_ratings.user_order.tolist() == [0, 2, 3, 4, 1]
    assert split_ratings.item_order.tolist() == [1, 2, 3, 4, 5, 6, 0]
    assert split_ratings.copy_rows(TRAIN).user.max() == 3
    assert split_ratings.copy_rows(TRAIN).item.max() == 5


def test_split_ratings_keep_the_user_and_item_of_every_row():
    table = numbered(35)
    split_ratings = make_split_ratings(
        table, random(seed=1, validation=0.1, test=0.8).apply(table), NO_SIDE_INFORMATION
    )
    for code in (TRAIN, VALIDATION, TEST):
        part = split_ratings.copy_rows(code)
        at = rows(split_ratings.split, code)
        assert split_ratings.user_order[part.user].tolist() == table.ratings.user[at].tolist()
        assert split_ratings.item_order[part.item].tolist() == table.ratings.item[at].tolist()
        assert part.rating.tolist() == at


@pytest.mark.parametrize(("time", "ties"), [([5, 5, 5, 5], 2), ([1, 2, 1, 2], 0), ([5, 5, 1, 2], 0)])
def test_leave_last_notes_ties_of_most_users(time, ties):
    table = table_of([0, 0, 1, 1], [0, 1, 0, 1], [1, 2, 3, 4], timestamp=time)
    notes = LeaveLastSplitOptions(refit=False, validation=0, test=1).apply(table).notes
    assert len(notes) == (ties > 0)
    assert all(note.startswith(f"for {ties} of 2 users, the first test rating and the") for note in notes)
