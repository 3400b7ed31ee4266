"""Ratings and titles from delimited text files: read whole, or refused with the place named."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.files import user_path
from ratinglab.ratings.faults import Layout, first_fault, first_row, has_cells_over_lines
from ratinglab.ratings.ids import UNKNOWN, IdMap, sorted_ids
from ratinglab.ratings.table import Ratings, RatingTable


class Columns(NamedTuple):
    """Which columns of a file of ratings hold what: names from its header, or positions from 1 without one."""

    user: str
    item: str
    rating: str


class TitleFile(NamedTuple):
    """A file of titles, with a header: where it lies, its separator, and its columns of item ids and titles."""

    path: Path
    separator: str
    item: str
    title: str


def read_table(
    path: Path,
    *,
    separator: str,
    header: bool,
    columns: Columns,
    titles: TitleFile | None,
    name: str,
    noise_floor: float | None,
) -> RatingTable:
    """Read a file of ratings, and its titles where there are any, into a table.

    Args:
        path: the file of ratings.
        separator: the character between two columns.
        header: whether the first line names the columns.
        columns: which columns hold user, item and rating.
        titles: the file of titles, where there is one.
        name: what the table is called.
        noise_floor: MSE of a perfect model, for generated data.

    Raises:
        UserError: a file, column, row or cell is wrong; the message names it.
    """
    layout = _layout(path, separator=separator, header=header, columns=columns)
    cells = _read_columns(path, layout)
    user_ids, user = _ids_of(cells[layout.user])
    item_ids, item = _ids_of(cells[layout.item])
    with np.errstate(over="ignore"):  # too large for float32 is infinite, and found below
        rating = cells[layout.rating].to_numpy().astype(np.float32)
    over_lines = has_cells_over_lines(path, num_rows=len(rating) + (1 if header else 0))
    blank = any("" in ids.ids for ids in (user_ids, item_ids) if not ids.are_integers)
    if over_lines or blank or len(rating) == 0 or not np.isfinite(rating).all():
        raise first_fault(path, layout)
    return RatingTable(
        name=name,
        ratings=Ratings(user=user, item=item, rating=rating),
        user_ids=user_ids,
        item_ids=item_ids,
        titles=None if titles is None else _read_titles(titles, item_ids),
        noise_floor=noise_floor,
    )


def existing_file(name: str, *, key: str) -> Path:
    """The path of a file that is there.

    Raises:
        UserError: it is not; the message names the key, and a file of nearly that name.
    """
    path = user_path(name, key=key)
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f"{key} must be a file, got the folder {name}")
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(f"{key}: there is no file {name}{did_you_mean(path.name, siblings, cutoff=0.75)}")


def _layout(path: Path, *, separator: str, header: bool, columns: Columns) -> Layout:
    line, cells = first_row(path, separator)
    names = [cell.strip() for cell in cells] if header else [str(n) for n in range(1, len(cells) + 1)]
    found = {
        role: _column(names, wanted, key=f"data.columns.{role}", path=path, header=header)
        for role, wanted in columns._asdict().items()
    }
    for role, other in (("item", "user"), ("rating", "user"), ("rating", "item")):
        if found[role] == found[other]:
            raise UserError(
                f"data.columns.{role} must be another column than data.columns.{other}, "
                f"got {getattr(columns, role)} for both"
            )
    return Layout(
        separator=separator,
        header_lines=line if header else 0,
        num_columns=len(names),
        user=found["user"],
        item=found["item"],
        rating=found["rating"],
    )


def _column(names: Sequence[str], wanted: str, *, key: str, path: Path, header: bool) -> int:
    """Position from 0 of the wanted column."""
    count = names.count(wanted)
    if count == 1:
        return names.index(wanted)
    if count > 1:
        raise UserError(f"{key}: {path} has {count} columns named {wanted!r}")
    if not header:
        raise UserError(f"{key} must be a column's position from 1 to {len(names)} (data.header=false), got {wanted!r}")
    suggestion = did_you_mean(wanted, names)
    raise UserError(f"{key}: {path} has no column {wanted!r}; it has {', '.join(names)}{suggestion}")


def _read_columns(path: Path, layout: Layout) -> dict[int, pa.ChunkedArray]:
    """The columns of user ids, item ids (as a dictionary of texts) and ratings, by position."""
    names = [str(position) for position in range(layout.num_columns)]
    text = pa.dictionary(pa.int32(), pa.string())
    types = {
        names[layout.user]: text,
        names[layout.item]: text,
        names[layout.rating]: pa.float64(),
    }
    try:
        table = pyarrow.csv.read_csv(
            path,
            # Large blocks: each has a dictionary of its own, and they are united afterwards.
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=layout.header_lines, block_size=1 << 23),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=layout.separator, newlines_in_values=True, ignore_empty_lines=True
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(types), column_types=types, null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise first_fault(path, layout, otherwise=str(error)) from error
    return {int(name): table[name] for name in types}


def _ids_of(column: pa.ChunkedArray) -> tuple[IdMap, NDArray[np.int32]]:
    """The ids of a column of dictionary-encoded text and the index of each row: (N,) int32."""
    united = column.unify_dictionaries().combine_chunks()
    if isinstance(united, pa.ChunkedArray):  # no rows: no chunks to combine
        return IdMap([]), np.empty(0, dtype=np.int32)
    ids, index_of_code = sorted_ids(np.asarray(united.dictionary.to_pylist(), dtype=object))
    return ids, index_of_code[united.indices.to_numpy()]


def read_text_table(path: Path, *, separator: str) -> pa.Table:
    """A delimited file with a header, every cell as text; a row with too many or too few cells is refused.

    Raises:
        UserError: the file is empty or cannot be read, or two columns have the same name.
    """
    line, cells = first_row(path, separator)
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} has {names.count(repeated)} columns named {repeated!r}")
    try:
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=line),
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def text_column(table: pa.Table, wanted: str, *, key: str, path: Path) -> list[str]:
    """The cells of a column of `read_text_table`, without the white space around them.

    Raises:
        UserError: there is no such column; the message lists those that are there.
    """
    position = _column(table.column_names, wanted, key=key, path=path, header=True)
    return [text.strip() for text in table[position].to_pylist()]


def _read_titles(file: TitleFile, item_ids: IdMap) -> NDArray[np.object_]:
    """(num_items,) title of each item index, empty where the file has none."""
    table = read_text_table(file.path, separator=file.separator)
    items = text_column(table, file.item, key="data.titles.item", path=file.path)
    texts = text_column(table, file.title, key="data.titles.title", path=file.path)
    repeated = [item for item, count in Counter(items).items() if count > 1]
    if repeated:
        raise UserError(f"{file.path} has more than one row for item {repeated[0]}")
    item = item_ids.index_of(items)
    titles = np.full(len(item_ids), "", dtype=object)
    titles[item[item != UNKNOWN]] = np.array(texts, dtype=object)[item != UNKNOWN]
    return titles
