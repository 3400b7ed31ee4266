"""Ratings and features from the command line or files, folded into a run."""

from collections.abc import Collection
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.experiment.command_options import FoldInOptions, RatingColumnOptions
from ratinglab.formats.input_paths import existing_file
from ratinglab.formats.text_tables import TextTable, read_text_table
from ratinglab.formats.typed_mapping import is_mapping, typed_pairs
from ratinglab.runs.folded_in import FoldedIn, fold_in
from ratinglab.runs.new_ratings import Pairs, RatingColumns, find_columns, read_given
from ratinglab.runs.record import RunRecord
from ratinglab.runs.run import Run


def columns_in(names: Collection[str], columns: RatingColumnOptions, record: RunRecord) -> RatingColumns:
    """Find the columns of a file with these column names: those that the options name, or the default ones."""
    named = {"user": columns.user, "item": columns.item, "rating": columns.rating}
    return find_columns(names, named=named, own=record.column_names)


def files_of(options: FoldInOptions) -> list[Path]:
    """List the files of ratings and features, which an output must not replace."""
    named = {key: getattr(options, key) for key in ("ratings", "user_features", "item_features")}
    return [
        existing_file(name, key=key).path
        for key, name in named.items()
        if name is not None and name.strip() and not is_mapping(name)
    ]


def folded_in(run: Run, options: FoldInOptions, columns: RatingColumnOptions, *, user_id: str | None) -> FoldedIn:
    """Fold the ratings and features that the options name into a run.

    Args:
        run: the run.
        options: ratings and features, or their files.
        columns: names of the columns.
        user_id: id of the user if the ratings name no users; None: a new user.
    """
    items = options.item_features
    given = read_given(
        _pairs_or_table(options, options.ratings, key="ratings"),
        _pairs_or_table(options, options.user_features, key="user_features"),
        None if items is None else _read(options, items, key="item_features"),
        columns_of=lambda names: columns_in(names, columns, run.record),
        keys=("user_features", "item_features"),
    )
    return fold_in(run.model, given, user_id=user_id)


def _pairs_or_table(options: FoldInOptions, value: str | None, *, key: str) -> Pairs | TextTable | None:
    if value is None or not is_mapping(value):
        return None if value is None else _read(options, value, key=key)
    return typed_pairs(value, key=key)


def _read(options: FoldInOptions, name: str, *, key: str) -> TextTable:
    if not name.strip():
        raise UserError(f"{key} must be a file or a mapping, got {name!r}")
    return read_text_table(existing_file(name, key=key), options.dialect(""), header=options.header)
