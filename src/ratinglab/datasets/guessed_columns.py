"""Guess which columns hold the users, items, ratings and timestamps."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ratinglab.datasets.guessed_dialect import FirstRows, are_nearly_numbers, are_numbers, look_like_numbers
from ratinglab.datasets.sources import CsvOptions
from ratinglab.formats.timestamps import are_times, find_date_patterns

COLUMN_NAMES = {
    "user": (
        "user id, user, users, uid, reviewer id, customer id, member id, rater id, account id, profile id, viewer id, "
        "reader id, listener id, player id, person id, visitor id, user name, user hash, review profile name, "
        "profile name, reviewer name, nickname, login, reviewer, customer, member, rater, profile, from id, source"
    ),
    "item": (
        "item id, item, items, iid, movie id, film id, anime id, book id, isbn, parent asin, asin, product id, "
        "business id, gmap id, place id, recipe id, artist id, track id, song id, video id, game id, app id, joke id, "
        "beer id, beer beer id, wine id, restaurant id, hotel id, show id, series id, work id, store id, news id, "
        "to id, target, imdb id, tconst, const, letterboxd uri, movie name en, movie name, movie title, book title, "
        "movie, film, anime, book, product, artist, track, song, video, game, recipe, place, beer, restaurant, hotel, "
        "show, title, name"
    ),
    "rating": (
        "my rating, your rating, rating, ratings, overall, stars, star, star rating, score, book rating, user rating, "
        "user score, review overall, review score, overall rating, rate, grade, mark, vote, points, value, preference, "
        "weight, watch ratio, play count, plays, count, listens"
    ),
    "timestamp": (
        "timestamp, unix review time, unix time, time, ts, datetime, date time, date, review time, review date, rating "
        "date, date rated, date added, created at, created, rated at, when, submitted, updated at, date updated"
    ),
}
"""Names of columns by role, the most likely first. Case and characters other than letters and digits are ignored."""
TITLE_NAMES = "title, titel, name, movie title, movie name, film title, film name, book title, product title, item name"
"""Names of the title column, by the same rules."""
UNIX_TIME_PATTERN = re.compile(r"([6-9]\d{8}|[12]\d{9})(\d{3}){0,3}(\.\d*)?")
"""Unix times from 1990 on, in any unit."""
FRACTION = re.compile(r"[.,]0*[1-9]")
"""A decimal point and digits that are not all 0."""
ITEM_CODE = re.compile(r"B[0-9A-Z]{9}|\d{9}[\dX]")
"""ASINs and ISBNs, which are ids of items."""


@dataclass
class Roles:
    """The columns of a ratings file by role: user, item, rating and timestamp.

    Attributes:
        first: first rows of the file.
        positions: position, counted from 0, of each column with a role. A column has at most one role.
    """

    first: FirstRows[CsvOptions]
    positions: dict[str, int]

    def free(self) -> list[int]:
        """Return the positions of the named columns without a role, in order."""
        taken = self.positions.values()
        return [position for position, name in enumerate(self.first.names) if name and position not in taken]

    def cells(self, role: str) -> list[str]:
        """Return the cells of the column with a role. The list is empty if no column has the role."""
        return self.first.columns[self.positions[role]] if role in self.positions else []

    def names(self) -> dict[str, str]:
        """Return the names of the columns by role, in the order user, item, rating, timestamp."""
        return {role: self.first.names[self.positions[role]] for role in COLUMN_NAMES if role in self.positions}


def guess_roles(first: FirstRows[CsvOptions]) -> tuple[Roles, list[str]]:
    """Find the columns that the options name, and guess the other roles by the names, cells and order of the columns.

    Returns the roles, and a list of the roles that were guessed by cells or order.
    """
    named = first.options.columns.by_role().items()
    roles = Roles(first, {role: first.names.index(name) for role, name in named if name in first.names})
    _assign_by_names(roles)
    certain = roles.names()
    _assign_timestamp_by_cells(roles)
    _assign_rating_by_cells(roles)
    _assign_ids_by_order(roles)
    return roles, [role for role in roles.names() if role not in certain]


def _assign_by_names(roles: Roles) -> None:
    """Assign columns with a known name in the header and fitting cells."""
    first = roles.first
    if not first.options.header:
        return
    for role in ("rating", "timestamp", "user", "item"):
        if role in roles.positions:
            continue
        free = roles.free()
        # such as userId:token in the data sets of RecBole
        named = find_by_name([first.names[position].partition(":")[0] for position in free], COLUMN_NAMES[role])
        positions = [free[index] for index in named]
        if role == "rating":
            cells, decimal = first.columns, first.options.decimal
            numeric = [
                position for position in positions if not cells[position] or look_like_numbers(cells[position], decimal)
            ]
            positions = numeric or [position for position in positions if are_nearly_numbers(cells[position], decimal)]
        if role == "timestamp":  # prefers a format that can be guessed
            pattern = first.options.timestamp_format
            positions.sort(key=lambda position: len(find_timestamp_formats(first.columns[position], pattern)) != 1)
        if positions:
            roles.positions[role] = positions[0]


def find_by_name(names: Sequence[str], known_names: str) -> list[int]:
    """Find the positions of names in a list such as COLUMN_NAMES["user"], the most likely first."""
    plain_names = [_normalize(name) for name in names]
    known = map(_normalize, known_names.split(","))
    return [position for name in known for position, plain in enumerate(plain_names) if plain == name]


def _normalize(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _assign_timestamp_by_cells(roles: Roles) -> None:
    """Assign the only column of dates or, without a header, the last column of dates or Unix times."""
    if "timestamp" in roles.positions:
        return
    columns, has_header = roles.first.columns, roles.first.options.header
    candidates = [position for position in roles.free() if _look_like_times(columns[position])]
    if has_header:
        candidates = [position for position in candidates if not are_numbers(columns[position])]
    if len(candidates) == 1 or (candidates and not has_header):
        roles.positions["timestamp"] = candidates[-1]


def _look_like_times(cells: list[str]) -> bool:
    """Return whether cells are Unix times after 1989, or dates."""
    if are_numbers(cells):
        return all(re.fullmatch(UNIX_TIME_PATTERN, cell) for cell in cells) and len(set(cells)) > 1
    return len(cells) > 0 and len(find_timestamp_formats(cells, None)) == 1


def _assign_rating_by_cells(roles: Roles) -> None:
    """Assign the column of numbers with the fewest distinct values, or the last of several such columns.

    Prefers columns with fractions, since ids have none. Without a column of numbers, takes one with a few errors.
    """
    if "rating" in roles.positions:
        return
    columns, decimal = roles.first.columns, roles.first.options.decimal
    num_distinct = {position: len(set(columns[position])) for position in roles.free()}
    numeric = [position for position in num_distinct if look_like_numbers(columns[position], decimal)]
    numeric = numeric or [position for position in num_distinct if are_nearly_numbers(columns[position], decimal)]
    varying = [position for position in numeric if num_distinct[position] > 1]
    candidates = [position for position in varying if any(map(FRACTION.search, columns[position]))] or varying
    if candidates:
        roles.positions["rating"] = min(candidates, key=lambda position: (num_distinct[position], -position))


def _assign_ids_by_order(roles: Roles) -> None:
    """Assign users and items, in this order, to the columns that are left.

    In a file with a header, does nothing if further columns are left. In a file without a header, prefers columns with
    more than two distinct values.
    """
    columns, free = roles.first.columns, roles.free()
    missing = [role for role in ("user", "item") if role not in roles.positions]
    if len(free) < len(missing) or (len(free) > len(missing) and roles.first.options.header):
        return
    if len(free) > len(missing):
        free.sort(key=lambda position: (len(set(columns[position])) <= 2, position))
    if len(missing) == 2 and all(ITEM_CODE.fullmatch(cell) for cell in columns[free[0]]):
        missing.reverse()
    roles.positions.update(zip(missing, free, strict=False))


def find_timestamp_formats(cells: list[str], configured: str | None) -> list[str | None]:
    """Find values of data.timestamp_format that fit all cells.

    Returns only the configured value if it fits, only None if reading detects the format, and otherwise all date
    patterns that fit.
    """
    for pattern in (configured, None):
        if not cells or are_times(cells, pattern):
            return [pattern]
    return [*find_date_patterns(cells)]
