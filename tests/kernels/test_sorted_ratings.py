"""Training ratings grouped by row."""

import numpy as np
import pytest

from ratinglab.kernels import sorted_ratings
from ratinglab.kernels.sorted_ratings import ROW_CHUNKS, chunk_bounds, sort_ratings

NUM_USERS, NUM_ITEMS = 30, 20
RANDOM = np.random.default_rng(0)
USER = np.concatenate([np.arange(NUM_USERS), RANDOM.integers(0, NUM_USERS, 200)]).astype(np.int32)
ITEM = np.concatenate([np.arange(NUM_USERS) % NUM_ITEMS, RANDOM.integers(0, NUM_ITEMS, 200)]).astype(np.int32)
RATING = RANDOM.normal(size=len(USER)).astype(np.float32)


@pytest.mark.parametrize(("row", "column", "num_rows"), [(USER, ITEM, NUM_USERS), (ITEM, USER, NUM_ITEMS)])
def test_ratings_are_grouped_by_row_in_their_original_order(row, column, num_rows):
    side = sort_ratings(row, column, RATING, num_rows=num_rows, dim=5)
    for index in range(num_rows):
        entries = slice(side.start[index], side.start[index + 1])
        assert side.column[entries].tolist() == column[row == index].tolist()
        assert side.value[entries].tolist() == RATING[row == index].tolist()
    assert side.counts.tolist() == np.bincount(row).tolist()


@pytest.mark.parametrize("written", [1, 7, 1000])
def test_mapped_files_hold_all_ratings_whatever_is_written_in_a_pass(monkeypatch, tmp_path, written):
    """The first row and the last have a single rating each."""
    monkeypatch.setattr(sorted_ratings, "RATINGS_PER_PASS", written)
    row = np.concatenate([[0], 1 + USER, [NUM_USERS + 1]]).astype(np.int32)
    column, rating = np.append(ITEM, [3, 4]).astype(np.int32), np.append(RATING, [-8, 8]).astype(np.float32)
    mapped, in_memory = (
        sort_ratings(row, column, rating, num_rows=NUM_USERS + 2, dim=5, folder=folder) for folder in (tmp_path, None)
    )
    order = np.argsort(row, kind="stable")
    for side in (mapped, in_memory):
        assert side.column.tolist() == column[order].tolist()
        assert side.value.tolist() == rating[order].tolist()
        assert side.start.tolist() == [0, *np.cumsum(np.bincount(row))]


def test_row_without_ratings_is_empty():
    side = sort_ratings(USER, ITEM, RATING, num_rows=NUM_USERS + 2, dim=5)
    assert side.start[-3:].tolist() == [len(USER)] * 3


def test_chunks_cover_all_rows_once_with_similar_work():
    start = np.concatenate([[0], np.cumsum(np.random.default_rng(0).geometric(0.01, 10_000))])
    bounds = chunk_bounds(start, dim=4)
    assert (len(bounds), bounds[0], bounds[-1]) == (ROW_CHUNKS + 1, 0, 10_000)
    work = np.diff(start[bounds] + 2 * bounds)
    assert (np.diff(bounds) >= 0).all()
    assert work.max() < 1.2 * work.min()
