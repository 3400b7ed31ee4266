"""Cache of tables, stored as arrays that the next run maps into memory."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.side_information import Column, Origin
from ratinglab.ratings.table import Ratings, RatingTable, Source

VERSION = 3
"""Raise it with any change to the result of reading, or to the cache's format."""
SMALLEST = 8 << 20
"""Minimum bytes of files to cache: smaller ones are read as fast."""
SETTLED_NS = 2_000_000_000
"""Minimum age of a file: one rewritten within a clock tick would look unchanged."""
KEPT = 8
"""Number of cached tables; beyond it, the least recently used are removed."""
ABANDONED = 86_400
"""Seconds after which an incomplete table counts as left by a killed run."""
HALF_DONE = ".half-done-"
COLUMNS = ("user", "item", "rating", "timestamp")
FACTS = ("name", "origins", "scale", "sources", "merged_across_files", "digest", "notes", "noise_floor")


def cached_table(
    folder: Path | None, read: Callable[[], RatingTable], *, fingerprints: list[list[Any]], options: str, now_ns: int
) -> RatingTable:
    """Return the table of `read`, from the cache if the files and the reading options are unchanged.

    An entry is a folder, renamed into place once it is complete on disk. So two runs may write it at once, and a killed
    run leaves no partial entry. An unreadable entry is replaced; a failed write only adds a note.

    Args:
        folder: the cache folder; None: no cache.
        read: reads the files.
        fingerprints: path, size and times of each file; a file with another fingerprint is another file.
        options: all options that affect the result of reading.
        now_ns: the time, in nanoseconds.
    """
    size = sum(fingerprint[2] for fingerprint in fingerprints)
    settled = all(max(fingerprint[3:]) < now_ns - SETTLED_NS for fingerprint in fingerprints)
    if folder is None or size < SMALLEST or not settled:
        return read()
    source = _hashed([VERSION, [fingerprint[:2] for fingerprint in fingerprints], options])
    entry = folder / "tables" / f"{source}-{_hashed(fingerprints)}"
    table = _load(entry)
    if table is not None:
        _touch(entry)
        return table
    table = read()
    try:
        _write(entry, table)
    except OSError as error:
        note = f"the table is not kept for the next run: {error.filename or entry}: {error.strerror or error}"
        return replace(table, notes=(*table.notes, note))
    _tidy(entry, source, now=now_ns / 1e9)
    return _load(entry) or table  # the mapped copy, so that the arrays just read are freed


def _tidy(entry: Path, source: str, *, now: float) -> None:
    """Remove older tables of the same files, all but the KEPT latest others, and leftovers of killed runs.

    Another run that has mapped a removed table can still read it.
    """
    used: dict[Path, float] = {}
    for each in entry.parent.iterdir():
        with suppress(OSError):  # removed by another run
            used[each] = each.stat().st_mtime
    latest = sorted((each for each in used if not each.name.startswith(HALF_DONE)), key=lambda each: -used[each])
    for each, time in used.items():
        if each.name.startswith(HALF_DONE):
            is_kept = time >= now - ABANDONED
        else:
            is_kept = each == entry or (each in latest[:KEPT] and not each.name.startswith(f"{source}-"))
        if not is_kept:
            shutil.rmtree(each, ignore_errors=True)


def _touch(entry: Path) -> None:
    """Mark a table as just used."""
    with suppress(OSError):  # the cache may be read-only
        os.utime(entry)


def _hashed(content: Any) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def _write(entry: Path, table: RatingTable) -> None:
    """Write an entry atomically; another run may be writing the same one."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    half_done = Path(tempfile.mkdtemp(prefix=HALF_DONE, dir=entry.parent))
    try:
        for name in COLUMNS:
            column = table.timestamp if name == "timestamp" else getattr(table.ratings, name)
            if column is not None:
                with (half_done / f"{name}.npy").open("wb") as file:
                    np.save(file, column)
                    file.flush()
                    os.fsync(file.fileno())
        pd.DataFrame({"user_id": table.user_ids.ids}).to_parquet(half_done / "users.parquet")
        items = {"item_id": table.item_ids.ids, "title": table.titles}
        pd.DataFrame({name: column for name, column in items.items() if column is not None}).to_parquet(
            half_done / "items.parquet"
        )
        for name, features in (("user_columns", table.user_columns), ("item_columns", table.item_columns)):
            pd.DataFrame(features).to_parquet(half_done / f"{name}.parquet")
        facts = {name: getattr(table, name) for name in FACTS}
        facts["sizes"] = {path.name: path.stat().st_size for path in half_done.iterdir()}
        (half_done / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        half_done.chmod(0o755)
        shutil.rmtree(entry, ignore_errors=True)  # an unreadable entry
        os.rename(half_done, entry)
    except OSError:
        if not entry.exists():  # else another run wrote it first
            raise
    finally:
        shutil.rmtree(half_done, ignore_errors=True)


def _load(entry: Path) -> RatingTable | None:
    """Load the table of an entry; None if it is missing or invalid."""
    try:
        facts = json.loads((entry / "facts.json").read_text(encoding="utf-8"))
        if any((entry / name).stat().st_size != size for name, size in facts.pop("sizes").items()):
            return None
        columns = {
            name: np.load(entry / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in COLUMNS
            if name != "timestamp" or (entry / "timestamp.npy").exists()
        }
        items = pd.read_parquet(entry / "items.parquet")
        table = RatingTable(
            name=facts["name"],
            ratings=Ratings(user=columns["user"], item=columns["item"], rating=columns["rating"]),
            timestamp=columns.get("timestamp"),
            user_ids=IdMap(pd.Index(pd.read_parquet(entry / "users.parquet")["user_id"])),
            item_ids=IdMap(pd.Index(items["item_id"])),
            titles=items["title"].to_numpy(dtype=object) if "title" in items else None,
            user_columns=_features(entry / "user_columns.parquet"),
            item_columns=_features(entry / "item_columns.parquet"),
            origins=(Origin(*facts["origins"][0]), Origin(*facts["origins"][1])),
            scale=tuple(facts["scale"]),
            sources=tuple(Source(*source) for source in facts["sources"]),
            merged_across_files=facts["merged_across_files"],
            notes=tuple(facts["notes"]),
            noise_floor=facts["noise_floor"],
        )
        table.__dict__["digest"] = facts["digest"]  # fill the cached_property
        return table
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _features(path: Path) -> dict[str, Column]:
    """Read the columns of users or items by name: float64, or objects for text."""
    return {str(name): column.to_numpy() for name, column in pd.read_parquet(path).items()}
