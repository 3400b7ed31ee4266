"""Read files of ratings, users and items into a table."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.columnar import read_columnar
from ratinglab.formats.inputs import InputFile, read_each
from ratinglab.formats.layouts import Layout
from ratinglab.formats.timestamps import check_years, note_unusual_times, to_milliseconds
from ratinglab.process.threads import map_in_order
from ratinglab.ratings.ids import index_column, parse_batch_ids
from ratinglab.ratings.table import ConfiguredScale, Ratings, RatingTable
from ratinglab.reading.cleaning import clean, determine_scale, drop_unrated
from ratinglab.reading.cleaning_options import CleaningOptions
from ratinglab.reading.feature_tables import read_feature_file
from ratinglab.reading.gathering import FileColumns, gather_columns
from ratinglab.reading.source_rows import DataFiles, SourceRows
from ratinglab.reading.streaming import stream_rows
from ratinglab.reading.text_ratings import read_text


class FileContent(NamedTuple):
    """Rows of one file.

    Attributes:
        file: the file.
        layout: layout of a text file. None for other formats.
        columns: the columns, with timestamps in milliseconds since 1970, int64.
        notes: what the user should know about the file, one line each.
    """

    file: InputFile
    layout: Layout | None
    columns: FileColumns
    notes: list[str]


def read_table(
    files: DataFiles,
    *,
    cleaning: CleaningOptions,
    scale: ConfiguredScale,
    unrated: Sequence[float],
    folder: Path | None = None,
) -> RatingTable:
    """Read and clean files of ratings, users and items.

    `unrated` are the values that mean unrated. With a `folder`, the rows stay in files there, which the table maps into
    memory.

    Raises:
        UserError: a file, column, row or cell is invalid, or no row is left after cleaning.
        OSError: the rows cannot be written to the folder.
    """
    users, items = read_feature_file(files.users), read_feature_file(files.items)
    rows = _read_rows(files) if folder is None else stream_rows(files, folder)
    _check_ids(rows)
    lowest, highest = (None if bound is None else float(np.float32(bound)) for bound in scale)  # rounded like ratings
    rows = drop_unrated(rows, unrated, scale=(lowest, highest), name=files.name)
    actual_scale = determine_scale(rows, (lowest, highest), name=files.name)
    rows = clean(rows, cleaning, name=files.name)
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
        scale=actual_scale,
        configured_scale=(lowest, highest) if cleaning.min_rating is None else actual_scale,
        sources=rows.sources(),
        merged_across_files=rows.merged_across_files,
        notes=(*rows.notes, *item_notes, *user_notes),
        noise_floor=files.noise_floor,
    )


def _read_rows(files: DataFiles) -> SourceRows:
    contents, notes = read_each(files.ratings, lambda file: _read_file(file, files))
    columns = [content.columns for content in contents]
    stops = np.cumsum([len(file_columns.rating) for file_columns in columns])
    if files.num_ratings and stops[-1] not in files.num_ratings:
        published = " or ".join(f"{count:,}" for count in files.num_ratings)
        raise UserError(
            f"{contents[0].file} has {stops[-1]:,} ratings, {files.name} has {published}: is this another data set?"
        )
    rating = _concatenate([file_columns.rating for file_columns in columns])
    timestamp = None
    if files.columns.timestamp is not None:
        timestamps = [file_columns.timestamp for file_columns in columns]
        timestamp = _concatenate([values for values in timestamps if values is not None])
    user_chunks = [chunk for file_columns in columns for chunk in file_columns.user]
    item_chunks = [chunk for file_columns in columns for chunk in file_columns.item]
    with ThreadPoolExecutor() as threads:  # numpy and pyarrow release the GIL
        users = threads.submit(index_column, user_chunks, side="user")
        items = threads.submit(index_column, item_chunks, side="item")
    (user_ids, user, user_notes), (item_ids, item, item_notes) = users.result(), items.result()
    rows = SourceRows(
        ratings=Ratings(user=user, item=item, rating=rating),
        timestamp=timestamp,
        user_ids=user_ids,
        item_ids=item_ids,
        files=[(content.file, content.layout) for content in contents],
        stops=stops,
        notes=(*notes, *user_notes, *item_notes, *(note for content in contents for note in content.notes)),
    )
    if timestamp is None:
        return rows
    check_years(timestamp, places=rows.places)
    return rows.with_notes(*note_unusual_times(timestamp))


def _concatenate(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate arrays, without a copy if there is only one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _check_ids(rows: SourceRows) -> None:
    """Raise UserError for an id that is blank or has a NUL character, with its place."""
    for side, ids, index in (("user", rows.user_ids, rows.ratings.user), ("item", rows.item_ids, rows.ratings.item)):
        if ids.are_integers:
            continue
        texts = pa.array(ids.ids, pa.string())
        wrong = pc.index(pc.or_(pc.equal(texts, ""), pc.match_substring(texts, "\0")), True).as_py()
        if wrong >= 0:
            text = texts[wrong].as_py()
            rule = f"have a NUL character, got {text!r}: is the file damaged, or UTF-16?" if text else "be blank"
            raise UserError(f"{rows.places([int(np.argmax(index == wrong))])[0]}: the {side} id must not {rule}")


def _read_file(file: InputFile, files: DataFiles) -> FileContent:
    layout, notes = files.detect_layout(file), list[str]()
    if layout is not None:
        layout, columns = read_text(file, layout)
        notes = [*layout.notes]
    else:
        batches = read_columnar(file, files.columns, timestamp_format=files.timestamp_format)
        columns = gather_columns(map_in_order(parse_batch_ids, batches, num_threads=pa.cpu_count()))
    if columns.timestamp is not None:
        pattern, key = files.timestamp_format, "data.timestamp_format"
        milliseconds, time_notes = to_milliseconds(columns.timestamp, pattern, file=file, key=key)
        columns, notes = columns._replace(timestamp=milliseconds), [*notes, *time_notes]
    return FileContent(file, layout, columns, notes)
