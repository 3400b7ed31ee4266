"""Load a table from its files or from the cache."""

import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.formats.detection import Format, format_of
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.parquet_blocks import count_parquet_rows
from ratinglab.ratings.table import RatingTable
from ratinglab.reading.cleaning import Cleaning
from ratinglab.reading.rating_files import TableFiles, read_table
from ratinglab.reading.source_rows import RatingFiles
from ratinglab.reading.table_cache import cached_table, table_on_disk

log = logging.getLogger(__name__)

BYTES_KEPT, BYTES_WHILE_TRAINING = 12, 20
"""Bytes per row of a table on disk: permanent files, and temporary files (pairs, or both orders of als)."""
UNITS = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}
UNPACKED = {False: 1.0, True: 4.0}
"""Approximate size of a file's text relative to its size on disk, by whether the file is compressed."""


def load_table(
    files: TableFiles, *, cleaning: Cleaning, cache: Path | None, options: str, on_disk: bool = False
) -> RatingTable:
    """Read a table, or load it from the cache folder if the files and all options of reading are unchanged.

    Args:
        cache: the cache folder; None: no cache.
        options: all options that affect the result of reading, as text.
        on_disk: whether the rows stay in files of the cache folder, mapped into memory.
    """

    def read(folder: Path | None = None) -> RatingTable:
        if folder is not None:
            report_disk(files.ratings, folder)
        return read_table(files, cleaning=cleaning, folder=folder)

    inputs = [*files.ratings.files, files.users.file, files.items.file]
    fingerprints = [file.fingerprint() for file in inputs if file is not None]
    if not on_disk:
        return cached_table(cache, read, fingerprints=fingerprints, options=options, now_ns=time.time_ns())
    assert cache is not None, "the options refuse it"
    try:
        return table_on_disk(cache, read, fingerprints=fingerprints, options=options, now_ns=time.time_ns())
    except OSError as error:
        raise UserError(f"data.cache: {error.filename or cache}: {error.strerror or error}") from error


def report_disk(ratings: RatingFiles, folder: Path) -> None:
    """Log the space that rows on disk need. Raises UserError if the disk of the folder has less."""
    num_rows, free = sum(map(estimate_rows, ratings.files)), shutil.disk_usage(folder).free
    kept, temporary = (size_text(num_bytes * num_rows) for num_bytes in (BYTES_KEPT, BYTES_WHILE_TRAINING))
    needed = f"about {num_rows:,} rows: {kept} in the cache, and {temporary} while a run trains"
    if BYTES_KEPT * num_rows > free:
        raise UserError(f"data.cache: {needed}; {size_text(free)} are free: name a folder on a larger disk")
    log.info("disk       %s; %s are free", needed, size_text(free))


def size_text(num_bytes: float) -> str:
    """Format a number of bytes, such as 12.3 GB."""
    return next(f"{num_bytes / size:.3g} {unit}" for unit, size in UNITS.items() if num_bytes >= size or unit == "kB")


def estimate_rows(file: InputFile) -> int:
    """Count the rows of a Parquet file; estimate those of other files from their first lines."""
    kind = format_of(file)
    if kind is Format.PARQUET and file.compression() is None:
        with suppress(OSError, ValueError):  # reading reports what is wrong with the file
            return count_parquet_rows(file.path)
    start, size = file.start(), file.path.stat().st_size
    return round(size * UNPACKED[file.compression() is not None] * (1 + start.count(b"\n")) / max(1, len(start)))
