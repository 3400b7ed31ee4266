"""Read files of ratings, users and items into a table."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.columnar import read_columnar
from ratinglab.formats.inputs import InputFile, read_each
from ratinglab.formats.layouts import Layout
from ratinglab.formats.timestamps import check_years, milliseconds, note_on_unusual
from ratinglab.ratings.ids import IdColumn, index_column, with_parsed_ids
from ratinglab.ratings.table import Ratings, RatingTable
from ratinglab.reading.cleaning import Cleaning, cleaned, scale_of, without_unrated
from ratinglab.reading.feature_tables import read_features
from ratinglab.reading.source_rows import Rows, TableFiles
from ratinglab.reading.streaming import stream_rows
from ratinglab.reading.text_ratings import read_text


class Block(NamedTuple):
    """Columns of one file: ids in parts; rating (N,) float32; timestamp (N,) int64 milliseconds, None if not read."""

    file: InputFile
    layout: Layout | None
    user: list[IdColumn]
    item: list[IdColumn]
    rating: NDArray[np.float32]
    timestamp: NDArray[np.int64] | None
    notes: list[str]


def read_table(files: TableFiles, *, cleaning: Cleaning, folder: Path | None = None) -> RatingTable:
    """Read files of ratings into one table.

    Args:
        folder: folder for files of rows that the table maps into memory; None: the rows are read into memory.

    Raises:
        OSError: the rows cannot be written to the folder.
    """
    users, items = read_features(files.users), read_features(files.items)
    rows = _read_rows(files) if folder is None else stream_rows(files, folder)
    _check_ids(rows)
    rows = without_unrated(rows, cleaning, name=files.name)
    scale = scale_of(rows, cleaning, name=files.name)
    rows = cleaned(rows, cleaning, name=files.name, folder=folder)
    _, user_columns, user_notes = users.by_index(rows.user_ids)
    titles, item_columns, item_notes = items.by_index(rows.item_ids)
    return RatingTable(
        name=files.name,
        ratings=rows.ratings,
        timestamp=rows.timestamp,
        user_ids=rows.user_ids,
        item_ids=rows.item_ids,
        titles=titles,
        user_columns=user_columns,
        item_columns=item_columns,
        origins=(files.users.origin, files.items.origin),
        scale=scale,
        set_scale=cleaning.set_scale if cleaning.min_rating is None else scale,
        sources=rows.sources(),
        merged_across_files=rows.merged_across_files,
        notes=(*rows.notes, *item_notes, *user_notes),
        noise_floor=files.noise_floor,
        folder=folder,
    )


def _read_rows(source: TableFiles) -> Rows:
    """Read all rows into memory."""
    blocks, notes = read_each(source.ratings, lambda file: _read_file(file, source))
    stops = np.cumsum([len(block.rating) for block in blocks])
    if source.num_ratings and stops[-1] not in source.num_ratings:
        published = " or ".join(f"{number:,}" for number in source.num_ratings)
        raise UserError(
            f"{blocks[0].file} has {stops[-1]:,} ratings, {source.name} has {published}: is this another data set?"
        )
    rating = _concatenated([block.rating for block in blocks])
    timestamp = None
    if source.columns.timestamp is not None:
        timestamp = _concatenated([block.timestamp for block in blocks if block.timestamp is not None])
    with ThreadPoolExecutor() as threads:  # numpy and pyarrow release the GIL
        users = threads.submit(index_column, [part for block in blocks for part in block.user], what="user")
        items = threads.submit(index_column, [part for block in blocks for part in block.item], what="item")
    (user_ids, user, user_notes), (item_ids, item, item_notes) = users.result(), items.result()
    rows = Rows(
        ratings=Ratings(user=user, item=item, rating=rating),
        timestamp=timestamp,
        user_ids=user_ids,
        item_ids=item_ids,
        files=[(block.file, block.layout) for block in blocks],
        stops=stops,
        notes=(*notes, *user_notes, *item_notes, *(note for block in blocks for note in block.notes)),
    )
    if timestamp is None:
        return rows
    check_years(timestamp, places=rows.places)
    return rows.noted(*note_on_unusual(timestamp))


def _concatenated(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate arrays, without a copy if there is only one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _check_ids(rows: Rows) -> None:
    """Raise UserError for a blank id, with its place."""
    for noun, ids, column in (("user", rows.user_ids, rows.ratings.user), ("item", rows.item_ids, rows.ratings.item)):
        if not ids.are_integers and "" in ids.ids:
            row = int(np.argmax(column == ids.index_of([""])))
            raise UserError(f"{rows.places([row])[0]}: the {noun} id must not be blank")


def _read_file(file: InputFile, source: TableFiles) -> Block:
    layout, notes = source.layout_of(file), list[str]()
    with ThreadPoolExecutor(pa.cpu_count()) as threads:  # pyarrow releases the GIL; each thread takes memory
        if layout is not None:
            layout, parts = read_text(file, layout, threads)
            notes = [*layout.notes]
        else:
            batches = read_columnar(file, source.columns, timestamp_format=source.timestamp_format)
            parts = list(threads.map(with_parsed_ids, batches))
    # free each column once it is concatenated: tens of millions of rows take a gigabyte
    user, item, *numbers = (list(column) for column in zip(*parts, strict=True))
    del parts
    timestamp = None
    if len(numbers) == 2:
        try:
            timestamp, time_notes = milliseconds(pa.chunked_array(numbers.pop()), source.timestamp_format)
        except pa.ArrowInvalid as error:  # numbers in a file that is not text
            rule = f"written as {source.timestamp_format!r} (data.timestamp_format)"
            raise UserError(f"{file}: every timestamp must be {rule}") from error
        notes = [*notes, *time_notes]
    rating = pa.chunked_array(numbers.pop()).to_numpy()
    pa.default_memory_pool().release_unused()
    return Block(file, layout, user, item, rating, timestamp, notes)
