"""Cache of tables in files, which later runs map into memory."""

import json
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from ratinglab.errors import UserError
from ratinglab.files import write_atomically
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.side_information import Origin
from ratinglab.ratings.table import RatingTable, SourceFile
from ratinglab.reading.source_rows import DataFiles
from ratinglab.reading.streaming import COLUMNS, map_rows

VERSION = 8
"""Increment with any change to the result of reading or to the format of the cache."""
MIN_CACHED_BYTES = 8 << 20
"""Minimum total size of files to cache. Reading smaller files is just as fast."""
SETTLED_NS = 2_000_000_000
"""Minimum age, in nanoseconds, of files to cache. A file rewritten within a clock tick would look unchanged."""
MAX_CACHED_TABLES = 8
"""Maximum number of cached tables; the least recently used are removed."""
ABANDONED_SECONDS = 86_400
"""Age in seconds at which an unfinished entry counts as left by a killed run."""
FACTS_FILE = "table.arrow"
"""File of everything but the rows, which have their own files."""
FACTS = "name origins scale configured_scale sources merged_across_files digest notes noise_floor".split()
"""Attributes of a table that are stored as JSON."""


def load_table(
    files: DataFiles, read: Callable[..., RatingTable], *, folder: Path | None, options: str, on_disk: bool
) -> RatingTable:
    """Call `read`, or load the table from the cache folder if the files and all options of reading are unchanged.

    Entries are renamed into place once they are complete on disk, so two runs may write the same entry at once, and a
    killed run leaves no partial entry. Unreadable entries are replaced.

    Args:
        read: reads the files, like `read_table`, given the folder for their rows if they stay on disk.
        folder: the cache folder, or None to cache nothing.
        options: all options that affect the result of reading, as text.
        on_disk: whether the rows stay in files of the cache folder, mapped into memory.

    Raises:
        UserError: a file is invalid, or the rows of a table on disk cannot be written.
    """
    if folder is None:
        return read()
    inputs = [*files.ratings, files.users.file, files.items.file]
    fingerprints: list[list[Any]] = [file.fingerprint() for file in inputs if file is not None]
    now_ns = time.time_ns()
    size = sum(fingerprint[2] for fingerprint in fingerprints)
    are_settled = all(max(fingerprint[3:]) < now_ns - SETTLED_NS for fingerprint in fingerprints)
    if not on_disk and (size < MIN_CACHED_BYTES or not are_settled):
        return read()
    # shared by the entries of earlier versions of the files
    input_hash = _hash([VERSION, [fingerprint[:2] for fingerprint in fingerprints], options])
    entry = folder / "tables" / f"{input_hash}-{_hash(fingerprints)}.rows"
    if (table := _load(entry)) is not None:
        with suppress(OSError):  # the cache may be read-only
            os.utime(entry)  # marks it as the last one used
        return table
    table = None if on_disk else read()
    try:
        table = _write_entry(entry, table, read)
    except OSError as error:
        reason = error.strerror or error
        if table is None:
            raise UserError(f"data.cache: {error.filename or folder}: {reason}") from error
        note = f"the table was not cached for the next run: {error.filename or entry}: {reason}"
        table = replace(table, notes=(*table.notes, note))
    _remove_old_entries(entry, now=now_ns / 1e9)
    return _load(entry) or table  # the mapped copy, to free the arrays in memory


def _write_entry(entry: Path, table: RatingTable | None, read: Callable[..., RatingTable]) -> RatingTable:
    """Write a table to the folder of an entry and return it. If it is None, `read` writes its rows to files there.

    The rows stay mapped if another run removes the folder.

    Raises:
        OSError: a file cannot be written.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned_rows(entry.parent)
    temporary = entry.with_name(f".{entry.name}.{platform.node()}.{os.getpid()}.{threading.get_ident()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process of the same id in a container
    try:
        temporary.mkdir()
        table = table or read(folder=temporary)
        for name in COLUMNS:
            with (temporary / name).open("ab") as file:
                if table.ratings.folder is None:  # else `read` has written the rows
                    file.write(np.ascontiguousarray(getattr(table.ratings, name)).data)
                file.flush()
                os.fsync(file.fileno())
        write_atomically(temporary / FACTS_FILE, partial(_write_facts, table=table))
        if _load(entry) is None:  # else another run has written it meanwhile
            shutil.rmtree(entry, ignore_errors=True)  # unreadable
            with suppress(OSError):  # another run has just renamed its folder to this name
                temporary.rename(entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return table


def _remove_abandoned_rows(folder: Path) -> None:
    """Remove the rows that killed processes of this machine left, since they can fill a disk."""
    for path in folder.glob(f".*.rows.{platform.node()}.*.tmp"):
        try:
            os.kill(int(path.name.split(".")[-3]), 0)
        except (OSError, ValueError):  # there is no such process
            shutil.rmtree(path, ignore_errors=True)


def _remove_old_entries(entry: Path, *, now: float) -> None:
    """Remove older tables of the same files, leftovers of killed runs, and the least recently used other tables.

    Keeps MAX_CACHED_TABLES tables. Runs that have mapped a removed table can still read it. `now` is in seconds.
    """
    last_used: dict[Path, float] = {}
    for path in entry.parent.glob("*"):
        with suppress(OSError):  # removed by another run
            last_used[path] = path.stat().st_mtime
    tables = sorted((path for path in last_used if not path.name.startswith(".")), key=lambda path: -last_used[path])
    input_hash = entry.name.partition("-")[0]
    outdated = [path for path in tables[:MAX_CACHED_TABLES] if path.name.startswith(f"{input_hash}-") and path != entry]
    abandoned = [path for path in last_used if path.name.startswith(".") and last_used[path] < now - ABANDONED_SECONDS]
    for path in [*tables[MAX_CACHED_TABLES:], *outdated, *abandoned]:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # an entry of another version may be a file
            path.unlink()


def _hash(content: Any) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def _write_facts(file: BinaryIO, table: RatingTable) -> None:
    """Write an Arrow file with a single row, whose cells are arrays, and with single values as metadata."""
    arrays: dict[str, Any] = {"user_ids": table.user_ids.ids.to_numpy(), "item_ids": table.item_ids.ids.to_numpy()}
    arrays |= {"timestamp": table.timestamp, "titles": table.titles}
    arrays |= {f"user.{name}": column for name, column in table.user_columns.items()}
    arrays |= {f"item.{name}": column for name, column in table.item_columns.items()}
    cells = {
        name: pa.LargeListArray.from_arrays(pa.array([0, len(array)]), pa.array(array))
        for name, array in arrays.items()
        if array is not None
    }
    facts = {name: getattr(table, name) for name in FACTS} | {"on_disk": table.ratings.folder is not None}
    content = pa.table(cells, metadata={"facts": json.dumps(facts)})
    with pa.ipc.new_file(file, content.schema) as writer:
        writer.write_table(content)


def _load(entry: Path) -> RatingTable | None:
    """Load the table of an entry. Returns None if it is missing or invalid."""
    try:
        content = pa.ipc.open_file(pa.memory_map(os.fsencode(entry / FACTS_FILE))).read_all()
        content.validate(full=True)  # reads no numbers, only text
        cells = {name: content[name].chunk(0).values for name in content.column_names}
        arrays = {name: cell.to_numpy(zero_copy_only=not pa.types.is_string(cell.type)) for name, cell in cells.items()}
        columns = {
            side: {name.removeprefix(side): array for name, array in arrays.items() if name.startswith(side)}
            for side in ("user.", "item.")
        }
        stored = json.loads(content.schema.metadata[b"facts"])
        facts: dict[str, Any] = {name: tuple(fact) if isinstance(fact, list) else fact for name, fact in stored.items()}
        digest, on_disk = facts.pop("digest"), facts.pop("on_disk")
        ratings = map_rows(entry, scratch=entry.parent if on_disk else None)
        facts["origins"] = tuple(Origin(*origin) for origin in facts["origins"])
        facts["sources"] = tuple(SourceFile(*source) for source in facts["sources"])
        table = RatingTable(
            ratings=ratings,
            timestamp=arrays.get("timestamp"),
            user_ids=IdMap(arrays["user_ids"]),
            item_ids=IdMap(arrays["item_ids"]),
            titles=arrays.get("titles"),
            user_columns=columns["user."],
            item_columns=columns["item."],
            **facts,
        )
        table.__dict__["digest"] = digest  # fill the cached_property
        return table if table.sources[-1].stop == len(ratings) else None
    except (OSError, pa.ArrowException, ValueError, LookupError, TypeError, AttributeError, AssertionError):
        return None
