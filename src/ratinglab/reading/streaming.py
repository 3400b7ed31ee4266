"""Two-pass reader for ratings files larger than memory. It writes one file per column."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from ratinglab.errors import UserError
from ratinglab.formats.columnar import read_columnar
from ratinglab.formats.detection import Format, detect_format
from ratinglab.formats.inputs import InputFile, open_file, read_each
from ratinglab.formats.layouts import Layout
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.process.threads import map_in_order
from ratinglab.ratings.ids import UNKNOWN, ParsedBatch, parse_batch_ids
from ratinglab.ratings.mapped_arrays import map_file
from ratinglab.ratings.table import Ratings
from ratinglab.reading.distinct_ids import DistinctIds
from ratinglab.reading.source_rows import DataFiles, SourceRows
from ratinglab.reading.text_ratings import stream_text

COLUMNS = {"user": np.dtype("<i4"), "item": np.dtype("<i4"), "rating": np.dtype("<f4")}
"""Data types of the columns by name. The file of a column also has this name."""
BYTES_PER_ROW, TEMPORARY_BYTES_PER_ROW = 12, 20
"""Bytes per row of a table on disk: in the cache, and in temporary files (repeated pairs; both orders of als)."""
BYTES_PER_UNIT = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}
COMPRESSION_RATIO = 4.0
"""Approximate size of the text of a compressed file, relative to the size of the file."""

log = logging.getLogger(__name__)


def stream_rows(files: DataFiles, folder: Path) -> SourceRows:
    """Read the columns user, item and rating, and write them to files in a folder: 12 bytes per row.

    Further arrays of this size belong in its parent folder, because the cache renames the folder itself.

    Reads the files twice: to find the distinct ids, then to look up their indices. Memory holds the ids and a few
    batches of rows.

    Raises:
        UserError: a file is invalid, or changes while it is read; or the disk is too small.
        OSError: the rows cannot be written.
    """
    _report_disk(files.ratings, folder)
    users, items = DistinctIds(side="user"), DistinctIds(side="item")
    fingerprints = [file.fingerprint() for file in files.ratings]

    def collect_ids(file: InputFile) -> tuple[InputFile, Layout | None, int]:
        layout, num_rows = files.detect_layout(file), 0
        for user, item, rating in _read_batches(file, layout, files.columns):
            users.add(user)
            items.add(item)
            num_rows += len(rating)
        return file, layout, num_rows

    files_read, notes = read_each(files.ratings, collect_ids)
    (user_ids, user_notes), (item_ids, item_notes) = users.assign_indices(), items.assign_indices()
    with ExitStack() as stack:
        targets = [stack.enter_context((folder / name).open("wb")) for name in COLUMNS]
        for file, layout, num_rows in files_read:
            num_known = 0
            for user, item, rating in _read_batches(file, layout, files.columns):
                user_index, item_index = users.index_of(user), items.index_of(item)
                num_known += int(np.count_nonzero((user_index != UNKNOWN) & (item_index != UNKNOWN)))
                for target, column in zip(targets, (user_index, item_index, rating), strict=True):
                    target.write(column.data)
            if num_known != num_rows:  # on some disks, a change does not show in the fingerprint
                raise _changed_error(file)
    for file, fingerprint in zip(files.ratings, fingerprints, strict=True):
        if file.fingerprint() != fingerprint:
            raise _changed_error(file)
    layout_notes = [note for _, layout, _ in files_read if layout is not None for note in layout.notes]
    return SourceRows(
        ratings=map_rows(folder, scratch=folder.parent),
        timestamp=None,
        user_ids=user_ids,
        item_ids=item_ids,
        files=[(file, layout) for file, layout, _ in files_read],
        stops=np.cumsum([num_rows for *_, num_rows in files_read]),
        notes=(*notes, *user_notes, *item_notes, *layout_notes),
    )


def _changed_error(file: InputFile) -> UserError:
    return UserError(f"{file} was changed while being read; start again once it is complete")


def map_rows(folder: Path, *, scratch: Path | None) -> Ratings:
    """Map the rows that `stream_rows` wrote to a folder.

    `scratch` becomes the folder of further arrays of this size. It is None if they fit into memory.

    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    user, item, rating = (map_file(folder / name, dtype) for name, dtype in COLUMNS.items())
    if not len(user) == len(item) == len(rating):
        raise ValueError("the columns have unequal lengths")
    return Ratings(user=user, item=item, rating=rating, folder=scratch)


def _read_batches(file: InputFile, layout: Layout | None, columns: ColumnOptions) -> Iterator[ParsedBatch]:
    """Yield batches of a file: user ids, item ids, and ratings as float32. Raises the errors of `stream_rows`."""
    if layout is not None:
        return stream_text(file, layout)
    return map_in_order(parse_batch_ids, read_columnar(file, columns), num_threads=pa.cpu_count())


def _report_disk(files: Sequence[InputFile], folder: Path) -> None:
    """Log the space that rows on disk need. Raises UserError if the disk of the folder has less."""
    num_rows, free = sum(map(_estimate_rows, files)), shutil.disk_usage(folder).free
    permanent, temporary = _format_bytes(BYTES_PER_ROW * num_rows), _format_bytes(TEMPORARY_BYTES_PER_ROW * num_rows)
    needed = f"about {num_rows:,} rows: {permanent} in the cache, and {temporary} while a run trains"
    if BYTES_PER_ROW * num_rows > free:
        raise UserError(f"data.cache: {needed}; {_format_bytes(free)} are free: name a folder on a larger disk")
    log.info("disk       %s; %s are free", needed, _format_bytes(free))


def _format_bytes(num_bytes: float) -> str:
    unit = next((unit for unit, size in BYTES_PER_UNIT.items() if num_bytes >= size), "kB")
    return f"{num_bytes / BYTES_PER_UNIT[unit]:.3g} {unit}"


def _estimate_rows(file: InputFile) -> int:
    """Count the rows of a Parquet file, or estimate the rows of another file from its first lines."""
    is_compressed = file.detect_compression() is not None
    if detect_format(file) is Format.PARQUET and not is_compressed:
        with suppress(OSError, ValueError):  # reading reports what is wrong with the file
            return int(pyarrow.parquet.read_metadata(open_file(file.path)).num_rows)
    start, size = file.read_start(), file.path.stat().st_size
    return round(size * (COMPRESSION_RATIO if is_compressed else 1) * (1 + start.count(b"\n")) / max(1, len(start)))
