"""Values that mean unrated: notes on them, and dropping them."""

import numpy as np
import pytest
from tables import csv_options, rows_of

from ratinglab.datasets.sources import ScaleOptions
from ratinglab.errors import UserError
from ratinglab.reading.cleaning_options import Duplicates
from ratinglab.reading.unrated import is_unrated, note_suspected_unrated


def suspected(values):
    """Return the values in data.unrated=[…] of the notes on ratings."""
    notes = note_suspected_unrated(np.array(values, dtype=np.float32), expected=[])
    return [note.rpartition("data.unrated=")[2].removesuffix(" drops them") for note in notes]


STARS = [1, 2, 3, 4, 5] * 4
HALVES = [0.5 * n for n in range(1, 11)] * 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([*STARS, -1], ["[-1]"]),
        ([*STARS, 99], ["[99]"]),
        ([*STARS, 98, 99], ["[98,99]"]),
        ([*STARS, -1, 99], ["[99]", "[-1]"]),
        ([*STARS, *[0] * 10], ["[0]"]),
        ([*HALVES, -1], ["[-1]"]),
        ([*HALVES, *[0] * 20], ["[0]"]),
        ([*range(1, 11), *[0] * 10, -1], ["[-1]", "[0]"]),
        ([*np.linspace(-10, 10, 200), 99, 99], ["[99]"]),
        ([*STARS, -999], ["[-999]"]),
        ([*range(0, 101, 10), 255], ["[255]"]),
        (STARS, []),
        (HALVES, []),
        ([1, 5], []),
        ([0, 1] * 9, []),
        ([0, 1, 2, 3, 4, 5, 5, 5, 4, 4], []),
        (range(-10, 11), []),
        ([1, 100], []),
        ([1, 1, 2, 2, 3, 8, 20, 55, 144, 400], []),
        (range(1, 101), []),
        ([-2, -1, 0, 1, 2], []),
    ],
)
def test_outliers_single_negatives_and_frequent_zeros_are_suspected(values, expected):
    assert suspected(list(values)) == expected


@pytest.mark.parametrize("sample", [50, 100])
@pytest.mark.parametrize("values", [[*STARS * 9, 99], [*STARS * 9, -1, *STARS], [*[0] * 90, *STARS * 9]])
def test_suspects_of_a_large_table_are_found_by_a_sample(monkeypatch, values, sample):
    every = note_suspected_unrated(np.array(values, dtype=np.float32), expected=[])
    monkeypatch.setattr("ratinglab.reading.unrated.SAMPLE_SIZE", sample)
    assert note_suspected_unrated(np.array(values, dtype=np.float32), expected=[]) == every != []


@pytest.fixture
def read(tmp_path):
    """Read ratings of one user for items 0, 1, …: read(ratings, **options)."""

    def read_ratings(ratings, **options):
        lines = "".join(f"1,{item},{rating}\n" for item, rating in enumerate(ratings))
        (tmp_path / "ratings.csv").write_text("user_id,item_id,rating\n" + lines)
        return csv_options(str(tmp_path / "ratings.csv"), **options).load()

    return read_ratings


def test_note_gives_the_count_and_the_option(read):
    assert read([1, 2, 3, 4, 5, -1, -1]).notes == (
        "the rating -1 is the only negative one (2 of 7 rows); if these rows are errors or unrated, "
        "data.unrated=[-1] drops them",
    )
    assert read([1, 2, 3, 4, 5, 99]).notes == (
        "the rating 99 is far from all other ratings, which range from 1 to 5 (1 of 6 rows); if these rows are "
        "errors or unrated, data.unrated=[99] drops them",
    )


def test_rows_without_a_rating_are_dropped_and_counted(read):
    table = read([0, 5, -1, 3, 0], unrated=[0, -1])
    assert rows_of(table) == [(1, 1, 5.0), (1, 3, 3.0)]
    assert table.scale == (3, 5)
    assert table.item_ids.ids.tolist() == [1, 3]
    assert table.notes == ("data.unrated=[0,-1] dropped 3 of 5 rows",)
    assert table.sources[0].stop == 2


def test_unrated_values_are_compared_in_the_precision_of_ratings():
    rating = np.array([0.1, 99.9, 0.3, 4.0], dtype=np.float32)
    assert is_unrated(rating, (0.1, 99.9, 0.2)).tolist() == [True, True, False, False]


def test_unrated_value_without_rows_is_reported_as_zero(read):
    assert read([1, 2, 3], unrated=[99]).notes == ("data.unrated=[99] dropped 0 of 3 rows",)


def test_dropping_comes_before_the_scale_and_the_repeated_pairs(tmp_path):
    (tmp_path / "ratings.csv").write_text("user_id,item_id,rating\n1,1,99\n1,1,4\n1,2,5\n1,3,99\n1,3,6\n")
    options = {"unrated": [99.0], "duplicates": Duplicates.error}
    table = csv_options(str(tmp_path / "ratings.csv"), scale=ScaleOptions(lowest=1, highest=6), **options).load()
    assert rows_of(table) == [(1, 1, 4.0), (1, 2, 5.0), (1, 3, 6.0)]
    with pytest.raises(
        UserError, match=r"line 6: the rating 6 is outside data.scale, 1 to 5; .*: 1 of 3; data.unrated"
    ):
        csv_options(str(tmp_path / "ratings.csv"), scale=ScaleOptions(lowest=1, highest=5), **options).load()


def test_repeated_pair_behind_dropped_rows_is_reported_with_its_line(tmp_path):
    (tmp_path / "ratings.csv").write_text("user_id,item_id,rating\n1,1,99\n1,1,4\n1,2,99\n1,2,5\n1,1,6\n")
    with pytest.raises(UserError, match=r"ratings.csv, line 6, user 1 and item 1 as in .*ratings.csv, line 3\)"):
        csv_options(str(tmp_path / "ratings.csv"), unrated=[99.0]).load()


def test_dropping_all_rows_is_refused(read):
    with pytest.raises(UserError, match=r"ratings.csv: data.unrated=\[1,2\] leaves no rating$"):
        read([1, 2, 1], unrated=[1, 2])


def test_value_that_the_scale_declares_gives_no_note(read):
    assert read([1, 2, 3, 4, 5, 99], scale=ScaleOptions(lowest=None, highest=99)).notes == ()


@pytest.mark.parametrize("order", [1, -1])
def test_latest_rating_is_kept_in_any_line_order(tmp_path, order):
    rows = ["1,1,1,900000000\n", "1,1,2,900000009\n", "1,1,3,900000005\n", "1,2,5,900000000\n"][::order]
    (tmp_path / "ratings.csv").write_text("user_id,item_id,rating,time\n" + "".join(rows))
    columns = ("user_id", "item_id", "rating", "time")
    table = csv_options(str(tmp_path / "ratings.csv"), columns=columns, duplicates=Duplicates.last).load()
    assert sorted(rows_of(table)) == [(1, 1, 2.0, 900_000_009_000), (1, 2, 5.0, 900_000_000_000)]
    table = csv_options(str(tmp_path / "ratings.csv"), columns=columns, duplicates=Duplicates.mean).load()
    assert sorted(rows_of(table)) == [(1, 1, 2.0, 900_000_009_000), (1, 2, 5.0, 900_000_000_000)]


def test_bound_of_the_scale_is_expected_in_the_precision_of_ratings():
    rating = np.array([0.1] * 30 + [50, 51, 52, 53] * 5, dtype=np.float32)
    assert note_suspected_unrated(rating, expected=[])
    assert note_suspected_unrated(rating, expected=[0.1]) == []
