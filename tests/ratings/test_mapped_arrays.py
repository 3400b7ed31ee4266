"""Arrays in memory-mapped files."""

import gc
import mmap
from pathlib import Path

import numpy as np
import pytest

from ratinglab.ratings import mapped_arrays
from ratinglab.ratings.mapped_arrays import allocate_array, count_rows, drop_pages, map_file, row_ranges


def test_mapped_array_has_no_name_and_keeps_its_values_when_released(tmp_path):
    array = allocate_array(5, np.int32, folder=tmp_path)
    array[:] = [5, 4, 3, 2, 1]
    assert list(tmp_path.iterdir()) == []
    drop_pages(array, array[1:3], None)
    assert array.tolist() == [5, 4, 3, 2, 1]
    assert isinstance(array.base.obj, mmap.mmap)


def test_released_pages_leave_the_memory_of_the_process(tmp_path):
    array = allocate_array(1 << 24, np.int32, folder=tmp_path)
    before = mapped_bytes()
    array[:] = 1
    assert mapped_bytes() > before + (1 << 25)
    drop_pages(array[5:9])
    assert mapped_bytes() < before + (1 << 24)
    assert array[-1] == 1


def mapped_bytes():
    """Return the size of the pages of files that this process has in memory."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in status if line.startswith("RssFile"))
    return int(line.split()[1]) * 1024


def test_without_a_folder_arrays_are_in_memory():
    array = allocate_array(3, np.float32, folder=None)
    assert array.base is None
    array[:] = 1
    drop_pages(array)
    assert array.tolist() == [1, 1, 1]


def test_empty_array_needs_no_file(tmp_path):
    assert allocate_array(0, np.int32, folder=tmp_path).tolist() == []


def test_space_is_reserved_at_once(tmp_path):
    """A write to a mapped page of a full disk would kill the process."""
    with pytest.raises(OSError, match=r"No space left|File too large|Cannot allocate") as caught:
        allocate_array(1 << 60, np.int8, folder=tmp_path)
    assert caught.value.filename == str(tmp_path)
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_file_is_mapped_for_reading(tmp_path):
    (tmp_path / "user").write_bytes(np.arange(4, dtype="<i4").tobytes())
    array = map_file(tmp_path / "user", "<i4")
    drop_pages(array)
    assert array.tolist() == [0, 1, 2, 3]
    assert not array.flags.writeable


def test_values_are_counted_across_blocks(monkeypatch):
    monkeypatch.setattr(mapped_arrays, "BLOCK_ROWS", 3)
    index = np.array([2, 0, 2, 2, 1, 0, 2], dtype=np.int32)
    assert [(rows.start, rows.stop) for rows in row_ranges(7)] == [(0, 3), (3, 6), (6, 7)]
    assert count_rows(index, 4).tolist() == [2, 1, 4, 0]
    assert count_rows(index, 4, where=index != 2).tolist() == [2, 1, 0, 0]
