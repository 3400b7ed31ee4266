"""Side information: the days of the ratings, and features of users and items."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.formats.literals import WHOLE_NUMBER, is_number, number_or_nan
from ratinglab.sides import SideName

if TYPE_CHECKING:
    from ratinglab.formats.text_dialects import TextDialect

NO_GENRES = "(no genres listed)"
"""MovieLens's marker for items without a genre."""
GROUP_SUFFIX = "_group"
"""Suffix of the column with the quantile groups of a column of numbers, as in age_group for age."""

Column: TypeAlias = NDArray[np.object_] | NDArray[np.float64]
"""One feature of all users or items: categories or numbers.

Categories: (N,) text, several joined by `|`, empty if unknown. Numbers: (N,) float64, NaN if unknown.
"""


class Information(Enum):
    """Kind of information besides the ratings. Implicit feedback is not listed, since it follows from the ratings."""

    times = "times"
    user_features = "user features"
    item_features = "item features"


class Needs(NamedTuple):
    """Needs of an equation: interactions (who rated what in training), days, and columns of users and items."""

    interactions: bool = False
    days: bool = False
    user_features: tuple[str, ...] = ()
    item_features: tuple[str, ...] = ()

    def information(self) -> list[Information]:
        """List the kinds of information that the equation uses besides the ratings."""
        needs = (self.days, self.user_features, self.item_features)
        return [kind for kind, need in zip(Information, needs, strict=True) if need]


class AvailableData(NamedTuple):
    """Side information that is worth using.

    Attributes:
        has_sessions: whether there are timestamps, and users give at least two ratings a day on average.
        user_features, item_features: names of the informative columns.
        has_times: whether there are timestamps.
    """

    has_sessions: bool
    user_features: tuple[str, ...]
    item_features: tuple[str, ...]
    has_times: bool

    @property
    def features(self) -> dict[SideName, tuple[str, ...]]:
        """Names of the informative columns, by side."""
        return {"user": self.user_features, "item": self.item_features}


def informative_columns(columns: dict[str, Column], *, is_trained: NDArray[np.bool_]) -> tuple[str, ...]:
    """List the columns that say something about the users (or items) with training ratings: is_trained (N,) bool.

    Leaves out columns that are constant or unknown, columns of categories with fewer than two rows per category, such
    as web addresses, and columns of numbers that also have a column of groups, NAME_group.
    """

    def is_informative(column: Column) -> bool:
        if is_numeric(column):
            known = column[~np.isnan(column)]
            return len(known) > 0 and bool(known.min() < known.max())
        row, _, names = encode_categories(column)
        return len(names) > 1 and 2 * len(names) <= len(np.unique(row))

    candidates = [name for name in columns if f"{name}{GROUP_SUFFIX}" not in columns]
    return tuple(name for name in candidates if is_informative(columns[name][is_trained]))


@dataclass(frozen=True)
class SideInformation:
    """Side information that an equation needs.

    Attributes:
        day: (N,) int32, days since 1970 in UTC of all rows of the table, or None if not needed.
        user_features, item_features: columns by name, each (num_users,) or (num_items,) by index.
    """

    day: NDArray[np.int32] | None
    user_features: dict[str, Column]
    item_features: dict[str, Column]

    def reordered(self, user_order: NDArray[np.intp], item_order: NDArray[np.intp]) -> SideInformation:
        """Reindex users and items, given the old index of each new index."""
        return SideInformation(
            day=self.day,
            user_features={name: column[user_order] for name, column in self.user_features.items()},
            item_features={name: column[item_order] for name, column in self.item_features.items()},
        )

    def digest(self) -> str | None:
        """Hash the days and each column's side, name, kind and values. Returns None if there is no side information."""
        if self.day is None and not self.user_features and not self.item_features:
            return None
        hasher = blake2b(digest_size=16)
        if self.day is not None:
            _hash_labelled(hasher, ["day", "days"], np.ascontiguousarray(self.day, dtype="<i4").tobytes())
        for side, columns in (("user", self.user_features), ("item", self.item_features)):
            for name, column in sorted(columns.items()):
                if is_numeric(column):
                    known = np.where(np.isnan(column), np.nan, column)  # gives all unknown values one bit pattern
                    _hash_labelled(hasher, [side, "numbers", name], known.astype("<f8").tobytes())
                else:
                    _hash_labelled(hasher, [side, "categories", name], json.dumps(column.tolist()).encode())
        return hasher.hexdigest()


def feature_digest(column: Column) -> str:
    """Hash the values of a column, in order. The order of the categories in a cell does not matter."""
    if is_numeric(column):
        content = np.where(np.isnan(column), np.nan, column).astype("<f8").tobytes()
    else:
        content = json.dumps([categories_in(text) for text in column]).encode()
    return blake2b(content, digest_size=16).hexdigest()


def _hash_labelled(hasher: blake2b, label: list[str], content: bytes) -> None:
    """Hash some content with its label and length, so different lists of contents never hash the same bytes."""
    hasher.update(json.dumps([*label, len(content)]).encode())
    hasher.update(content)


def is_numeric(column: Column) -> TypeGuard[NDArray[np.float64]]:
    """Return whether a column holds numbers, not categories."""
    return column.dtype.kind == "f"


def is_unknown(column: Column) -> NDArray[np.bool_]:
    """Return whether each value of a column is unknown: (N,) bool."""
    if is_numeric(column):
        return np.isnan(column)
    return np.array([not categories_in(text) for text in column], dtype=np.bool_)


def categories_in(text: str) -> list[str]:
    """Return the distinct categories of a cell such as `Comedy|Drama`, sorted."""
    return [] if text in ("", NO_GENRES) else sorted({name.strip() for name in text.split("|")} - {""})


def encode_categories(
    column: Column, names: list[str] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32], list[str]]:
    """Encode a column of categories as the nonzero entries of a matrix with one column per category.

    Args:
        column: (N,) text, only of the users or items with training rows.
        names: sorted categories to encode, by default all categories of the column.

    Returns:
        row (E,) int32, sorted; column (E,) int32, an index into names; and names, the sorted categories.
    """
    assert not is_numeric(column), "numbers have no categories"
    categories_by_row = [categories_in(text) for text in column]
    names = sorted(set().union(*categories_by_row)) if names is None else names
    column_of = {name: index for index, name in enumerate(names)}
    columns_by_row = [[column_of[name] for name in row if name in column_of] for row in categories_by_row]
    row = np.repeat(np.arange(len(column), dtype=np.int32), [len(columns) for columns in columns_by_row])
    return row, np.array([index for columns in columns_by_row for index in columns], dtype=np.int32), names


def check_feature(column: Column, *, name: str) -> None:
    """Raise UserError if no value of a column is known, or its numbers are equal or too large to be standardized.

    `column` (N,) has only the users or items with training rows. Messages begin with `name`, such as
    `model.user_features: age`.
    """
    known = column[~is_unknown(column)]
    if len(known) == 0:
        raise UserError(f"{name} is unknown in every row with training ratings")
    if not is_numeric(known):
        return
    if known.min() == known.max():
        raise UserError(f"{name} must vary, got {known[0]:g} in every row with training ratings")
    if not np.isfinite(standardize(known, known)).all():
        raise UserError(f"{name} cannot be standardized: its values lie from {known.min():g} to {known.max():g}")


def standardize(values: NDArray[np.float64], trained: NDArray[np.float64]) -> NDArray[np.float32]:
    """Standardize values (B,) by the mean and standard deviation of the trained values (N,): (B,), 0 if unknown."""
    known = trained[~np.isnan(trained)]
    with np.errstate(all="ignore"):
        scaled = ((values - known.mean()) / known.std()).astype(np.float32)
    return np.where(np.isnan(values), np.float32(0), scaled)


def parse_new_values(
    cells: Sequence[str], trained: Column, *, place: Callable[[int], str], dialect: TextDialect | None = None
) -> Column:
    """Parse cells of new users or items as values of a column that a model was trained on: (B,).

    In a column of groups such as `30–36`, a number becomes its group, or the nearest group.

    Args:
        cells: (B,) text, empty if unknown.
        trained: the column of the users or items with training rows.
        place: returns the place of a cell in messages.
        dialect: dialect of the text file that holds the cells, for its decimal point. None means a point.

    Raises:
        UserError: a category does not occur in training, or a number is not finite or too far from those in training.
    """
    decimal = "." if dialect is None else dialect.decimal
    if is_numeric(trained):
        known = trained[~np.isnan(trained)]
        numbers = np.array([number_or_nan(cell, decimal=decimal) if cell else known.mean() for cell in cells])
        with np.errstate(over="ignore"):
            is_wrong = ~np.isfinite(numbers) | ~np.isfinite(np.square(standardize(numbers, trained)))
        if is_wrong.any():
            row = int(is_wrong.argmax())
            hint = "" if dialect is None else dialect.decimal_hint(cells[row])
            raise UserError(
                f"{place(row)}: the value must be a finite number, in training from {known.min():g} to "
                f"{known.max():g}, got {cells[row]!r}{hint}"
            )
        return np.where([cell == "" for cell in cells], np.nan, numbers)
    names = {name for text in trained for name in categories_in(text)}
    groups = _group_bounds(names)
    values = list[str]()
    for row, cell in enumerate(cells):
        if groups and cell not in names and is_number(cell, decimal=decimal):
            categories = [_nearest_group(number_or_nan(cell, decimal=decimal), groups)]
        else:
            categories = categories_in(cell if cell in names else re.sub(WHOLE_NUMBER, r"\1", cell))  # 30.0 is 30
        unknown = [name for name in categories if name not in names]
        if unknown:
            raise UserError(f"{place(row)}: {unknown[0]!r} does not occur in training{did_you_mean(unknown[0], names)}")
        values.append("|".join(categories))
    return np.array(values, dtype=object)


def _group_bounds(names: Collection[str]) -> dict[str, tuple[float, float]]:
    """Parse the bounds of groups of numbers, such as `30–36` or `40`. Returns {} if the names are not groups."""
    bounds = {name: name.split("–") for name in names}
    is_range = any(len(ends) == 2 for ends in bounds.values())
    if not is_range or not all(is_number(bound) for ends in bounds.values() for bound in ends):
        return {}
    return {name: (float(ends[0]), float(ends[-1])) for name, ends in bounds.items()}


def _nearest_group(number: float, groups: dict[str, tuple[float, float]]) -> str:
    """Find the group that contains a number or, if no group does, the nearest group."""
    return min(groups, key=lambda name: max(groups[name][0] - number, number - groups[name][1], 0))


class Origin(NamedTuple):
    """Where a table of users or items comes from, for messages.

    Attributes:
        side: side that the table describes.
        place: key of the option with its path or, in a named data set, name of its file, or "" without a file.
        advice: advice if there is no table, or "" if there is one.
    """

    side: SideName
    place: str
    advice: str


def choose_columns(columns: dict[str, Column] | None, names: tuple[str, ...], origin: Origin) -> dict[str, Column]:
    """Select columns of a table of users or items by name, in the given order. `columns` is None without a table.

    Raises:
        UserError: a column is missing, named twice, or empty.
    """
    if not names:
        return {}
    key = f"model.{origin.side}_features"
    if columns is None:
        raise UserError(f"{key}=[{','.join(names)}] needs a table of {origin.side}s: {origin.advice}")
    for name in names:
        if name not in columns:
            present = ", ".join(columns) if columns else "only ids and titles"
            hint = did_you_mean(name, columns)
            raise UserError(f"{key}: {origin.place} has no column {name}; it has {present}{hint}")
        if names.count(name) > 1:
            raise UserError(f"{key} must name each column once, got {name} {names.count(name)} times")
        if is_unknown(columns[name]).all():
            raise UserError(f"{key}: the column {name} in {origin.place} is empty for every {origin.side}")
    return {name: columns[name] for name in names}
