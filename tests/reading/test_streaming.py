"""Tables whose rows stay on disk equal those in memory: ids, order, notes, messages."""

import gzip
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tables import csv_options

from ratinglab.errors import UserError
from ratinglab.formats import inputs
from ratinglab.ratings import mapped_arrays
from ratinglab.ratings.ids import UNKNOWN
from ratinglab.reading import cleaning, distinct_ids, streaming, table_cache
from ratinglab.reading.cleaning_options import Duplicates
from ratinglab.reading.distinct_ids import DistinctIds

NUM_ROWS = 3_000


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Make every pass take several blocks."""
    monkeypatch.setattr(mapped_arrays, "BLOCK_ROWS", 700)
    monkeypatch.setattr(cleaning, "BUCKET_ROWS", 500)
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 5_000)


@pytest.fixture
def frame():
    random = np.random.default_rng(0)
    pair = random.permutation(200 * 50)[:NUM_ROWS]
    rating = random.integers(1, 11, NUM_ROWS) / 2
    return pd.DataFrame({"user_id": pair // 50 * 7 - 300, "item_id": pair % 50, "rating": rating})


@pytest.fixture
def tables(tmp_path):
    """Load a file into memory, and with its rows on disk."""

    def load(path, **changed):
        options = csv_options(str(path), **changed)
        return options.load(), csv_options(str(path), on_disk=True, cache=str(tmp_path / "cache"), **changed).load()

    return load


def assert_equal(in_memory, on_disk):
    assert in_memory.ratings.folder is None
    assert on_disk.ratings.folder is not None
    assert on_disk.digest == in_memory.digest
    for name in ("user", "item", "rating"):
        column, expected = (getattr(table.ratings, name) for table in (on_disk, in_memory))
        assert column.dtype == expected.dtype
        assert np.array_equal(column, expected)
    for name in ("user_ids", "item_ids"):
        ids, expected = (getattr(table, name).ids for table in (on_disk, in_memory))
        assert ids.equals(expected)
    for name in ("name", "scale", "sources", "notes", "merged_across_files"):
        assert getattr(on_disk, name) == getattr(in_memory, name)


def save(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False, row_group_size=400)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.jsonl"])
def test_table_on_disk_equals_the_one_in_memory(frame, tmp_path, tables, name):
    assert_equal(*tables(save(frame, tmp_path / name)))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: f.assign(user_id=f.user_id * 10**12), id="integers far apart"),
        pytest.param(lambda f: f.assign(user_id=f.user_id.where(f.index != 2_500, -(2**60))), id="one far away, late"),
        pytest.param(lambda f: f.assign(user_id="u" + f.user_id.astype(str)), id="text"),
        pytest.param(lambda f: f.assign(item_id=f.item_id.astype(str).where(f.index < 2_000, "x")), id="text, late"),
        pytest.param(lambda f: f.assign(item_id=f.item_id.astype(str) + ".0"), id="whole numbers with a point"),
        pytest.param(lambda f: f.assign(user_id='"' + f.user_id.astype(str) + '"'), id="quotation marks in cells"),
        pytest.param(lambda f: f.sort_values(["user_id", "item_id"]), id="sorted by user"),
    ],
)
def test_ids_of_any_kind_get_the_same_indices(frame, tmp_path, tables, monkeypatch, change):
    monkeypatch.setattr(distinct_ids, "MAX_RANGE", 5_000)
    changed = change(frame).drop_duplicates(["user_id", "item_id"])
    assert_equal(*tables(save(changed, tmp_path / "a.parquet")))


def test_text_with_regular_quotation_marks_is_read(frame, tmp_path, tables):
    path = tmp_path / "a.csv"
    frame.assign(user_id="u " + frame.user_id.astype(str)).to_csv(path, index=False, quoting=2)
    assert_equal(*tables(path))


def test_note_on_white_space_gives_the_same_example(frame, tmp_path, tables):
    texts = frame.user_id.astype(str)
    spaced = frame.assign(user_id=texts.where(frame.index > 2_000, " " + texts + " "))
    in_memory, on_disk = tables(save(spaced, tmp_path / "a.csv"))
    assert "white space" in in_memory.notes[0]
    assert_equal(in_memory, on_disk)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("late", ['1,"2\n3",4\n', '1,2"3,4\n'])
def test_quotation_marks_that_need_the_whole_file_are_refused(frame, tmp_path, name, late):
    path = tmp_path / name
    content = (frame.to_csv(index=False) + late).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(
        UserError, match=r"a\.csv.* has quotation marks within cells, or cells that span lines.*Parquet"
    ):
        csv_options(str(path), on_disk=True, cache=str(tmp_path / "cache")).load()


def test_several_files_are_one_table(frame, tmp_path, tables):
    folder = tmp_path / "parts"
    folder.mkdir()
    save(frame[:1_000], folder / "part-0.parquet")
    save(frame[:0], folder / "part-1.csv")
    save(frame[1_000:].astype({"user_id": str}), folder / "part-2.csv")
    assert_equal(*tables(folder))


FAULTS = {
    "not a number": (lambda f: f.assign(rating=f.rating.astype(str).where(f.index != 2_600, "x")), "must be a number"),
    "blank": (lambda f: f.assign(user_id=f.user_id.astype(float).where(f.index != 2_600)), "user"),
    "infinite": (lambda f: f.assign(rating=f.rating.where(f.index != 2_600, np.inf)), "rating'? must be"),
    "repeated": (lambda f: pd.concat([f, f[5:8]]), "rows that repeat an earlier row's user and item: 3"),
    "constant": (lambda f: f.assign(rating=3.0), "every rating is 3"),
}


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_have_the_message_of_a_table_in_memory(frame, tmp_path, name, fault):
    change, text = FAULTS[fault]
    path = save(change(frame), tmp_path / name)
    messages = []
    for on_disk in (False, True):
        with pytest.raises(UserError, match=text) as caught:
            csv_options(str(path), on_disk=on_disk, cache=str(tmp_path / "cache")).load()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert list((tmp_path / "cache" / "tables").iterdir()) == [], "nothing is left behind"


def test_rating_off_the_scale_names_its_row(frame, tmp_path):
    path = save(frame, tmp_path / "a.csv")
    scale = csv_options().scale.__class__(lowest=1.0, highest=5.0)
    line = 2 + int(np.argmax(frame.rating < 1))
    with pytest.raises(UserError, match=rf"a\.csv, line {line}: the rating 0\.5 is outside data\.scale, 1 to 5"):
        csv_options(str(path), on_disk=True, cache=str(tmp_path / "cache"), scale=scale).load()


def test_second_load_maps_the_same_files_and_a_changed_file_is_read_again(frame, tmp_path, monkeypatch):
    path = save(frame, tmp_path / "a.csv")
    options = csv_options(str(path), on_disk=True, cache=str(tmp_path / "cache"))
    first = options.load()
    with monkeypatch.context() as context:
        context.setattr(table_cache, "write_atomically", None)  # nothing may be written
        again = options.load()
    assert np.array_equal(again.ratings.rating, first.ratings.rating)
    assert again.digest == first.digest
    save(frame[:-1], path)
    assert len(options.load().ratings) == NUM_ROWS - 1
    assert len(list((tmp_path / "cache" / "tables").iterdir())) == 1, "the older table is removed"


def test_file_with_other_ratings_in_the_second_pass_is_refused(frame, tmp_path, monkeypatch):
    path = save(frame, tmp_path / "a.csv")
    original = distinct_ids.DistinctIds.assign_indices

    def changed(self):
        save(frame.assign(rating=frame.rating[::-1].to_numpy()), path)
        return original(self)

    monkeypatch.setattr(streaming.DistinctIds, "assign_indices", changed)
    with pytest.raises(UserError, match=r"a\.csv was changed while being read"):
        csv_options(str(path), on_disk=True, cache=str(tmp_path / "cache")).load()


def test_distinct_ids_are_kept_while_their_range_grows_both_ways():
    batches = [np.array(each, dtype=np.int32) for each in ([5, 9], [100], [-40, 5], [7000], [-3])]
    collected = DistinctIds(side="user")
    for batch in batches:
        collected.add(batch)
    ids, _ = collected.assign_indices()
    assert ids.ids.tolist() == [-40, -3, 5, 9, 100, 7000]
    assert [collected.index_of(batch).tolist() for batch in batches] == [[2, 3], [4], [0, 2], [5], [1]]
    assert collected.index_of(np.array([6, 8000, 9])).tolist() == [UNKNOWN, UNKNOWN, 3]


@pytest.mark.parametrize("name", ["user", "rating", "table.arrow"])
def test_damaged_entry_is_read_again(frame, tmp_path, name):
    options = csv_options(str(save(frame, tmp_path / "a.csv")), on_disk=True, cache=str(tmp_path / "cache"))
    rating = options.load().ratings.rating.copy()  # a mapped file must not be cut
    (entry,) = (tmp_path / "cache" / "tables").iterdir()
    os.truncate(entry / name, 100)
    assert np.array_equal(options.load().ratings.rating, rating)


def test_rows_of_a_killed_process_are_removed(frame, tmp_path):
    """Those of a running process stay, and those of another machine, which may run it."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = tmp_path / "cache" / "tables"
    stay = {f".x.rows.{platform.node()}.{os.getppid()}.1.tmp", f".x.rows.another.{dead.pid}.1.tmp"}
    for name in (*stay, f".x.rows.{platform.node()}.{dead.pid}.1.tmp"):
        (folder / name).mkdir(parents=True)
    csv_options(str(save(frame, tmp_path / "a.csv")), on_disk=True, cache=str(tmp_path / "cache")).load()
    assert {path.name for path in folder.glob(".*")} == stay


@pytest.mark.parametrize("removed", [False, True])
def test_runs_that_read_at_once_share_an_entry(frame, tmp_path, monkeypatch, removed):
    """A second run reads and writes the table while the first one reads, and another one may remove it again."""
    options = csv_options(str(save(frame, tmp_path / "a.csv")), on_disk=True, cache=str(tmp_path / "cache"))
    original, tables = distinct_ids.DistinctIds.assign_indices, []

    def slow(self):
        with monkeypatch.context() as context:
            context.setattr(distinct_ids.DistinctIds, "assign_indices", original)
            with ThreadPoolExecutor() as threads:
                tables.append(threads.submit(options.load).result())
        return original(self)

    monkeypatch.setattr(distinct_ids.DistinctIds, "assign_indices", slow)
    if removed:
        monkeypatch.setattr(table_cache, "_remove_old_entries", lambda entry, *_, **__: shutil.rmtree(entry))
    first = options.load()
    assert np.array_equal(first.ratings.user, tables[0].ratings.user)
    assert first.ratings.folder == tables[0].ratings.folder == tmp_path / "cache" / "tables"
    assert first.digest == tables[0].digest
    assert len(list((tmp_path / "cache" / "tables").iterdir())) == (0 if removed else 1)


def test_file_that_changes_between_the_passes_is_refused(frame, tmp_path, monkeypatch):
    path = save(frame, tmp_path / "a.csv")
    original = distinct_ids.DistinctIds.assign_indices

    def changed(self):
        with path.open("a") as file:
            file.write("1,99999,3\n" * 3)
        return original(self)

    monkeypatch.setattr(streaming.DistinctIds, "assign_indices", changed)
    with pytest.raises(UserError, match=r"a\.csv was changed while being read"):
        csv_options(str(path), on_disk=True, cache=str(tmp_path / "cache")).load()
    assert list((tmp_path / "cache" / "tables").iterdir()) == []


def test_disk_that_is_too_small_is_found_before_reading(frame, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=20_000))
    with pytest.raises(UserError, match=r"^data\.cache: about 3,000 rows: 36 kB in .*, and 60 kB .*; 20 kB are free"):
        csv_options(str(save(frame, tmp_path / "a.parquet")), on_disk=True, cache=str(tmp_path / "cache")).load()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"unrated": [0.0]}, r"^data\.unrated must be \[\] with data\.on_disk=true, got \[0\.0\]"),
        ({"duplicates": Duplicates.last}, r"^data\.duplicates must be error with data\.on_disk=true, got last"),
        ({"min_ratings_per_user": 2}, r"^data\.min_ratings_per_user must be 0 with data\.on_disk=true, got 2"),
        ({"columns": ("a", "b", "c", "t")}, r"^data\.columns\.timestamp must be null with data\.on_disk=true, got t"),
        ({"cache": None}, r"^data\.cache must be a folder with data\.on_disk=true, got null"),
    ],
)
def test_options_that_need_memory_are_refused(changed, message):
    with pytest.raises(UserError, match=message):
        csv_options(**({"on_disk": True, "cache": "x"} | changed)).check_together()


@pytest.mark.parametrize("header", ["user_id,item_id,rating\n", 'user_id,item_id,rating,"note"\r\n'])
@pytest.mark.parametrize("num_lines", [1, 20_000])
@pytest.mark.parametrize("on_disk", [False, True])
def test_file_of_a_header_and_blank_lines_has_no_ratings(tmp_path, header, num_lines, on_disk):
    (tmp_path / "a.csv").write_bytes(header.encode() + b"\n" * num_lines)
    options = csv_options(str(tmp_path / "a.csv"), on_disk=on_disk, cache=str(tmp_path))
    with pytest.raises(UserError, match=r"a\.csv has no ratings, only a header"):
        options.load()
