"""Tables of users and of items: titles and features from files with one row per user or item."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.ratings.faults import column_position, first_rows
from ratinglab.ratings.ids import UNKNOWN, IdMap
from ratinglab.ratings.inputs import InputFile, TextForm
from ratinglab.ratings.side_information import NO_GENRES, Column, Origin, is_numeric
from ratinglab.ratings.text_tables import read_text_table, text_column

GROUPS = 10
"""Number of quantile groups of a numeric column."""


@dataclass(frozen=True)
class FeatureFile:
    """A file of users or items, and how to read it.

    Attributes:
        file: the file.
        form: separator and encoding.
        origin: where the table comes from, for messages.
        key: option group that describes it: `data.users` or `data.titles`.
        id: name of the id column.
        title: name of the title column; None without one.
        numeric: names of the numeric columns; all others hold categories.
        names: names of all columns of a file without a header; None: the first line names them.
        may_lack_numeric: whether a numeric column may be missing.
    """

    file: InputFile
    form: TextForm
    origin: Origin
    key: str
    id: str
    title: str | None
    numeric: tuple[str, ...]
    names: tuple[str, ...] | None = None
    may_lack_numeric: bool = False

    @property
    def text(self) -> tuple[str, ...]:
        """Columns that are not features."""
        return (self.id,) if self.title is None else (self.id, self.title)


@dataclass(frozen=True)
class FeatureTable:
    """Content of a file of users or items, in the order of its rows.

    Attributes:
        ids: the id of each row, without repeats.
        titles: the title of each row; None without a title column.
        columns: the features by name.
        origin: where the table comes from, for messages.
    """

    ids: list[str]
    titles: list[str] | None
    columns: dict[str, Column]
    origin: Origin

    def titles_of(self, ids: IdMap) -> NDArray[np.object_] | None:
        """The title of each index, empty if unknown: (len(ids),)."""
        if self.titles is None:
            return None
        return _by_index(np.array(self.titles, dtype=object), ids.index_of(self.ids), count=len(ids), unknown="")

    def columns_of(self, ids: IdMap) -> dict[str, Column]:
        """Features by index. A numeric column NAME also yields a column of categories NAME_group, its quantile groups.

        If the file has a column NAME_group, that one is used.
        """
        index = ids.index_of(self.ids)
        found: dict[str, Column] = {}
        for name, column in self.columns.items():
            if is_numeric(column):
                found[name] = numbers = _by_index(column, index, count=len(ids), unknown=np.nan)
                if f"{name}_group" not in self.columns:
                    found[f"{name}_group"] = groups_of(numbers)
            else:
                found[name] = _by_index(column, index, count=len(ids), unknown="")
        return found

    def unmatched(self, ids: IdMap) -> list[str]:
        """Make a note if no row belongs to a user or item with ratings: the wrong file, or the wrong column."""
        if (ids.index_of(self.ids) != UNKNOWN).any():
            return []
        example = f", such as {self.ids[0]!r}" if self.ids else ""
        if self.origin.noun == "item":
            return [f"none of the {len(self.ids):,} items that have a title is rated{example}"]
        return [f"none of the {len(self.ids):,} users in {self.origin.place} has a rating{example}"]


def _by_index(column: NDArray, index: NDArray[np.int32], *, count: int, unknown: str | float) -> NDArray:  # type: ignore[type-arg]
    """Reorder a column from file rows to indices: (count,)."""
    found = np.full(count, unknown, dtype=column.dtype)
    found[index[index != UNKNOWN]] = column[index != UNKNOWN]
    return found


def groups_of(numbers: NDArray[np.float64]) -> NDArray[np.object_]:
    """Cut numbers into GROUPS quantile groups, each named by its lowest and highest value, as in `30–36`.

    Equal values share a group, so repeated values make groups fewer or less equal.

    Args:
        numbers: (N,), NaN if unknown.

    Returns:
        (N,) text, empty if unknown.
    """
    named = np.full(len(numbers), "", dtype=object)
    is_known = ~np.isnan(numbers)
    values, place, count = np.unique(numbers[is_known], return_inverse=True, return_counts=True)
    below = np.cumsum(count) - count
    group = GROUPS * (2 * below + count) // (2 * count.sum())  # by the middle of each value's ranks
    bounds = {number: values[group == number][[0, -1]] for number in set(group.tolist())}
    name = {number: "–".join(dict.fromkeys(_shortest(bound) for bound in both)) for number, both in bounds.items()}
    named[is_known] = np.array([name[number] for number in group.tolist()], dtype=object)[place]
    return named


def _shortest(number: float) -> str:
    """The shortest text that parses as this number."""
    text = f"{number:g}"
    return text if float(text) == number else repr(float(number))


def read_features(source: FeatureFile) -> FeatureTable:
    """Read a file of users or items.

    Raises:
        UserError: the file, a column or a cell is invalid, or an id occurs twice; the message names the place.
    """
    table = _named_columns(source)
    noun = source.origin.noun
    ids = text_column(table, source.id, key=f"{source.key}.{noun}", file=source.file)
    titles = None
    if source.title is not None:
        titles = text_column(table, source.title, key=f"{source.key}.title", file=source.file)
    repeated = [one for one, count in Counter(ids).items() if count > 1]
    if repeated:
        raise UserError(f"{source.file} has more than one row for {noun} {repeated[0]}")
    return FeatureTable(ids, titles, _features(table, source), source.origin)


def _named_columns(source: FeatureFile) -> pa.Table:
    """The cells of the file as text, each column under its name."""
    table = read_text_table(source.file, source.form, header=source.names is None)
    if source.names is None:
        return table
    if table.num_columns != len(source.names):
        raise UserError(f"{source.file} has {table.num_columns} columns, not {len(source.names)}")
    return table.rename_columns(list(source.names))


def _features(table: pa.Table, source: FeatureFile) -> dict[str, Column]:
    """All columns besides ids and titles, in file order, except columns without a name."""
    for name in source.numeric:
        if not source.may_lack_numeric:
            column_position(table.column_names, name, key=f"{source.key}.numeric", file=source.file, header=True)
        if name in source.text:
            raise UserError(f"{source.key}.numeric: the column {name} holds {source.origin.noun} ids or titles")
    columns: dict[str, Column] = {}
    for name in table.column_names:
        if name in source.text or not name:
            continue
        cells = [text.strip() for text in table[name].to_pylist()]
        if name in source.numeric:
            columns[name] = _numbers(cells, name=name, source=source)
        else:
            columns[name] = np.array(["" if text == NO_GENRES else text for text in cells], dtype=object)
    if not columns and source.title is None:
        raise UserError(f"{source.file} has no column besides {source.id}: there is nothing to know of its users")
    return columns


def _numbers(cells: list[str], *, name: str, source: FeatureFile) -> NDArray[np.float64]:
    numbers = np.empty(len(cells), dtype=np.float64)
    for row, text in enumerate(cells):
        number = _number(text) if text else np.nan
        if number is None:
            rows = row + (2 if source.names is None else 1)  # rows of the file up to this one, header included
            line = first_rows(source.file, source.form, rows)[-1][0]
            raise UserError(
                f"{source.file}, line {line}: {name} must be a finite number ({source.key}.numeric), got {text!r}"
            )
        numbers[row] = number
    return numbers


def _number(text: str) -> float | None:
    """Parse a finite number; None if the text is not one."""
    if not text.isascii() or "_" in text:  # only Python accepts 1_000 and digits of other scripts
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
