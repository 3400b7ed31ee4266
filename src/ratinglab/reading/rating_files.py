"""Read files of ratings into a table."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.columnar import read_columnar
from ratinglab.formats.detection import Format, format_of
from ratinglab.formats.faults import lines_of_rows
from ratinglab.formats.inputs import InputFile, read_each
from ratinglab.formats.layouts import MATRIX, Layout, layout_of
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.formats.timestamps import check_years, milliseconds, note_on_unusual
from ratinglab.ratings.ids import IdColumn, IdMap, index_column, with_parsed_ids
from ratinglab.ratings.side_information import Origin
from ratinglab.ratings.table import Ratings, RatingTable, SourceFile
from ratinglab.reading.cleaning import (
    Cleaning,
    Rows,
    k_core,
    only_used,
    scale_of,
    without_duplicates,
    without_low_ratings,
    without_unrated,
)
from ratinglab.reading.feature_tables import FeatureTable
from ratinglab.reading.streaming import stream_rows
from ratinglab.reading.text_ratings import read_text


@dataclass(frozen=True)
class RatingFiles:
    """Files of ratings in one format.

    Attributes:
        files: the files, in the order of the rows.
        dialect: dialect of text files.
        header: whether the first line of a text file names the columns.
        columns: columns by role.
        timestamp_format: data.timestamp_format: a unit of Unix time or a strptime pattern; None: detected.
        num_rows: numbers of ratings that a named data set can have; empty: any number.
    """

    files: tuple[InputFile, ...]
    dialect: TextDialect
    header: bool
    columns: ColumnOptions
    timestamp_format: str | None = None
    num_rows: tuple[int, ...] = ()


class Block(NamedTuple):
    """Columns of one file.

    Attributes:
        layout: layout of a text file; None for other files.
        user: ids in parts, integers or text; likewise item.
        rating: (N,) float32.
        timestamp: (N,) int64 milliseconds; None if not read.
        notes: remarks on the file.
    """

    file: InputFile
    layout: Layout | None
    user: list[IdColumn]
    item: list[IdColumn]
    rating: NDArray[np.float32]
    timestamp: NDArray[np.int64] | None
    notes: list[str]


@dataclass(frozen=True)
class FileRanges:
    """Files of a table and their ranges of rows.

    Attributes:
        files: each file and its layout, which is None unless the file is text.
        stops: for each file, the row after its last one.
    """

    files: list[tuple[InputFile, Layout | None]]
    stops: NDArray[np.int64]

    def places(self, rows: list[int]) -> list[str]:
        """Find the file and line of each row. Reads text files again."""
        number = np.searchsorted(self.stops, rows, side="right")
        row_in_file = np.array(rows) - np.concatenate([[0], self.stops])[number]
        found = [""] * len(rows)
        for each in np.unique(number):
            file, layout = self.files[each]
            inside = np.flatnonzero(number == each)
            of_file = row_in_file[inside].tolist()
            named = [row + 1 for row in of_file] if layout is None else lines_of_rows(file, layout, of_file)
            for position, count in zip(inside, named, strict=True):
                found[position] = f"{file}, {'row' if layout is None else 'line'} {count}"
        return found

    def matrix_hint(self) -> str | None:
        """Return advice on the first file that looks like a matrix; None if there is none."""
        matrices = (file for file, layout in self.files if layout is not None and layout.is_matrix)
        return next((MATRIX.format(file=file) for file in matrices), None)


class IndexedRows(NamedTuple):
    """Indexed rows of all files, with notes."""

    rows: Rows
    user_ids: IdMap
    item_ids: IdMap
    notes: list[str]


def read_table(
    source: RatingFiles,
    *,
    users: FeatureTable | None,
    items: FeatureTable | None,
    origins: tuple[Origin, Origin],
    cleaning: Cleaning,
    name: str,
    noise_floor: float | None,
    folder: Path | None = None,
) -> RatingTable:
    """Read files of ratings into one table.

    Args:
        origins: where the user and item tables come from, for messages.
        noise_floor: MSE of a perfect model, for generated data; else None.
        folder: folder for files of rows that the table maps into memory; None: the rows are read into memory.

    Raises:
        OSError: the rows cannot be written to the folder.
    """
    indexed, ranges = _read_rows(source, name=name) if folder is None else _stream_rows(source, folder)
    _check_ids(indexed, ranges)
    rated, unrated_notes = without_unrated(indexed.rows, cleaning, name=name)
    scale = scale_of(rated, cleaning, name=name, places=ranges.places)
    indexed = indexed._replace(rows=rated, notes=[*indexed.notes, *unrated_notes])
    indexed, merged_across_files = _cleaned(indexed, cleaning, ranges, name=name, folder=folder)
    user_ids, item_ids = indexed.user_ids, indexed.item_ids
    of_tables = [
        *([] if items is None else [*items.notes, *items.notes_on_coverage(item_ids)]),
        *([] if users is None else [*users.notes, *users.notes_on_coverage(user_ids)]),
    ]
    return RatingTable(
        name=name,
        ratings=indexed.rows.ratings,
        timestamp=indexed.rows.timestamp,
        user_ids=user_ids,
        item_ids=item_ids,
        titles=None if items is None else items.titles_of(item_ids),
        user_columns={} if users is None else users.columns_of(user_ids),
        item_columns={} if items is None else items.columns_of(item_ids),
        origins=origins,
        scale=scale,
        set_scale=cleaning.set_scale if cleaning.min_rating is None else scale,
        sources=_sources(ranges, indexed.rows),
        merged_across_files=merged_across_files,
        notes=(*indexed.notes, *of_tables),
        noise_floor=noise_floor,
        folder=folder,
    )


def _read_rows(source: RatingFiles, *, name: str) -> tuple[IndexedRows, FileRanges]:
    """Read all rows into memory."""
    blocks, notes = read_each(source.files, lambda file: _read_file(file, source))
    ranges = FileRanges(
        files=[(block.file, block.layout) for block in blocks],
        stops=np.cumsum([len(block.rating) for block in blocks]),
    )
    _check_num_rows(source, ranges, name=name)
    indexed = _combined(blocks, ranges, has_times=source.columns.timestamp is not None)
    return indexed._replace(notes=[*notes, *indexed.notes]), ranges


def _stream_rows(source: RatingFiles, folder: Path) -> tuple[IndexedRows, FileRanges]:
    """Read all rows into files of a folder, which are mapped into memory."""
    found = stream_rows(source.files, source.dialect, header=source.header, columns=source.columns, folder=folder)
    rows = Rows(ratings=found.ratings, timestamp=None)
    files = [(file, layout) for file, layout, _ in found.files]
    ranges = FileRanges(files, np.cumsum([num_rows for *_, num_rows in found.files]))
    return IndexedRows(rows, found.user_ids, found.item_ids, found.notes), ranges


def _check_num_rows(source: RatingFiles, ranges: FileRanges, *, name: str) -> None:
    found = ranges.stops[-1]
    if source.num_rows and found not in source.num_rows:
        published = " or ".join(f"{number:,}" for number in source.num_rows)
        raise UserError(
            f"{ranges.files[0][0]} has {found:,} ratings, {name} has {published}: is this another data set?"
        )


def _combined(blocks: list[Block], ranges: FileRanges, *, has_times: bool) -> IndexedRows:
    """Concatenate the rows of all files and index their ids."""
    rating = _concatenated([block.rating for block in blocks])
    timestamp, time_notes = None, []
    if has_times:
        timestamp = _concatenated([block.timestamp for block in blocks if block.timestamp is not None])
        check_years(timestamp, places=ranges.places)
        time_notes = note_on_unusual(timestamp)
    with ThreadPoolExecutor() as threads:  # numpy and pyarrow release the GIL
        users = threads.submit(index_column, [part for block in blocks for part in block.user], what="user")
        items = threads.submit(index_column, [part for block in blocks for part in block.item], what="item")
    (user_ids, user, user_notes), (item_ids, item, item_notes) = users.result(), items.result()
    return IndexedRows(
        rows=Rows(ratings=Ratings(user=user, item=item, rating=rating), timestamp=timestamp),
        user_ids=user_ids,
        item_ids=item_ids,
        notes=[*user_notes, *item_notes, *(note for block in blocks for note in block.notes), *time_notes],
    )


def _concatenated(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate arrays, without a copy if there is only one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _check_ids(indexed: IndexedRows, ranges: FileRanges) -> None:
    """Raise UserError for a blank id, with its place."""
    ratings = indexed.rows.ratings
    for noun, ids, column in (("user", indexed.user_ids, ratings.user), ("item", indexed.item_ids, ratings.item)):
        if not ids.are_integers and "" in ids.ids:
            row = int(np.argmax(column == ids.index_of([""])))
            raise UserError(f"{ranges.places([row])[0]}: the {noun} id must not be blank")


def _cleaned(
    indexed: IndexedRows, cleaning: Cleaning, ranges: FileRanges, *, name: str, folder: Path | None
) -> tuple[IndexedRows, int]:
    """Clean the rows; return the remaining ones with their ids, and the number of pairs merged across files."""
    rows, user_ids, item_ids, notes = indexed
    merged = without_duplicates(
        rows,
        policy=cleaning.duplicates,
        user_ids=user_ids,
        item_ids=item_ids,
        stops=ranges.stops,
        places=ranges.places,
        hint=ranges.matrix_hint(),
        folder=folder,
    )
    kept, low = without_low_ratings(merged.rows, cleaning, name=name)
    rows, dropped = k_core(kept, cleaning, num_users=len(user_ids), num_items=len(item_ids))
    if rows.number is not None:
        user, user_ids = only_used(rows.ratings.user, user_ids)
        item, item_ids = only_used(rows.ratings.item, item_ids)
        rows = replace(rows, ratings=Ratings(user=user, item=item, rating=rows.ratings.rating))
    return IndexedRows(rows, user_ids, item_ids, [*notes, *merged.notes, *low, *dropped]), merged.across_files


def _sources(ranges: FileRanges, rows: Rows) -> tuple[SourceFile, ...]:
    """List the files, each with the row after its last remaining one."""
    stops = ranges.stops if rows.number is None else np.searchsorted(rows.number, ranges.stops)
    return tuple(SourceFile(str(file), int(stop)) for (file, _), stop in zip(ranges.files, stops, strict=True))


def _read_file(file: InputFile, source: RatingFiles) -> Block:
    kind, columns = format_of(file), source.columns
    notes: list[str] = []
    with ThreadPoolExecutor(pa.cpu_count()) as threads:  # pyarrow releases the GIL; each thread takes memory
        if kind is Format.TEXT:
            layout = layout_of(
                file, source.dialect, header=source.header, columns=columns, timestamp_format=source.timestamp_format
            )
            layout, parts, notes = read_text(file, layout, threads, with_parsed_ids)
            notes = [*layout.notes, *notes]
        else:
            layout = None
            batches = read_columnar(file, kind, columns, timestamp_format=source.timestamp_format)
            parts = list(threads.map(with_parsed_ids, batches))
    # free each column once it is concatenated: tens of millions of rows take a gigabyte
    user, item, *numbers = (list(column) for column in zip(*parts, strict=True))
    del parts
    timestamp = None
    if len(numbers) == 2:
        timestamp, time_notes = _milliseconds(pa.chunked_array(numbers.pop()), file, source.timestamp_format)
        notes = [*notes, *time_notes]
    rating = pa.chunked_array(numbers.pop()).to_numpy()
    pa.default_memory_pool().release_unused()
    return Block(file, layout, user, item, rating, timestamp, notes)


def _milliseconds(column: pa.ChunkedArray, file: InputFile, pattern: str | None) -> tuple[NDArray[np.int64], list[str]]:
    try:
        return milliseconds(column, pattern)
    except pa.ArrowInvalid as error:  # numbers in a file that is not text
        raise UserError(f"{file}: every timestamp must be written as {pattern!r} (data.timestamp_format)") from error
