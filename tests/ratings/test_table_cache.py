"""A table that is kept: the same as the file, never stale, never in the way."""

import json
import os
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from tables import NO_TITLES, NO_USERS, csv_options, rows_of

from ratinglab.ratings import reading, table_cache
from ratinglab.ratings.sources import Duplicates


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a file of ratings that is old enough to be trusted."""
    monkeypatch.setattr(table_cache, "SMALLEST", 0)
    monkeypatch.setattr(table_cache, "SETTLED_NS", -(10**18))
    (tmp_path / "ratings.csv").write_text("user_id,item_id,rating,time\n7,b,3.5,5\n5,a,1,6\n7,a,2,7\n")
    (tmp_path / "items.csv").write_text("item_id,title,genres\nb,Heat,x|y\n")
    (tmp_path / "users.csv").write_text("user_id,age,title\n7,30.5,Dr\n5,,\n")
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """How often a file of ratings was read."""
    count = []
    own = reading._read_file
    monkeypatch.setattr(reading, "_read_file", lambda *arguments: (count.append(1), own(*arguments))[1])
    return count


def load(folder, **changed):
    options = {"path": str(folder / "ratings.csv"), "cache": str(folder / "cache"),
               "users": replace(NO_USERS, path=str(folder / "users.csv"), numeric=["age"]),
               "titles": replace(NO_TITLES, path=str(folder / "items.csv")),
               "columns": ("user_id", "item_id", "rating", "time"), **changed}  # fmt: skip
    return csv_options(**options).load()


def test_the_second_run_maps_the_arrays_of_the_first(folder, reads):
    first, second = load(folder), load(folder)
    assert len(reads) == 1
    assert isinstance(second.ratings.user, np.memmap)
    assert rows_of(second) == rows_of(first) == [(7, "b", 3.5, 5000), (5, "a", 1.0, 6000), (7, "a", 2.0, 7000)]
    read = load(folder, cache=None)
    for name in ("name", "scale", "sources", "digest", "notes", "noise_floor"):
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
def test_every_option_that_matters_is_part_of_the_key(folder, reads, changed):
    load(folder)
    load(folder, **changed)
    assert len(reads) == 2
    load(folder, batch_size=7)
    assert len(reads) == 2


@pytest.mark.parametrize("name", ["ratings.csv", "items.csv", "users.csv"])
def test_a_file_that_has_changed_is_read_again_and_its_old_table_removed(folder, reads, name):
    load(folder)
    path = folder / name
    old = path.stat()
    path.write_text(path.read_text().replace("Heat", "Cold").replace("3.5", "4.5").replace("Dr", "Mr"))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))  # as large and, by its own word, as old
    table = load(folder)
    assert len(reads) == 2
    is_new = {
        "ratings.csv": 4.5 in table.ratings.rating,
        "items.csv": "Cold" in table.titles,
        "users.csv": "Mr" in table.user_columns["title"],
    }
    assert [file for file, found in is_new.items() if found] == [name]
    assert len(list((folder / "cache" / "tables").iterdir())) == 1


def test_a_file_that_was_just_written_is_not_kept(folder, reads, monkeypatch):
    monkeypatch.setattr(table_cache, "SETTLED_NS", 3_600_000_000_000)
    load(folder)
    assert not (folder / "cache").exists()


def test_a_small_file_is_not_kept(folder, monkeypatch):
    monkeypatch.setattr(table_cache, "SMALLEST", 1_000)
    load(folder)
    assert not (folder / "cache").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("user.npy", "item.npy", "rating.npy", "timestamp.npy", "users.parquet", "items.parquet", "facts.json"),
        *("user_columns.parquet", "item_columns.parquet"),
    ],
)
@pytest.mark.parametrize("damage", ["removed", "cut off", "other bytes", "empty"])
def test_a_table_that_is_not_whole_is_read_anew(folder, reads, name, damage):
    expected = rows_of(load(folder))
    (path,) = (folder / "cache" / "tables").glob(f"*/{name}")
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes({"cut off": content[:-1], "empty": b"", "other bytes": bytes(len(content))}[damage])
    if name.endswith("npy") and damage == "other bytes":  # its size alone is checked, and its header
        path.write_bytes(bytes(64) + content[64:])
    assert rows_of(load(folder)) == expected
    assert len(reads) == 2
    assert rows_of(load(folder)) == expected
    assert len(reads) == 2


def test_a_table_of_another_version_is_not_used(folder, reads, monkeypatch):
    load(folder)
    monkeypatch.setattr(table_cache, "VERSION", table_cache.VERSION + 1)
    load(folder)
    assert len(reads) == 2


def test_a_cache_that_cannot_be_written_is_a_note(folder):
    (folder / "cache").write_text("a file")
    table = load(folder)
    assert len(table.ratings) == 3
    assert table.notes[0].startswith("the table is not kept for the next run: ")


def test_two_runs_may_write_it_at_once(folder, monkeypatch):
    barrier = threading.Barrier(4)
    own = os.rename

    def rename_together(*paths):
        barrier.wait(10)
        own(*paths)

    monkeypatch.setattr(table_cache.os, "rename", rename_together)
    found = []
    threads = [threading.Thread(target=lambda: found.append(load(folder))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({table.digest for table in found}) == 1
    assert all(table.notes == () for table in found)
    (entry,) = (folder / "cache" / "tables").iterdir()
    assert json.loads((entry / "facts.json").read_text())["digest"] == found[0].digest


def test_what_a_killed_run_has_left_is_removed(folder):
    left = folder / "cache" / "tables" / ".half-done-killed"
    left.mkdir(parents=True)
    load(folder)
    assert left.exists()  # it may be another run's, at work
    long_ago = time.time() - 2 * 86_400
    os.utime(left, (long_ago, long_ago))
    shutil.rmtree(next(path for path in left.parent.iterdir() if path != left))
    load(folder)
    assert not left.exists()


def test_the_tables_used_last_are_kept(folder, reads, monkeypatch):
    monkeypatch.setattr(table_cache, "KEPT", 2)
    for least in (1, 2):
        load(folder, min_ratings_per_user=least)
        time.sleep(0.02)
    load(folder, min_ratings_per_user=1)  # from the cache: it is now the one used last
    assert len(reads) == 2
    load(folder, min_ratings_per_item=1)
    load(folder, min_ratings_per_user=1)
    assert len(reads) == 3
    load(folder, min_ratings_per_user=2)
    assert len(reads) == 4
    assert len(list((folder / "cache" / "tables").iterdir())) == 2


def test_what_was_merged_is_kept_with_the_table(folder, reads):
    (folder / "ratings-2.csv").write_text("user_id,item_id,rating,time\n7,b,4.5,5\n")
    for _ in range(2):
        table = load(folder, path=str(folder / "ratings*.csv"), duplicates=Duplicates.last)
        assert table.merged_across_files == 1
    assert len(reads) == 2  # the two files, once
