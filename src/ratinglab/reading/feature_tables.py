"""Titles and features from files with one row per user or item."""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.numbers import finite_number
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_tables import TextTable, read_text_table
from ratinglab.ratings.ids import UNKNOWN, WHOLE_NUMBER, IdMap
from ratinglab.ratings.side_information import KEYS, NO_GENRES, Column, Origin, is_numeric

MIN_COVERAGE = 0.5
"""Share of the rated users or items with a row in their table, below which a note reports it."""
GROUPS = 10
"""Number of quantile groups of a numeric column."""


@dataclass(frozen=True)
class FeatureLayout:
    """Format and columns of a file of users or items.

    Attributes:
        id: name of the id column; likewise title, which is None without one.
        numeric: names of the numeric columns; all others hold categories.
        may_lack_numeric: whether numeric columns may be missing.
        names: names of all columns of a file without a header; None: their positions from 1.
        flags: columns of genres, which hold 1 if an item has the genre. They become the only feature, `genres`.
    """

    dialect: TextDialect
    id: str
    title: str | None = None
    numeric: tuple[str, ...] = ()
    may_lack_numeric: bool = False
    names: tuple[str, ...] | None = None
    flags: tuple[str, ...] = ()


class FeatureFile(NamedTuple):
    """A file of users or items with its layout, both None if there is no file; `origin` names it in messages."""

    origin: Origin
    file: InputFile | None = None
    layout: FeatureLayout | None = None


@dataclass(frozen=True)
class FeatureTable:
    """Rows of a file of users or items; none without a file.

    Attributes:
        ids: distinct ids, in file order.
        titles: titles in the same order; None if the file has none.
        columns: features by name, in the same order.
        origin: where the file comes from, for messages.
        notes: one line each, on its dialect.
    """

    origin: Origin
    ids: list[str] = field(default_factory=list)
    titles: list[str] | None = None
    columns: dict[str, Column] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def by_index(self, ids: IdMap) -> tuple[NDArray[np.object_] | None, dict[str, Column], tuple[str, ...]]:
        """Reorder titles, if any, and features to indices: (len(ids),) each, unknown for ids without a row.

        Each numeric column NAME gets its quantile groups as categories, NAME_group, unless the file has that column.
        Also returns the notes, with one if few of the ids have a row, since the file or column may be wrong.
        """
        if self.titles is None and not self.columns:
            return None, {}, self.notes
        index, num_ids = ids.index_of(self.ids), len(ids)
        titles = None
        if self.titles is not None:
            titles = _by_index(np.array(self.titles, dtype=object), index, count=num_ids)
        columns: dict[str, Column] = {}
        for name, column in self.columns.items():
            columns[name] = values = _by_index(column, index, count=num_ids)
            if is_numeric(column) and f"{name}_group" not in self.columns:
                columns[f"{name}_group"] = groups_of(values)
        has_row = np.zeros(num_ids, dtype=np.bool_)
        has_row[index[index != UNKNOWN]] = True
        if has_row.mean() >= MIN_COVERAGE:
            return titles, columns, self.notes
        return titles, columns, (*self.notes, self._note_on_coverage(has_row, index, ids))

    def _note_on_coverage(self, has_row: NDArray[np.bool_], index: NDArray[np.int32], ids: IdMap) -> str:
        noun, where = self.origin.noun, self.origin.place
        without = str(ids.ids[int(np.argmin(has_row))])
        number = f"only {has_row.sum():,}" if has_row.any() else "none"
        other = next((row_id for row_id, number in zip(self.ids, index, strict=True) if number == UNKNOWN), None)
        example = f", including {other!r}, which has no ratings" if other is not None else ""
        return (
            f"{where} has rows for {number} of the {len(ids):,} {noun}s with ratings (not for {without!r}); it has "
            f"{len(self.ids):,} rows{example}"
        )


def _by_index(column: NDArray, index: NDArray[np.int32], *, count: int) -> NDArray:  # type: ignore[type-arg]
    """Reorder a column from file rows to indices: (count,), unknown for the others."""
    reordered = np.full(count, np.nan if is_numeric(column) else "", dtype=column.dtype)
    reordered[index[index != UNKNOWN]] = column[index != UNKNOWN]
    return reordered


def groups_of(numbers: NDArray[np.float64]) -> NDArray[np.object_]:
    """Cut numbers into GROUPS quantile groups, each named by its lowest and highest value, as in `30–36`.

    Equal values share a group, so repeated values can give fewer groups, of less equal size.

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
    """Return the shortest text that parses as this number."""
    text = f"{number:g}"
    return text if float(text) == number else repr(float(number))


def read_features(source: FeatureFile) -> FeatureTable:
    """Read a file of users or items. Raises UserError if a column or a cell is invalid, or an id occurs twice."""
    origin, file, layout = source
    if file is None or layout is None:
        return FeatureTable(origin)
    table = read_text_table(file, layout.dialect)
    if layout.names is not None:
        if len(table.names) != len(layout.names):
            raise UserError(f"{file} has {len(table.names)} columns, not {len(layout.names)}")
        table = replace(table, content=table.content.rename_columns(list(layout.names)))
    key = KEYS[origin.noun]
    ids = table.ids(layout.id, key=f"{key}.{origin.noun}", noun=origin.noun).to_pylist()
    titles = None if layout.title is None else table.column(layout.title, key=f"{key}.title")
    whole = [re.sub(WHOLE_NUMBER, r"\1", name) for name in ids]  # 1.0 finds user 1
    repeated = next((name for name, count in Counter(whole).items() if count > 1), None)
    if repeated is not None:
        place = table.place(whole.index(repeated, whole.index(repeated) + 1), layout.id)
        raise UserError(f"{place}: {origin.noun} {repeated} has an earlier row")
    return FeatureTable(origin, ids, titles, _features(table, layout, origin), table.source.notes)


def _features(table: TextTable, layout: FeatureLayout, origin: Origin) -> dict[str, Column]:
    """Return all named columns besides ids and titles, in file order."""
    key = f"{KEYS[origin.noun]}.numeric"
    for name in layout.numeric:
        if not layout.may_lack_numeric:
            table.position(name, key=key)
        if name in (layout.id, layout.title):
            raise UserError(f"{key}: the column {name} holds {origin.noun} ids or titles")
    names = [name for name in table.names if name and name not in (layout.id, layout.title)]
    cells = {name: table.column(name, key=key) for name in names}
    if layout.flags:
        rows = zip(*(cells[name] for name in layout.flags), strict=True)
        genres = ["|".join(name for name, flag in zip(layout.flags, row, strict=True) if flag == "1") for row in rows]
        cells = {"genres": genres}
    if not cells and layout.title is None:
        raise UserError(f"{table.source.file} has no column besides {layout.id}: it has no features")
    return {
        name: _numbers(texts, name=name, table=table, key=key)
        if name in layout.numeric
        else np.array(["" if text == NO_GENRES else text for text in texts], dtype=object)
        for name, texts in cells.items()
    }


def _numbers(cells: list[str], *, name: str, table: TextTable, key: str) -> NDArray[np.float64]:
    """Parse a column of finite numbers; NaN for an empty cell."""
    numbers = np.array([finite_number(text, decimal=table.decimal) for text in cells], dtype=np.float64)
    for row in np.flatnonzero(np.isnan(numbers)).tolist():
        if cells[row]:
            place = table.place(row, name)
            raise UserError(f"{place}: the value must be a finite number ({key}), got {cells[row]!r}")
    return numbers
