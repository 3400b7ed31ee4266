"""Cleaning of rows: missing and repeated ratings, the rating scale, users and items with few ratings."""

import numpy as np
import pytest

from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.table import Ratings
from ratinglab.reading.cleaning import PIECE_ROWS, merge_duplicates
from ratinglab.reading.source_rows import SourceRows

NUM_USERS, NUM_ITEMS = 100, 2000


def num_rows_left(pair):
    """Merge rows of pairs, in that order; return the number of rows left."""
    user, item = (part.astype(np.int32) for part in np.divmod(pair, NUM_ITEMS))
    rows = SourceRows(
        Ratings(user=user, item=item, rating=np.ones(len(pair), dtype=np.float32)),
        timestamp=None,
        user_ids=IdMap(np.arange(NUM_USERS)),
        item_ids=IdMap(np.arange(NUM_ITEMS)),
        files=[],
        stops=np.array([len(pair)]),
        notes=(),
    )
    return len(merge_duplicates(rows, policy="last").ratings)


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("num_repeats", [0, 1, 2, 1000])
def test_repeated_pairs_are_found_in_a_table_larger_than_a_chunk(sort, num_repeats):
    random = np.random.default_rng(num_repeats)
    pair = random.permutation(NUM_USERS * NUM_ITEMS)[: 3 * PIECE_ROWS]
    repeats = random.choice(pair[:50], num_repeats)  # up to tens of rows of one pair
    rows = random.permutation(np.concatenate([pair, repeats]))
    if sort:  # by user only
        rows = rows[np.argsort(rows // NUM_ITEMS, kind="stable")]
    assert num_rows_left(rows) == len(pair)


def test_a_single_repeat_is_found_behind_any_other_pair():
    random = np.random.default_rng(0)
    for _ in range(50):
        pair = np.sort(random.permutation(NUM_USERS * NUM_ITEMS)[:PIECE_ROWS])
        assert num_rows_left(np.insert(pair, 1, pair[0])) == len(pair)
