"""Cache of tables: equal to the file, never stale, never the cause of an error."""

import os
import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tables import NO_ITEMS, NO_USERS, csv_options, rows_of

from ratinglab.reading import rating_files, table_cache
from ratinglab.reading.cleaning_options import Duplicates

ROWS = [(7, "b", 3.5, 900_000_000_000), (5, "a", 1.0, 910_000_000_000), (7, "a", 2.0, 920_000_000_000)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make a folder with a file of ratings that is old enough to be cached."""
    monkeypatch.setattr(table_cache, "MIN_CACHED_BYTES", 0)
    monkeypatch.setattr(table_cache, "SETTLED_NS", -(10**18))
    (tmp_path / "ratings.csv").write_text(
        "user_id,item_id,rating,time\n7,b,3.5,900000000\n5,a,1,910000000\n7,a,2,920000000\n"
    )
    (tmp_path / "items.csv").write_text("item_id,title,genres\nb,Heat,x|y\n")
    (tmp_path / "users.csv").write_text("user_id,age,title\n7,30.5,Dr\n5,,\n")
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Count how often a file of ratings is read."""
    count = []
    own = rating_files._read_file
    monkeypatch.setattr(rating_files, "_read_file", lambda *arguments: (count.append(1), own(*arguments))[1])
    return count


def load(folder, **changed):
    options = {"path": str(folder / "ratings.csv"), "cache": str(folder / "cache"),
               "users": replace(NO_USERS, path=str(folder / "users.csv"), numeric=["age"]),
               "items": replace(NO_ITEMS, path=str(folder / "items.csv")),
               "columns": ("user_id", "item_id", "rating", "time"), **changed}  # fmt: skip
    return csv_options(**options).load()


def test_second_load_maps_the_arrays_of_the_first(folder, reads):
    first, second = load(folder), load(folder)
    assert len(reads) == 1
    if sys.platform == "linux":
        assert str(entry_of(folder)) in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert not second.ratings.user.flags.writeable
    assert rows_of(second) == rows_of(first) == ROWS
    read = load(folder, cache=None)
    for name in ("name", "scale", "configured_scale", "sources", "digest", "notes", "noise_floor"):
        assert getattr(second, name) == getattr(read, name)
    assert second.titles.tolist() == read.titles.tolist() == ["", "Heat"]
    assert second.origins == read.origins
    for table in (read, second):
        users, items = table.user_columns, table.item_columns
        assert np.array_equal(users.pop("age"), [np.nan, 30.5], equal_nan=True)
        assert {name: column.tolist() for name, column in users.items()} == {
            "age_group": ["", "30.5"],
            "title": ["", "Dr"],
        }
        assert {name: column.tolist() for name, column in items.items()} == {"genres": ["", "x|y"]}
        assert all(column.dtype == object for column in (*users.values(), *items.values()))
    assert second.user_ids.are_integers
    assert not second.item_ids.are_integers


@pytest.mark.parametrize(
    "changed",
    [{"columns": ("user_id", "item_id", "time")}, {"duplicates": Duplicates.last}, {"min_ratings_per_user": 2}],
    ids=str,
)
def test_every_reading_option_is_part_of_the_key(folder, reads, changed):
    load(folder)
    load(folder, **changed)
    assert len(reads) == 2
    load(folder, batch_size=7)
    assert len(reads) == 2


@pytest.mark.parametrize("name", ["ratings.csv", "items.csv", "users.csv"])
def test_changed_file_is_read_again_and_its_old_table_removed(folder, reads, name):
    load(folder)
    path = folder / name
    old = path.stat()
    path.write_text(path.read_text().replace("Heat", "Cold").replace("3.5", "4.5").replace("Dr", "Mr"))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))  # the same size and modification time
    table = load(folder)
    assert len(reads) == 2
    is_new = {
        "ratings.csv": 4.5 in table.ratings.rating,
        "items.csv": "Cold" in table.titles,
        "users.csv": "Mr" in table.user_columns["title"],
    }
    assert [file for file, found in is_new.items() if found] == [name]
    assert len(list((folder / "cache" / "tables").iterdir())) == 1


def test_recently_written_file_is_not_cached(folder, reads, monkeypatch):
    monkeypatch.setattr(table_cache, "SETTLED_NS", 3_600_000_000_000)
    load(folder)
    assert not (folder / "cache").exists()


def test_small_file_is_not_cached(folder, monkeypatch):
    monkeypatch.setattr(table_cache, "MIN_CACHED_BYTES", 1_000)
    load(folder)
    assert not (folder / "cache").exists()


def entry_of(folder):
    (entry,) = (folder / "cache" / "tables").iterdir()
    return entry


DAMAGES = ["removed", "cut off", "other bytes", "empty", "longer", "half"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("table.arrow", damage) for damage in DAMAGES),
        *((name, damage) for name in ("user", "item", "rating") for damage in DAMAGES if damage != "other bytes"),
    ],
)
def test_damaged_cached_table_is_read_again(folder, reads, name, damage):
    expected = rows_of(load(folder))
    path = entry_of(folder) / name
    content = path.read_bytes()
    path.unlink()
    damaged = {
        "cut off": content[:-1], "half": content[: len(content) // 2], "empty": b"", "other bytes": bytes(len(content)),
        "longer": content + b"x",
    }  # fmt: skip
    if damage in damaged:
        path.write_bytes(damaged[damage])
    assert rows_of(load(folder)) == expected
    assert len(reads) == 2
    assert rows_of(load(folder)) == expected
    assert len(reads) == 2


@pytest.mark.parametrize("facts", ["[]", "3", "null", "{}", "x"])
def test_cached_table_without_facts_is_read_again(folder, reads, facts):
    expected = rows_of(load(folder))
    path = entry_of(folder) / "table.arrow"
    content = pa.ipc.open_file(path.read_bytes()).read_all().replace_schema_metadata({"facts": facts})
    path.unlink()
    with pa.ipc.new_file(path, content.schema) as writer:
        writer.write_table(content)
    assert rows_of(load(folder)) == expected
    assert len(reads) == 2


def test_changed_byte_in_a_cached_table_does_not_raise(folder):
    load(folder)
    path = entry_of(folder) / "table.arrow"
    content = path.read_bytes()
    for at in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        path.unlink()
        path.write_bytes(damaged)
        table = table_cache._load(path.parent)
        assert table is None or len(rows_of_sizes(table)) == 1


def rows_of_sizes(table):
    """Collect the lengths of the columns, which must be equal even after a changed byte."""
    return {len(table.ratings.user), len(table.ratings.item), len(table.ratings.rating), len(table.timestamp)}


def test_loaded_table_stays_readable_when_its_cache_is_removed(folder):
    table = load(folder)
    expected = rows_of(load(folder, cache=None))
    shutil.rmtree(folder / "cache")
    assert rows_of(table) == expected


def test_cached_table_of_another_version_is_not_used(folder, reads, monkeypatch):
    load(folder)
    monkeypatch.setattr(table_cache, "VERSION", table_cache.VERSION + 1)
    load(folder)
    assert len(reads) == 2


def test_cache_that_cannot_be_written_gives_a_note(folder):
    (folder / "cache").write_text("a file")
    table = load(folder)
    assert len(table.ratings) == 3
    assert table.notes[0].startswith("the table was not cached for the next run: ")


def test_concurrent_runs_can_write_the_cache(folder, monkeypatch):
    barrier = threading.Barrier(4)
    own = rating_files._read_file

    def read_together(*arguments):
        barrier.wait(10)  # none has found it in the cache
        return own(*arguments)

    monkeypatch.setattr(rating_files, "_read_file", read_together)
    found = []
    threads = [threading.Thread(target=lambda: found.append(load(folder))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({table.digest for table in found}) == 1
    assert all(table.notes == () for table in found)
    monkeypatch.setattr(rating_files, "_read_file", None)
    assert load(folder).digest == found[0].digest
    entry_of(folder)


def test_leftovers_of_killed_runs_are_removed(folder, monkeypatch):
    tables = folder / "cache" / "tables"
    temporary, earlier = tables / ".0-0.rows.another.1.1.tmp", tables / "0-0.arrow"
    temporary.mkdir(parents=True)
    (temporary / "user").write_text("a part")
    earlier.write_text("a table of another version")
    load(folder)
    assert temporary.exists()  # another run may still be writing it
    assert earlier.exists()
    long_ago = time.time() - 2 * 86_400
    for left in (temporary, earlier):
        os.utime(left, (long_ago, long_ago))
    monkeypatch.setattr(table_cache, "MAX_CACHED_TABLES", 1)
    load(folder, min_ratings_per_user=1)
    assert [path.suffix for path in tables.iterdir()] == [".rows"]


def test_most_recently_used_tables_are_kept(folder, reads, monkeypatch):
    monkeypatch.setattr(table_cache, "MAX_CACHED_TABLES", 2)
    for least in (1, 2):
        load(folder, min_ratings_per_user=least)
        time.sleep(0.02)
    load(folder, min_ratings_per_user=1)  # from the cache: it is now the most recently used
    assert len(reads) == 2
    load(folder, min_ratings_per_item=1)
    load(folder, min_ratings_per_user=1)
    assert len(reads) == 3
    load(folder, min_ratings_per_user=2)
    assert len(reads) == 4
    assert len(list((folder / "cache" / "tables").iterdir())) == 2


def test_number_of_merged_rows_is_cached(folder, reads):
    (folder / "ratings-2.csv").write_text("user_id,item_id,rating,time\n7,b,4.5,900000005\n")
    for _ in range(2):
        table = load(folder, path=str(folder / "ratings*.csv"), duplicates=Duplicates.last)
        assert table.merged_across_files == 1
    assert len(reads) == 2  # the two files, once
