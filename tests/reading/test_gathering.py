"""Columns gathered batch by batch: one array for each data type, in the order of the rows."""

import numpy as np
import pyarrow as pa
from numpy.testing import assert_array_equal

from ratinglab.reading.gathering import gather_columns


def batch(user, item, rating, *timestamp):
    return [np.array(user, dtype=np.int32), item, np.array(rating, dtype=np.float32), *timestamp]


def test_batches_of_one_type_become_one_writable_array():
    item = np.array([2**40, 7])
    columns = gather_columns([batch([3, 1], item, [5, 4]), batch([2], item[:1], [1])])
    (user,), (item_id,) = columns.user, columns.item
    assert_array_equal(user, [3, 1, 2])
    assert user.dtype == np.int32
    assert user.flags.writeable
    assert_array_equal(item_id, [2**40, 7, 2**40])
    assert_array_equal(columns.rating, [5, 4, 1])
    assert columns.rating.dtype == np.float32
    assert columns.timestamp is None


def test_each_change_of_type_begins_a_chunk():
    text = pa.array(["a", "b"]).dictionary_encode()
    small, large = np.array([1, 2], dtype=np.int32), np.array([2**40, 3])
    batches = [batch([1, 1], ids, [1, 2]) for ids in (small, small, large, text, text, small)]
    item = gather_columns(batches).item
    assert [len(chunk) for chunk in item] == [4, 2, 2, 2, 2]
    assert_array_equal(item[0], [1, 2, 1, 2])
    assert_array_equal(item[1], large)
    assert item[2].to_pylist() == ["a", "b"]
    assert_array_equal(item[4], small)


def test_timestamps_keep_their_type():
    dates = np.array(["2026-11-24", "1969-12-31T23:59:59.999"], dtype="datetime64[ms]")
    timestamp = gather_columns([batch([1, 2], dates.view(np.int64), [1, 2], dates)] * 2).timestamp
    assert_array_equal(timestamp, np.tile(dates, 2))
    assert timestamp.dtype == dates.dtype
