"""Read files of ratings into a table. Errors name the place in the file."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.files import user_path
from ratinglab.ratings.cleaning import Cleaning, Rows, k_core, only_used, scale_of, without_duplicates
from ratinglab.ratings.faults import Layout, first_fault, lines_of_rows
from ratinglab.ratings.feature_tables import FeatureTable
from ratinglab.ratings.ids import IdColumn, IdMap, index_column, parsed_ids
from ratinglab.ratings.inputs import Columns, InputFile, TextForm, pieces_of
from ratinglab.ratings.parquet import read_parquet
from ratinglab.ratings.side_information import Origin
from ratinglab.ratings.table import Ratings, RatingTable, Source
from ratinglab.ratings.text_ratings import layout_of, read_piece, read_text
from ratinglab.ratings.timestamps import check_years, milliseconds


@dataclass(frozen=True)
class RatingFiles:
    """Files of ratings in one format.

    Attributes:
        files: the files, in the order of the rows.
        form: separator and encoding; ignored for Parquet files.
        header: whether the first line names the columns.
        columns: columns by role.
        num_rows: allowed numbers of ratings of a named data set; empty: any number.
    """

    files: tuple[InputFile, ...]
    form: TextForm
    header: bool
    columns: Columns
    num_rows: tuple[int, ...] = ()


class Block(NamedTuple):
    """Columns and layout of one file; a Parquet file has no layout.

    Attributes:
        user: ids in parts, integers or text; likewise item.
        rating: (N,) float32.
        timestamp: (N,) int64 milliseconds; None if not read.
        notes: remarks on the timestamps.
    """

    file: InputFile
    layout: Layout | None
    user: list[IdColumn]
    item: list[IdColumn]
    rating: NDArray[np.float32]
    timestamp: NDArray[np.int64] | None
    notes: list[str]


@dataclass(frozen=True)
class Extent:
    """Files of a table and their ranges of rows.

    Attributes:
        files: each file and its layout; a Parquet file has no layout.
        stops: for each file, the row after its last one.
    """

    files: list[tuple[InputFile, Layout | None]]
    stops: NDArray[np.int64]

    def places(self, rows: list[int]) -> list[str]:
        """Find the file and line of each row. Reads each text file once more."""
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


class Content(NamedTuple):
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
) -> RatingTable:
    """Read files of ratings into one table.

    Args:
        source: the files.
        users: the table of users; None without one.
        items: the table of items; None without one.
        origins: where the user and item tables come from, for messages.
        cleaning: how to clean the rows.
        name: name of the table.
        noise_floor: MSE of a perfect model, for generated data; else None.

    Raises:
        UserError: a file, column, row or cell is invalid; the message names it.
    """
    blocks = [_read_file(file, source) for file in source.files]
    extent = Extent(
        files=[(block.file, block.layout) for block in blocks],
        stops=np.cumsum([len(block.rating) for block in blocks]),
    )
    _check_num_rows(source, extent, name=name)
    content = _united(blocks, extent, has_times=source.columns.timestamp is not None)
    del blocks  # can be several GB
    _check_ids(content, extent)
    scale = scale_of(content.rows.ratings.rating, cleaning, name=name, places=extent.places)
    content, merged_across_files = _cleaned(content, cleaning, extent)
    user_ids, item_ids = content.user_ids, content.item_ids
    unmatched = [
        *([] if items is None else items.unmatched(item_ids)),
        *([] if users is None else users.unmatched(user_ids)),
    ]
    return RatingTable(
        name=name,
        ratings=content.rows.ratings,
        timestamp=content.rows.timestamp,
        user_ids=user_ids,
        item_ids=item_ids,
        titles=None if items is None else items.titles_of(item_ids),
        user_columns={} if users is None else users.columns_of(user_ids),
        item_columns={} if items is None else items.columns_of(item_ids),
        origins=origins,
        scale=scale,
        sources=_sources(extent, content.rows),
        merged_across_files=merged_across_files,
        notes=(*content.notes, *unmatched),
        noise_floor=noise_floor,
    )


def _check_num_rows(source: RatingFiles, extent: Extent, *, name: str) -> None:
    found = extent.stops[-1]
    if source.num_rows and found not in source.num_rows:
        published = " or ".join(f"{number:,}" for number in source.num_rows)
        raise UserError(
            f"{extent.files[0][0]} has {found:,} ratings, {name} has {published}: is this another data set?"
        )


def _united(blocks: list[Block], extent: Extent, *, has_times: bool) -> Content:
    """Concatenate the rows of all files and index their ids."""
    rating = _concatenated([block.rating for block in blocks])
    timestamp = None
    if has_times:
        timestamp = _concatenated([block.timestamp for block in blocks if block.timestamp is not None])
        check_years(timestamp, places=extent.places)
    with ThreadPoolExecutor() as threads:  # numpy and pyarrow release the GIL
        users = threads.submit(index_column, [part for block in blocks for part in block.user], what="user")
        items = threads.submit(index_column, [part for block in blocks for part in block.item], what="item")
    (user_ids, user, user_notes), (item_ids, item, item_notes) = users.result(), items.result()
    return Content(
        rows=Rows(ratings=Ratings(user=user, item=item, rating=rating), timestamp=timestamp),
        user_ids=user_ids,
        item_ids=item_ids,
        notes=[*user_notes, *item_notes, *(note for block in blocks for note in block.notes)],
    )


def _concatenated(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate arrays, without a copy if there is only one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _check_ids(content: Content, extent: Extent) -> None:
    """Raise UserError for a blank id, with its place."""
    ratings = content.rows.ratings
    for ids, column in ((content.user_ids, ratings.user), (content.item_ids, ratings.item)):
        if not ids.are_integers and "" in ids.ids:
            row = np.argmax(column == ids.index_of([""]))
            file, layout = extent.files[int(np.searchsorted(extent.stops, row, side="right"))]
            assert layout is not None, "read_parquet refuses blank ids"
            raise first_fault(file, layout)


def _cleaned(content: Content, cleaning: Cleaning, extent: Extent) -> tuple[Content, int]:
    """Return the remaining rows with their ids, and the number of pairs merged across files."""
    rows, user_ids, item_ids, notes = content
    merged = without_duplicates(
        rows,
        policy=cleaning.duplicates,
        user_ids=user_ids,
        item_ids=item_ids,
        stops=extent.stops,
        places=extent.places,
    )
    rows, dropped = k_core(merged.rows, cleaning, num_users=len(user_ids), num_items=len(item_ids))
    if rows.number is not None:
        user, user_ids = only_used(rows.ratings.user, user_ids)
        item, item_ids = only_used(rows.ratings.item, item_ids)
        rows = replace(rows, ratings=Ratings(user=user, item=item, rating=rows.ratings.rating))
    return Content(rows, user_ids, item_ids, [*notes, *merged.notes, *dropped]), merged.across_files


def _sources(extent: Extent, rows: Rows) -> tuple[Source, ...]:
    """List the files, each with the row after its last remaining one."""
    stops = extent.stops if rows.number is None else np.searchsorted(rows.number, extent.stops)
    return tuple(Source(str(file), int(stop)) for (file, _), stop in zip(extent.files, stops, strict=True))


def existing_file(name: str, *, key: str) -> InputFile:
    """Find a file, or a member of a zip archive given as `archive.zip/folder/name`.

    Raises:
        UserError: it does not exist; the message names the key, and suggests a file with a similar name.
    """
    path = user_path(name, key=key)
    if path.is_file():
        return InputFile(path)
    archive = next((parent for parent in path.parents if parent.is_file()), None)
    if archive is not None and InputFile(archive).kind() == "zip":
        return InputFile(archive, path.relative_to(archive).as_posix())
    if path.is_dir():
        raise UserError(f"{key} must be a file, got the folder {name}")
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(f"{key}: there is no file {name}{did_you_mean(path.name, siblings, cutoff=0.75)}")


def existing_files(pattern: str, *, key: str) -> tuple[InputFile, ...]:
    """Find the file of that exact name, or the files that match a pattern such as `ratings-*.csv`, sorted by name.

    Raises:
        UserError: no file matches.
    """
    path = user_path(pattern, key=key)
    if path.exists() or not has_magic(str(path)):
        return (existing_file(pattern, key=key),)
    found = sorted(Path(name) for name in glob(str(path), recursive=True))
    if not any(name.is_file() for name in found):
        raise UserError(f"{key}: no file matches {pattern}")
    return tuple(InputFile(name) for name in found if name.is_file())


def _read_file(file: InputFile, source: RatingFiles) -> Block:
    with ThreadPoolExecutor() as threads:  # pyarrow releases the GIL
        if file.kind() == "parquet":
            layout, parts = None, list(threads.map(_with_parsed_ids, read_parquet(file, source.columns)))
        else:
            layout = layout_of(file, source.form, header=source.header, columns=source.columns)
            parts = _read_pieces(file, layout, threads) or list(threads.map(_with_parsed_ids, read_text(file, layout)))
    # Each column is freed once it is concatenated: tens of millions of rows are a gigabyte.
    user, item, *numbers = (list(column) for column in zip(*parts, strict=True))
    del parts
    timestamp, notes = (None, []) if len(numbers) == 1 else milliseconds(pa.chunked_array(numbers.pop()))
    rating = pa.chunked_array(numbers.pop()).to_numpy()
    pa.default_memory_pool().release_unused()
    return Block(file, layout, user, item, rating, timestamp, notes)


def _read_pieces(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> list[list[Any]]:
    """Read a plain file in several threads; return nothing for any other file, and for one with quotes or a fault."""
    pieces = pieces_of(file, layout.form, header_lines=layout.header_lines)

    def read(piece: tuple[int, int]) -> list[list[Any]]:
        return [_with_parsed_ids(batch) for batch in read_piece(file, layout, piece)]

    try:
        return [part for parts in threads.map(read, pieces) for part in parts]
    except pa.ArrowInvalid:  # reading in order finds the line
        return []


def _with_parsed_ids(batch: pa.RecordBatch) -> list[Any]:
    user, item, *numbers = batch.columns
    return [parsed_ids(user), parsed_ids(item), *numbers]
