"""Guess the layout of the files of ratings, users and items: dialect, columns and timestamp format."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ratinglab.datasets.guessed_columns import TITLE_NAMES, Roles, find_by_name, find_timestamp_formats, guess_roles
from ratinglab.datasets.guessed_dialect import are_numbers, look_like_numbers, read_first_lines, read_first_ratings
from ratinglab.datasets.sources import CsvOptions, ItemOptions, UserOptions
from ratinglab.errors import UserError
from ratinglab.files import user_path
from ratinglab.formats.detection import Format, detect_format
from ratinglab.formats.inputs import InputFile, find_file, find_rating_files
from ratinglab.formats.layouts import join_names
from ratinglab.formats.literals import WHOLE_NUMBER
from ratinglab.formats.text_options import ColumnOptions, Decimal, TextOptions
from ratinglab.formats.text_tables import open_text_table
from ratinglab.ratings.ids import MISSING_VALUES
from ratinglab.reading.feature_tables import may_be_titles
from ratinglab.sides import SideName

MIN_RATED_SHARE = 0.5
"""Minimum share of the ids in the first ratings that must occur in a table's id column."""


def guess_layout(options: CsvOptions) -> tuple[CsvOptions, tuple[str, ...]]:
    """Guess the format options and the columns of the files of ratings, users and items.

    If no table of items is given, but the ratings file seems to have titles, it becomes the table of items too. Options
    that do not fit the files are replaced by guesses. Returns the options, with one-line notes on guesses that may be
    wrong and on options that could not be guessed.

    Raises:
        UserError: a file cannot be read or does not have one rating per row, or a required column cannot be guessed.
            In the latter case, the message lists what was found in each file, and what to set.
    """
    files = find_rating_files(options.path)
    first = read_first_ratings(options, files[0])
    roles, guessed_late = guess_roles(first)
    timestamp_format, notes = options.timestamp_format, [*first.notes, *_check_thousands(files[0], roles)]
    if "timestamp" in roles.positions:
        formats = find_timestamp_formats(roles.cells("timestamp"), timestamp_format)
        timestamp_format = formats[0] if len(formats) == 1 else None
        if len(formats) != 1:
            notes.append(_describe_unread_times(roles.names()["timestamp"], roles.cells("timestamp")))
            del roles.positions["timestamp"]
    named = roles.names()
    doubtful = [f"{role}={named[role]}" for role in guessed_late if role in named]
    if doubtful:
        notes.append(f"columns guessed by their cells and their order: {', '.join(doubtful)}")
    missing = [f"data.columns.{role}" for role in ("user", "item", "rating") if role not in named]
    problems = _describe_missing(files[0], first.options, missing, named=named, names=first.names)
    tables: dict[SideName, Any] = {"user": options.users, "item": options.items}
    is_one_file = len(files) == 1 and str(user_path(options.path[0], key="data.path")) == str(files[0])  # no folder
    if options.items.path is None and is_one_file and _find_titles(roles) is not None:
        tables["item"] = replace(options.items, path=options.path[0])
    for side, table in tables.items():
        if table.path is not None:
            tables[side], table_notes, table_problems = _guess_table(table, side=side, ratings=files[0], roles=roles)
            notes, problems = [*notes, *table_notes], [*problems, *table_problems]
    if problems:
        raise UserError("; ".join(problems))
    columns = ColumnOptions(named["user"], named["item"], named["rating"], named.get("timestamp"))
    guessed = replace(first.options, columns=columns, timestamp_format=timestamp_format)
    return replace(guessed, users=tables["user"], items=tables["item"]), tuple(notes)


def _describe_unread_times(name: str, cells: Sequence[str]) -> str:
    """Make a note on a column of timestamps whose format cannot be guessed."""
    for row, cell in enumerate(cells, start=1):
        if cell.lower() in ("", "nat", *MISSING_VALUES):
            return f"the timestamps in column {name} are not read, because row {row} has none, got {cell!r}"
    return (
        f"the format of the timestamps in column {name} cannot be guessed; to read them, set "
        f"data.columns.timestamp={name} and data.timestamp_format"
    )


def _check_thousands(file: InputFile, roles: Roles) -> list[str]:
    """Make a note if points in the ratings may separate thousands, as in 1.350.

    Raises:
        UserError: the ratings look like numbers with thousands separators, as in 1,350.
    """
    ratings, decimal = roles.cells("rating"), roles.first.options.decimal
    other = Decimal.comma if decimal is Decimal.point else Decimal.point
    example = next((cell for cell in ratings if not are_numbers([cell], decimal)), None)
    if example is not None and look_like_numbers(ratings, decimal):
        raise UserError(
            f"{file}: the rating {example} in column {roles.names()['rating']} looks like a number with a thousands "
            f"separator; remove the separators or, if it is the decimal point, set data.decimal={other.name}"
        )
    example = next((cell for cell in ratings if not are_numbers([cell], other)), None)
    if example is not None and look_like_numbers(ratings, other):
        return [f"the rating {example} was read as a decimal; if it has a thousands separator, remove the separators"]
    return []


def _describe_missing(
    file: InputFile,
    options: TextOptions,
    missing: Sequence[str],
    *,
    named: Mapping[str, str],
    names: Sequence[str],
    reason: str = "",
) -> list[str]:
    """Describe what was found in a file, and the columns to set.

    `missing` lists the keys of the missing columns, `named` holds the columns that were found, by role, and `names` all
    columns. `reason` says why they are missing. Returns one message, or none if no column is missing.
    """
    if not missing:
        return []
    found = [f"{role}={name}" for role, name in named.items()]
    if detect_format(file) is Format.TEXT:
        found = [f"separator={options.separator}", *found]
    candidates = [name for name in names if name not in named.values()]
    if len(candidates) < len(missing):
        candidates = list(names)
    number = f"{('one', 'two', 'three')[len(missing) - 1]} of " if len(candidates) > 1 else ""
    keys, columns = " and ".join(missing), join_names(candidates)
    return [f"{file}: found {', '.join(found) or 'no column'}{reason}; set {keys} to {number}{columns}"]


def _guess_table(
    options: UserOptions | ItemOptions, *, side: SideName, ratings: InputFile, roles: Roles
) -> tuple[UserOptions | ItemOptions, tuple[str, ...], list[str]]:
    """Guess the layout of a table of users or items, and its id and title columns.

    `ratings` is the first ratings file, which may be the table too, and `roles` its columns. Returns the options of the
    table, notes, and messages on missing columns.
    """
    prefix, notes = options.key_prefix, tuple[str, ...]()
    assert options.path is not None, "the caller has checked"
    file = find_file(options.path, key=f"{prefix}path")
    if file.is_same(ratings):
        dialect = {field.name: getattr(roles.first.options, field.name) for field in fields(TextOptions)}
        options, names = replace(options, **dialect), roles.first.names
        guesses = {side: roles.names().get(side), "title": _find_titles(roles)}
    else:
        if detect_format(file) is Format.TEXT:
            first = read_first_lines(options, file)
            if first is not None:
                options, notes = first.options, first.notes
        table = open_text_table(file, options.dialect()).read()
        names, cells = table.names, {name: table.column(name, key=prefix.rstrip(".")) for name in table.names}
        guesses = _guess_columns(cells, options, side=side, rated_ids=set(roles.cells(side)))
    configured = {role: name for role in guesses if (name := getattr(options, role, None)) is not None}
    named: dict[str, Any] = {role: name if name in names else guesses[role] for role, name in configured.items()}
    if "title" in named and named["title"] is None:
        notes = (*notes, f"no column of {file} seems to hold titles; to read one as titles, set {prefix}title")
    missing, rated = [f"{prefix}{side}"] if named[side] is None else [], roles.cells(side)
    reason = f"; no column has most of the {side} ids in the ratings, such as {rated[0]!r}" if rated else ""
    found = {role: name for role, name in named.items() if name is not None}
    problems = _describe_missing(file, options, missing, named=found, names=names, reason=reason)
    return replace(options, **named), notes, problems


def _guess_columns(
    cells: dict[str, list[str]], options: UserOptions | ItemOptions, *, side: SideName, rated_ids: set[str]
) -> dict[str, str | None]:
    """Guess the id and title columns of a table in a file of its own, from the `cells` of each column.

    `rated_ids` are the ids in the first ratings. They are empty if the id column in the ratings is unknown.
    """
    ids, title = getattr(options, side), getattr(options, "title", None)
    if ids not in cells:
        rated_ids = _without_zeros(rated_ids)
        num_rated = {name: len(rated_ids & _without_zeros(set(column))) for name, column in cells.items()}
        ids = max(num_rated, key=lambda name: num_rated[name])
        if not rated_ids or num_rated[ids] < MIN_RATED_SHARE * len(rated_ids):
            ids = None
    candidates = [name for name in cells if name not in (ids, title)]
    titles = [candidates[position] for position in find_by_name(candidates, TITLE_NAMES)]
    if ids is not None:
        titles += [name for name in candidates if may_be_titles(cells[name])]
    return {side: ids, "title": titles[0] if titles else None}


def _without_zeros(ids: set[str]) -> set[str]:
    """Write whole numbers such as 42.0 as 42, since both are the same id."""
    return {re.sub(WHOLE_NUMBER, r"\1", text) for text in ids}


def _find_titles(roles: Roles) -> str | None:
    """Find a title column in the ratings file by its name in the header.

    Returns None if the user wants no titles, or no such column has a single title for each item in the first rows.
    Review titles differ.
    """
    options = roles.first.options
    if not options.header or options.items.title is None or "item" not in roles.positions:
        return None
    free, item_ids = roles.free(), roles.cells("item")
    for index in find_by_name([roles.first.names[position] for position in free], TITLE_NAMES):
        titles = roles.first.columns[free[index]]
        if len(set(zip(item_ids, titles, strict=True))) == len(set(item_ids)):
            return roles.first.names[free[index]]
    return None
