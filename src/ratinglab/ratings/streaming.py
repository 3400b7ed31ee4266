"""Read files of ratings that do not fit into memory: two passes, whose rows end in files beside one another."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ratinglab.errors import UserError
from ratinglab.ratings.columnar import stream_columnar
from ratinglab.ratings.distinct_ids import DistinctIds
from ratinglab.ratings.formats import Format, format_of
from ratinglab.ratings.ids import UNKNOWN, IdMap, with_parsed_ids
from ratinglab.ratings.inputs import Columns, InputFile, in_order
from ratinglab.ratings.layouts import Layout, layout_of
from ratinglab.ratings.mapped_arrays import opened
from ratinglab.ratings.row_reader import EmptyFileError
from ratinglab.ratings.table import Ratings
from ratinglab.ratings.text_dialects import TextDialect
from ratinglab.ratings.text_ratings import stream_text

COLUMNS = {"user": np.dtype("<i4"), "item": np.dtype("<i4"), "rating": np.dtype("<f4")}
"""Files of the columns, by name, and the types of their values."""


class StreamedRows(NamedTuple):
    """Rows of all files, mapped from files of their own.

    Attributes:
        ratings: the rows.
        user_ids: the id of each user index; likewise item_ids.
        files: each file with ratings, and its layout; only a text file has one.
        num_rows: number of rows of each of these files.
        notes: remarks on the files and ids.
    """

    ratings: Ratings
    user_ids: IdMap
    item_ids: IdMap
    files: list[tuple[InputFile, Layout | None]]
    num_rows: list[int]
    notes: list[str]


def stream_rows(
    files: tuple[InputFile, ...], dialect: TextDialect, *, header: bool, columns: Columns, folder: Path
) -> StreamedRows:
    """Read the columns user, item and rating, and write them to files in a folder: 12 bytes per row.

    The first pass finds the distinct ids, the second one their index in each row. Besides the ids, memory holds a few
    batches of rows.

    Args:
        files: the files, in the order of the rows.
        dialect: dialect of text files.
        header: whether the first line of a text file names the columns.
        columns: columns by role.
        folder: folder for the files of rows.

    Raises:
        UserError: a file, column, row or cell is invalid, or a file changes while it is read; the message names it.
        OSError: the rows cannot be written.
    """
    users, items = DistinctIds(what="user"), DistinctIds(what="item")
    before = [file.fingerprint() for file in files]
    layouts: list[tuple[InputFile, Layout | None]] = []
    num_rows, empty = [], []
    with ThreadPoolExecutor(pa.cpu_count()) as threads:
        for file in files:
            try:
                layout = _layout(file, dialect, header=header, columns=columns)
                count = 0
                for user, item, rating in _batches(file, layout, columns, threads):
                    users.add(user)
                    items.add(item)
                    count += len(rating)
            except EmptyFileError:
                if len(files) == 1:
                    raise
                empty.append(file)
                continue
            layouts.append((file, layout))
            num_rows.append(count)
        if not layouts:
            raise UserError(f"data.path: none of the {len(files)} files has ratings; the first is {files[0]}")
        (user_ids, user_notes), (item_ids, item_notes) = users.indexed(), items.indexed()
        with ExitStack() as stack:
            user_file, item_file, rating_file = (stack.enter_context((folder / name).open("wb")) for name in COLUMNS)
            for (file, layout), count in zip(layouts, num_rows, strict=True):
                for user, item, rating in _batches(file, layout, columns, threads):
                    user_index, item_index = users.index_of(user), items.index_of(item)
                    if min(user_index.min(initial=0), item_index.min(initial=0)) == UNKNOWN:
                        raise _changed(file)
                    count -= len(rating)
                    user_file.write(user_index.data)
                    item_file.write(item_index.data)
                    rating_file.write(np.ascontiguousarray(rating.to_numpy(zero_copy_only=False)).data)
                if count != 0:
                    raise _changed(file)
    for file, fingerprint in zip(files, before, strict=True):
        if file.fingerprint() != fingerprint:
            raise _changed(file)
    notes = [*user_notes, *item_notes, *(note for _, layout in layouts if layout is not None for note in layout.notes)]
    if empty:
        notes.insert(0, f"files without ratings: {len(empty):,} of {len(files):,}, such as {empty[0]}")
    return StreamedRows(map_rows(folder), user_ids, item_ids, layouts, num_rows, notes)


def map_rows(folder: Path) -> Ratings:
    """Map the rows that `stream_rows` wrote to a folder.

    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    user, item, rating = (opened(folder / name, dtype) for name, dtype in COLUMNS.items())
    if not len(user) == len(item) == len(rating):
        raise ValueError("the columns have unequal lengths")
    return Ratings(user=user, item=item, rating=rating)


def _layout(file: InputFile, dialect: TextDialect, *, header: bool, columns: Columns) -> Layout | None:
    if format_of(file) is not Format.TEXT:
        return None
    return layout_of(file, dialect, header=header, columns=columns, timestamp_format=None)


def _batches(
    file: InputFile, layout: Layout | None, columns: Columns, threads: ThreadPoolExecutor
) -> Iterator[list[Any]]:
    """Yield batches of a file: the ids of users and of items, and the ratings, float32."""
    if layout is not None:
        return stream_text(file, layout, threads, with_parsed_ids)
    batches = stream_columnar(file, format_of(file), columns)
    return in_order(threads, with_parsed_ids, batches, ahead=2 * pa.cpu_count())


def _changed(file: InputFile) -> UserError:
    return UserError(f"{file} was changed while it was read: start again once it is complete")
