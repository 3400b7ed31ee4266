"""Two-pass reader for files of ratings larger than memory; writes one file per column."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from ratinglab.errors import UserError
from ratinglab.formats.columnar import stream_columnar
from ratinglab.formats.detection import Format, format_of
from ratinglab.formats.inputs import InputFile, read_each
from ratinglab.formats.layouts import Layout
from ratinglab.formats.parquet_blocks import count_parquet_rows
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.process.threads import map_in_order
from ratinglab.ratings.ids import UNKNOWN, with_parsed_ids
from ratinglab.ratings.mapped_arrays import opened
from ratinglab.ratings.table import Ratings
from ratinglab.reading.distinct_ids import DistinctIds
from ratinglab.reading.source_rows import Rows, TableFiles
from ratinglab.reading.text_ratings import stream_text

COLUMNS = {"user": np.dtype("<i4"), "item": np.dtype("<i4"), "rating": np.dtype("<f4")}
"""Types of the columns by name, which is also the name of the column's file."""
BYTES_KEPT, BYTES_WHILE_TRAINING = 12, 20
"""Bytes per row of a table on disk: permanent files, and temporary files (pairs, or both orders of als)."""
UNITS = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}
UNPACKED = {False: 1.0, True: 4.0}
"""Approximate size of a file's text relative to its size on disk, by whether the file is compressed."""

log = logging.getLogger(__name__)


def stream_rows(source: TableFiles, folder: Path) -> Rows:
    """Read the columns user, item and rating, and write them to files in a folder: 12 bytes per row.

    The first pass finds the distinct ids, and the second one looks up their indices. Memory holds the ids and a few
    batches of rows.

    Raises:
        UserError: a file is invalid, or changes while it is read; or the disk is too small.
        OSError: the rows cannot be written.
    """
    _report_disk(source.ratings, folder)
    users, items = DistinctIds(what="user"), DistinctIds(what="item")
    before = [file.fingerprint() for file in source.ratings]
    with ThreadPoolExecutor(pa.cpu_count()) as threads:

        def collect_ids(file: InputFile) -> tuple[InputFile, Layout | None, int]:
            layout, num_rows = source.layout_of(file), 0
            for user, item, rating in _batches(file, layout, source.columns, threads):
                users.add(user)
                items.add(item)
                num_rows += len(rating)
            return file, layout, num_rows

        files_read, notes = read_each(source.ratings, collect_ids)
        (user_ids, user_notes), (item_ids, item_notes) = users.indexed(), items.indexed()
        with ExitStack() as stack:
            targets = [stack.enter_context((folder / name).open("wb")) for name in COLUMNS]
            for file, layout, num_rows in files_read:
                batches = _batches(file, layout, source.columns, threads)
                _write_rows(file, batches, users, items, targets=targets, num_rows=num_rows)
    for file, fingerprint in zip(source.ratings, before, strict=True):
        if file.fingerprint() != fingerprint:
            raise _changed(file)
    layout_notes = [note for _, layout, _ in files_read if layout is not None for note in layout.notes]
    return Rows(
        ratings=map_rows(folder),
        timestamp=None,
        user_ids=user_ids,
        item_ids=item_ids,
        files=[(file, layout) for file, layout, _ in files_read],
        stops=np.cumsum([num_rows for *_, num_rows in files_read]),
        notes=(*notes, *user_notes, *item_notes, *layout_notes),
    )


def _write_rows(
    file: InputFile,
    batches: Iterator[list[Any]],
    users: DistinctIds,
    items: DistinctIds,
    *,
    targets: Sequence[IO[bytes]],
    num_rows: int,
) -> None:
    """Append the indices and ratings of a file to the files of COLUMNS. Raises UserError if the file has changed."""
    for user, item, rating in batches:
        user_index, item_index = users.index_of(user), items.index_of(item)
        if min(user_index.min(initial=0), item_index.min(initial=0)) == UNKNOWN:
            raise _changed(file)
        num_rows -= len(rating)
        values = np.ascontiguousarray(rating.to_numpy(zero_copy_only=False))
        for target, column in zip(targets, (user_index, item_index, values), strict=True):
            target.write(column.data)
    if num_rows != 0:
        raise _changed(file)


def map_rows(folder: Path) -> Ratings:
    """Map the rows that `stream_rows` wrote to a folder.

    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    user, item, rating = (opened(folder / name, dtype) for name, dtype in COLUMNS.items())
    if not len(user) == len(item) == len(rating):
        raise ValueError("the columns have unequal lengths")
    return Ratings(user=user, item=item, rating=rating)


def _batches(
    file: InputFile, layout: Layout | None, columns: ColumnOptions, threads: ThreadPoolExecutor
) -> Iterator[list[Any]]:
    """Yield batches of a file: ids of users, ids of items, and ratings as float32."""
    if layout is not None:
        return stream_text(file, layout, threads)
    return map_in_order(threads, with_parsed_ids, stream_columnar(file, columns), ahead=2 * pa.cpu_count())


def _changed(file: InputFile) -> UserError:
    return UserError(f"{file} was changed while it was read: start again once it is complete")


def _report_disk(files: Sequence[InputFile], folder: Path) -> None:
    """Log the space that rows on disk need. Raises UserError if the disk of the folder has less."""
    num_rows, free = sum(map(_estimate_rows, files)), shutil.disk_usage(folder).free
    kept, temporary = (_size_text(num_bytes * num_rows) for num_bytes in (BYTES_KEPT, BYTES_WHILE_TRAINING))
    needed = f"about {num_rows:,} rows: {kept} in the cache, and {temporary} while a run trains"
    if BYTES_KEPT * num_rows > free:
        raise UserError(f"data.cache: {needed}; {_size_text(free)} are free: name a folder on a larger disk")
    log.info("disk       %s; %s are free", needed, _size_text(free))


def _size_text(num_bytes: float) -> str:
    """Format a number of bytes, such as 12.3 GB."""
    return next(f"{num_bytes / size:.3g} {unit}" for unit, size in UNITS.items() if num_bytes >= size or unit == "kB")


def _estimate_rows(file: InputFile) -> int:
    """Count the rows of a Parquet file; estimate those of other files from their first lines."""
    is_compressed = file.compression() is not None
    if format_of(file) is Format.PARQUET and not is_compressed:
        with suppress(OSError, ValueError):  # reading reports what is wrong with the file
            return count_parquet_rows(file.path)
    start, size = file.start(), file.path.stat().st_size
    return round(size * UNPACKED[is_compressed] * (1 + start.count(b"\n")) / max(1, len(start)))
