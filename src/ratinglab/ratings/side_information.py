"""Side information: the day of each rating, and features of users and items."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import NamedTuple, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.formats.numbers import finite_number, is_number

NO_GENRES = "(no genres listed)"
"""MovieLens's marker for items without a genre."""

Column: TypeAlias = NDArray[np.object_] | NDArray[np.float64]
"""One feature of all users or items: categories or numbers.

Categories: (N,) text, several joined by `|`, empty if unknown. Numbers: (N,) float64, NaN if unknown.
"""


class Information(Enum):
    """Kind of information besides the ratings. Implicit feedback is not one, since it is derived from the ratings."""

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
        is_used = {
            Information.times: self.days,
            Information.user_features: self.user_features,
            Information.item_features: self.item_features,
        }
        return [kind for kind, used in is_used.items() if used]


class AvailableData(NamedTuple):
    """Side information that is worth using.

    Attributes:
        has_sessions: whether there are times, and users rate several items a day on average.
        user_features: names of the informative columns of users; likewise item_features.
        has_times: whether there are times.
    """

    has_sessions: bool
    user_features: tuple[str, ...]
    item_features: tuple[str, ...]
    has_times: bool


def informative(columns: dict[str, Column], *, is_trained: NDArray[np.bool_]) -> tuple[str, ...]:
    """List the informative columns of users (or items) with training ratings: is_trained (N,).

    Leaves out columns that are constant or unknown, columns of categories with fewer than two rows per category, such
    as web addresses, and columns of numbers that have a column of groups, NAME_group.
    """

    def is_informative(column: Column) -> bool:
        if is_numeric(column):
            known = column[~np.isnan(column)]
            return len(known) > 0 and bool(known.min() < known.max())
        row, _, names = categories(column)
        return len(names) > 1 and 2 * len(names) <= len(np.unique(row))

    candidates = {name: column[is_trained] for name, column in columns.items() if f"{name}_group" not in columns}
    return tuple(name for name, column in candidates.items() if is_informative(column))


@dataclass(frozen=True)
class SideInformation:
    """Side information that an equation needs.

    Attributes:
        day: (N,) int32, days since 1970 in UTC of all rows of the table; None if not needed.
        user_features: columns by name, each (num_users,) by user index; likewise item_features.
    """

    day: NDArray[np.int32] | None
    user_features: dict[str, Column]
    item_features: dict[str, Column]

    def reordered(self, user_order: NDArray[np.intp], item_order: NDArray[np.intp]) -> "SideInformation":
        """Reindex users and items, given the old index of each new one."""
        return SideInformation(
            day=self.day,
            user_features={name: column[user_order] for name, column in self.user_features.items()},
            item_features={name: column[item_order] for name, column in self.item_features.items()},
        )

    def digest(self) -> str | None:
        """Hash the days and each column's side, name, kind and values; None if there is no side information."""
        if self.day is None and not self.user_features and not self.item_features:
            return None
        hashed = blake2b(digest_size=16)
        if self.day is not None:
            _add(hashed, ["day", "days"], np.ascontiguousarray(self.day, dtype="<i4").tobytes())
        for side, columns in (("user", self.user_features), ("item", self.item_features)):
            for name, column in sorted(columns.items()):
                if is_numeric(column):
                    known = np.where(np.isnan(column), np.nan, column)  # one bit pattern for all unknown values
                    _add(hashed, [side, "numbers", name], known.astype("<f8").tobytes())
                else:
                    _add(hashed, [side, "categories", name], json.dumps(column.tolist()).encode())
        return hashed.hexdigest()


def feature_digest(column: Column) -> str:
    """Hash the values of a column in order; the order of the categories in a cell does not matter."""
    if is_numeric(column):
        content = np.where(np.isnan(column), np.nan, column).astype("<f8").tobytes()
    else:
        content = json.dumps([categories_in(text) for text in column]).encode()
    return blake2b(content, digest_size=16).hexdigest()


def _add(hashed: "blake2b", label: list[str], content: bytes) -> None:
    """Hash a part with its label and length, so that different lists of parts never hash the same bytes."""
    hashed.update(json.dumps([*label, len(content)]).encode())
    hashed.update(content)


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


def categories(
    column: Column, names: list[str] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32], list[str]]:
    """Turn a column of categories into sorted pairs of a row and one of its categories; an empty cell has none.

    Args:
        column: (N,) text, already cut to the users or items with training rows.
        names: sorted categories, others are left out; None: those of the column.

    Returns:
        row (E,) int32; column (E,) int32, an index into names; and names, the sorted categories.
    """
    assert not is_numeric(column), "numbers have no categories"
    of_rows = [categories_in(text) for text in column]
    names = sorted(set().union(*of_rows)) if names is None else names
    number = {name: index for index, name in enumerate(names)}
    of_rows = [[name for name in of_row if name in number] for of_row in of_rows]
    row = np.repeat(np.arange(len(of_rows), dtype=np.int32), [len(of_row) for of_row in of_rows])
    return row, np.array([number[name] for of_row in of_rows for name in of_row], dtype=np.int32), names


def check_feature(column: Column, *, name: str) -> None:
    """Raise UserError if no value of a column is known, or if its numbers cannot be standardized.

    Args:
        column: (N,), already cut to the users or items with training rows.
        name: name of the column in messages, such as `model.user_features: age`.
    """
    known = column[~is_unknown(column)]
    if len(known) == 0:
        raise UserError(f"{name} is unknown in every row with training ratings")
    if not is_numeric(known):
        return
    if known.min() == known.max():
        raise UserError(f"{name} must vary, got {known[0]:g} in every row with training ratings")
    if not np.isfinite(standardized(known, known)).all():
        raise UserError(f"{name} cannot be standardized: its values lie from {known.min():g} to {known.max():g}")


def standardized(values: NDArray[np.float64], trained: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scale values (B,) by the mean and standard deviation of the known trained values (N,): (B,); 0 if unknown."""
    known = trained[~np.isnan(trained)]
    with np.errstate(all="ignore"):
        scaled = ((values - known.mean()) / known.std()).astype(np.float32)
    return np.where(np.isnan(values), np.float32(0), scaled)


def new_values(cells: Sequence[str], trained: Column, *, place: Callable[[int], str], decimal: str = ".") -> Column:
    """Read cells of new users or items as values of a column that a model was trained on: (B,).

    In a column of groups such as `30–36`, a number becomes its group, or the nearest one.

    Args:
        cells: (B,) text, empty if unknown.
        trained: the column of the users or items with training rows.
        place: returns the place of a cell in messages.
        decimal: decimal point of numbers.

    Raises:
        UserError: a category does not occur in training, or a number is not finite or far outside the trained range.
    """
    if is_numeric(trained):
        known = trained[~np.isnan(trained)]
        numbers = np.array([finite_number(cell, decimal=decimal) if cell else known.mean() for cell in cells])
        with np.errstate(over="ignore"):
            wrong = ~np.isfinite(numbers) | ~np.isfinite(np.square(standardized(numbers, trained)))
        if wrong.any():
            row = int(wrong.argmax())
            raise UserError(
                f"{place(row)}: the value must be a finite number, in training from {known.min():g} to "
                f"{known.max():g}, got {cells[row]!r}"
            )
        return np.where([cell == "" for cell in cells], np.nan, numbers)
    names = set(categories(trained)[2])
    groups = _groups(names)
    read = list[str]()
    for row, cell in enumerate(cells):
        has_group = groups and cell not in names and is_number(cell, decimal=decimal)
        values = [_nearest_group(finite_number(cell, decimal=decimal), groups)] if has_group else categories_in(cell)
        unknown = [name for name in values if name not in names]
        if unknown:
            raise UserError(f"{place(row)}: {unknown[0]!r} does not occur in training{did_you_mean(unknown[0], names)}")
        read.append("|".join(values))
    return np.array(read, dtype=object)


def _groups(names: Collection[str]) -> dict[str, tuple[float, float]]:
    """Return the bounds of each group of numbers, such as `30–36` or `40`; {} if the names are not groups."""
    bounds = {name: name.split("–") for name in names}
    is_range = any(len(ends) == 2 for ends in bounds.values())
    if not is_range or not all(is_number(bound) for ends in bounds.values() for bound in ends):
        return {}
    return {name: (float(ends[0]), float(ends[-1])) for name, ends in bounds.items()}


def _nearest_group(number: float, groups: dict[str, tuple[float, float]]) -> str:
    return min(groups, key=lambda name: max(groups[name][0] - number, number - groups[name][1], 0))


KEYS = {"user": "data.users", "item": "data.items"}
"""Option groups of the tables of users and items."""


class Origin(NamedTuple):
    """Where a table of users or items comes from, for messages.

    Attributes:
        noun: "user" or "item".
        place: option that names the file, or name of the file in a named data set; "" if there is none.
        advice: advice for a missing table.
    """

    noun: str
    place: str
    advice: str


def chosen_columns(columns: dict[str, Column] | None, names: tuple[str, ...], origin: Origin) -> dict[str, Column]:
    """Select columns of a table of users or items by name, in the given order; the columns are None without a table.

    Raises:
        UserError: a column is missing, named twice, or empty.
    """
    if not names:
        return {}
    key = f"model.{origin.noun}_features"
    if columns is None:
        raise UserError(f"{key}=[{','.join(names)}] needs a table of {origin.noun}s: {origin.advice}")
    for name in names:
        if name not in columns:
            there = f"it has {', '.join(columns)}" if columns else "it has only ids and titles"
            raise UserError(f"{key}: {origin.place} has no column {name}; {there}{did_you_mean(name, columns)}")
        if names.count(name) > 1:
            raise UserError(f"{key} must name each column once, got {name} {names.count(name)} times")
        if is_unknown(columns[name]).all():
            raise UserError(f"{key}: the column {name} in {origin.place} is empty for every {origin.noun}")
    return {name: columns[name] for name in names}
