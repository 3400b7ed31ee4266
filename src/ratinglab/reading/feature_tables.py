"""Titles and features from files with one row per user or item."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.literals import WHOLE_NUMBER, is_number, number_or_nan
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_tables import TextTable, check_while_reading
from ratinglab.ratings.ids import UNKNOWN, IdMap
from ratinglab.ratings.side_information import GROUP_SUFFIX, NO_GENRES, Column, Origin, is_numeric
from ratinglab.reading.repeated_rows import find_differing_row, find_first_rows, read_distinct_rows

MIN_COVERAGE = 0.5
"""Share of the users or items with ratings that should have a row in their table. A note reports a lower share."""
NUM_GROUPS = 10
"""Number of quantile groups of a numeric column."""
MIN_DISTINCT_SHARE = 0.9
"""Minimum share of distinct cells for a column to count as titles if its name does not say so."""


@dataclass(frozen=True)
class FeatureLayout:
    """Format and columns of a file of users or items.

    Attributes:
        id: name of the id column.
        title: name of the title column, if there is one.
        numeric: names of the numeric columns. All other columns hold categories.
        may_lack_numeric: whether numeric columns may be missing.
        names: names of all columns of a file without a header, by default 1, 2, …
        flags: columns of genres, with 1 if an item has the genre. They become a single feature, `genres`.
        rating_columns: columns of the ratings, which are not features, if the file is also the ratings file. Empty for
            any other file. If it is the ratings file, columns whose values differ between the rows of one id, such as
            reviews, are not features either.
    """

    dialect: TextDialect
    id: str
    title: str | None = None
    numeric: tuple[str, ...] = ()
    may_lack_numeric: bool = False
    names: tuple[str, ...] | None = None
    flags: tuple[str, ...] = ()
    rating_columns: tuple[str, ...] = ()

    @property
    def required(self) -> set[str]:
        """Names of the columns of ids, titles and numbers."""
        return {self.id, *self.numeric} | ({self.title} if self.title is not None else set())


class FeatureFile(NamedTuple):
    """A file of users or items, and its layout. Both are None if there is no file. `origin` names it in messages."""

    origin: Origin
    file: InputFile | None = None
    layout: FeatureLayout | None = None


@dataclass(frozen=True)
class FeatureTable:
    """Rows of a file of users or items. Empty if there is no file.

    Attributes:
        ids: distinct ids, in file order.
        titles: titles in the same order, if the file has any.
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
        """Return titles, features by name, and notes.

        Titles (None if there are none) and features are in the order of the ids, (len(ids),) each, and unknown for ids
        without a row. Each numeric column NAME also gets its quantile groups as categories, NAME_group, unless the file
        has that column. A note reports if few of the ids have a row, since the file or the column may be wrong.
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
            if is_numeric(column) and f"{name}{GROUP_SUFFIX}" not in self.columns:
                columns[f"{name}{GROUP_SUFFIX}"] = quantile_groups(values)
        has_row = np.zeros(num_ids, dtype=np.bool_)
        has_row[index[index != UNKNOWN]] = True
        if has_row.mean() >= MIN_COVERAGE:
            return titles, columns, self.notes
        return titles, columns, (*self.notes, self._note_on_coverage(has_row, index, ids))

    def _note_on_coverage(self, has_row: NDArray[np.bool_], index: NDArray[np.int32], ids: IdMap) -> str:
        """Make the note that few ids have a row, with an example of an id that has none."""
        side, place = self.origin.side, self.origin.place
        without_row = str(ids.ids[int(np.argmin(has_row))])
        number = f"only {has_row.sum():,}" if has_row.any() else "none"
        unrated = next((row_id for row_id, position in zip(self.ids, index, strict=True) if position == UNKNOWN), None)
        example = f", including {unrated!r}, which has no ratings" if unrated is not None else ""
        return (
            f"{place} has rows for {number} of the {len(ids):,} {side}s with ratings (not for {without_row!r}); it has "
            f"{len(self.ids):,} rows{example}"
        )


def _by_index(column: NDArray, index: NDArray[np.int32], *, count: int) -> NDArray:  # type: ignore[type-arg]
    """Reorder a column, given the index of each row: (count,), unknown for indices without a row."""
    reordered = np.full(count, np.nan if is_numeric(column) else "", dtype=column.dtype)
    reordered[index[index != UNKNOWN]] = column[index != UNKNOWN]
    return reordered


def quantile_groups(numbers: NDArray[np.float64]) -> NDArray[np.object_]:
    """Cut numbers into NUM_GROUPS quantile groups, each named by its lowest and highest value, as in `30–36`.

    Equal values share a group, so repeated values can lead to fewer and more uneven groups.

    Args:
        numbers: (N,), NaN if unknown.

    Returns:
        (N,) text, empty if unknown.
    """
    names = np.full(len(numbers), "", dtype=object)
    is_known = ~np.isnan(numbers)
    values, position, count = np.unique(numbers[is_known], return_inverse=True, return_counts=True)
    num_lower = np.cumsum(count) - count
    group_of_value = NUM_GROUPS * (2 * num_lower + count) // (2 * count.sum())  # by the middle of each value's ranks
    name_of_value = np.empty(len(values), dtype=object)
    for group in set(group_of_value.tolist()):
        bounds = values[group_of_value == group][[0, -1]]
        name_of_value[group_of_value == group] = "–".join(dict.fromkeys(map(_format_shortest, bounds)))
    names[is_known] = name_of_value[position]
    return names


def _format_shortest(number: float) -> str:
    """Return the shortest text that parses as this number."""
    text = f"{number:g}"
    return text if float(text) == number else repr(float(number))


def read_feature_file(feature_file: FeatureFile) -> FeatureTable:
    """Read a file of users or items. Rows that repeat an id with equal values count once.

    Raises:
        UserError: a column or a cell is invalid, or two rows with the same id differ.
    """
    origin, file, layout = feature_file
    if file is None or layout is None:
        return FeatureTable(origin)
    ignored = {"", *layout.rating_columns} - layout.required
    opened, (table, ignored) = check_while_reading(
        file,
        layout.dialect,
        lambda opened: read_distinct_rows(
            opened, id_name=layout.id, ignored=ignored, fixed=layout.required if layout.rating_columns else None
        ),
    )
    if layout.names is not None:
        if len(table.names) != len(layout.names):
            raise UserError(f"{file} has {len(table.names)} columns, not {len(layout.names)}")
        table = replace(table, content=table.content.rename_columns(list(layout.names)))
    key = f"data.{origin.side}s"
    ids = table.ids(layout.id, key=f"{key}.{origin.side}", side=origin.side)
    if layout.title is not None:
        table.position(layout.title, key=f"{key}.title")
    rows, varying = _find_distinct_ids(table, ids, layout, origin, ignored=ignored)
    table, ids = table.take(rows), ids.take(rows).to_pylist()
    titles = None if layout.title is None else table.column(layout.title, key=f"{key}.title")
    ignored |= varying
    notes = opened.notes
    if reviews := [name for name in table.names if name in ignored and name not in ("", *layout.rating_columns)]:
        listed = ", ".join(reviews)
        notes += (f"{origin.place}: columns that differ between rows of one {origin.side} are not features: {listed}",)
    columns = _read_columns(table, layout, origin, ignored=ignored)
    if origin.side == "item" and layout.title is None and file.frame is not None:
        notes += _note_on_titles(columns, file)
    return FeatureTable(origin, ids, titles, columns, notes)


def _note_on_titles(columns: Mapping[str, Column], file: InputFile) -> tuple[str, ...]:
    """Make a note if a data frame has no column `title`, but another column that may hold the titles.

    The titles of a frame are optional. A file without the column is refused unless the user has asked for no titles.
    """
    candidates = [name for name, column in columns.items() if not is_numeric(column) and may_be_titles(column.tolist())]
    if "title" in columns or not candidates:
        return ()
    advice = f'"data.items.title=NAME" names another column, such as {candidates[0]}'
    return (f"the items have no titles: {file} has no column 'title'; {advice}",)


def may_be_titles(cells: Sequence[str]) -> bool:
    """Return whether nearly all cells are distinct, and not all are numbers."""
    return len(set(cells)) >= MIN_DISTINCT_SHARE * len(cells) and not all(map(is_number, cells))


def _find_distinct_ids(
    table: TextTable, ids: pa.DictionaryArray, layout: FeatureLayout, origin: Origin, *, ignored: Collection[str]
) -> tuple[NDArray[np.int64], set[str]]:
    """Return the first row of each id, sorted, and the columns that differ between the rows of one id.

    Raises:
        UserError: a column differs that must not, because it is required or the file is not the ratings file.
    """
    plain_ids = pc.replace_substring_regex(ids.dictionary, WHOLE_NUMBER, r"\1").take(ids.indices)  # 1.0 finds user 1
    first_row = find_first_rows(plain_ids)
    varying = set[str]()
    for name in table.names:
        if name in ignored or name == layout.id:
            continue
        row = find_differing_row(table.texts(name, key=f"data.{origin.side}s"), first_row)
        if row is None:
            continue
        if name in layout.required or not layout.rating_columns:
            place = table.place(row, name)
            raise UserError(f"{place}: {origin.side} {plain_ids[row]} has an earlier row with another value")
        varying.add(name)
    return np.unique(first_row), varying


def _read_columns(
    table: TextTable, layout: FeatureLayout, origin: Origin, *, ignored: Collection[str]
) -> dict[str, Column]:
    """Read all columns besides ids, titles and ignored columns, in file order."""
    key = f"data.{origin.side}s.numeric"
    for name in layout.numeric:
        if not layout.may_lack_numeric:
            table.position(name, key=key)
        if name in (layout.id, layout.title):
            raise UserError(f"{key}: the column {name} holds {origin.side} ids or titles")
    names = [name for name in table.names if name not in (layout.id, layout.title, *ignored)]
    cells = {name: table.column(name, key=key) for name in names}
    if layout.flags:
        rows = zip(*(cells[name] for name in layout.flags), strict=True)
        genres = ["|".join(name for name, flag in zip(layout.flags, row, strict=True) if flag == "1") for row in rows]
        cells = {"genres": genres}
    if not cells and layout.title is None:
        which = f"with one value per {origin.side}" if layout.rating_columns else f"besides {layout.id}"
        raise UserError(f"{table.opened_from.file} has no column {which}: it has no features")
    return {
        name: _parse_numbers(texts, name=name, table=table, key=key)
        if name in layout.numeric
        else np.array(["" if text == NO_GENRES else text for text in texts], dtype=object)
        for name, texts in cells.items()
    }


def _parse_numbers(cells: list[str], *, name: str, table: TextTable, key: str) -> NDArray[np.float64]:
    """Parse a column of finite numbers: (N,) float64, NaN for an empty cell."""
    numbers = np.array([number_or_nan(text, decimal=table.decimal) for text in cells], dtype=np.float64)
    for row in np.flatnonzero(np.isnan(numbers)).tolist():
        if cells[row]:
            place, cell = table.place(row, name), cells[row]
            hint = table.decimal_hint(cell)
            raise UserError(f"{place}: the value must be a finite number ({key}), got {cell!r}{hint}")
    return numbers
