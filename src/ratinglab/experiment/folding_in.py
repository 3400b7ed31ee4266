"""Ratings and features from the command line or files, folded into a run."""

from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.experiment.root_options import FoldInOptions, PairColumns, RecommendColumns
from ratinglab.ratings.input_paths import existing_file
from ratinglab.ratings.text_tables import TextTable, read_text_table
from ratinglab.ratings.typed_mapping import is_mapping, typed_pairs
from ratinglab.runs.folded_in import FoldedIn, fold_in
from ratinglab.runs.new_ratings import (
    GivenFeatures,
    GivenRatings,
    RatingColumns,
    features_by_name,
    features_in_table,
    ratings_by_item,
    ratings_in_table,
)
from ratinglab.runs.run import Run


def files_of(options: FoldInOptions) -> list[Path]:
    """List the files of ratings and features, which an output must not replace.

    Raises:
        UserError: a file does not exist.
    """
    named = {key: getattr(options, key) for key in ("ratings", "user_features", "item_features")}
    return [
        existing_file(name, key=key).path
        for key, name in named.items()
        if name is not None and name.strip() and not is_mapping(name)
    ]


def folded_in(
    run: Run, options: FoldInOptions, columns: RecommendColumns | PairColumns, *, user_id: str | None
) -> FoldedIn:
    """Fold the ratings and features that the options name into a run.

    Args:
        run: the run.
        options: where the ratings and features are.
        columns: names of their columns.
        user_id: id of the user of ratings without users; None: a new user.

    Raises:
        UserError: a file cannot be read, or a value is invalid.
    """
    names = RatingColumns(columns.user, columns.item, columns.rating)
    ratings: GivenRatings | None = None
    if options.ratings is not None and is_mapping(options.ratings):
        ratings = ratings_by_item(typed_pairs(options.ratings, key="ratings"), key="ratings")
    elif options.ratings is not None:
        ratings = ratings_in_table(_read(options, options.ratings, key="ratings"), names, key="columns")
    users: GivenFeatures | None = None
    if options.user_features is not None and is_mapping(options.user_features):
        users = features_by_name(typed_pairs(options.user_features, key="user_features"), key="user_features")
    elif options.user_features is not None:
        table = _read(options, options.user_features, key="user_features")
        users = features_in_table(table, names.user, key="columns", noun="user")
    items: GivenFeatures | None = None
    if options.item_features is not None:
        table = _read(options, options.item_features, key="item_features")
        items = features_in_table(table, names.item, key="columns", noun="item")
    return fold_in(run, ratings, users, items, user_id=user_id)


def _read(options: FoldInOptions, name: str, *, key: str) -> TextTable:
    if not name.strip():
        raise UserError(f"{key} must be a file or a mapping, got {name!r}")
    return read_text_table(existing_file(name, key=key), options.dialect(""), header=options.header)
