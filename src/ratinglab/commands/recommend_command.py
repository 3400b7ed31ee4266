"""Recommend items to one user, to the users in a file, or to all users."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ratinglab.commands.command_options import RecommendOptions, UnknownUsers
from ratinglab.commands.option_files import (
    columns_in,
    fold_in_files,
    fold_in_from_options,
    load_run,
    read_table,
    table_path,
)
from ratinglab.errors import UserError
from ratinglab.evaluation.ranking import OrderBy, OrderOptions
from ratinglab.files import is_stream, print_beside
from ratinglab.formats.text_tables import TextTable
from ratinglab.formats.writing import write_table
from ratinglab.inference.fold_in.folded_in import FoldedIn, explain_list
from ratinglab.inference.lists import ListOptions, check_length
from ratinglab.inference.run import Run
from ratinglab.inference.run_tables import Ids
from ratinglab.inference.trained_model import TrainedModel
from ratinglab.reports.text_table import print_rows

BLOCK_ROWS = 1 << 18
"""Number of recommendations held in memory at once."""
NUM_REASONS = 3
"""Number of the user's ratings named with an item if why=true."""
NUM_RATED_SHOWN = 5
"""Number of the user's own ratings shown above the recommendations."""


@dataclass(frozen=True)
class _ListsRequest:
    """A request for recommendations, and the run that answers it.

    Attributes:
        run: the run.
        folded: what is folded into the run; None: nothing.
        options: the options as typed.
        settings: settings of the lists.
    """

    run: Run
    folded: FoldedIn | None
    options: RecommendOptions
    settings: ListOptions

    @property
    def user_id(self) -> str | None:
        """Id of the only user; None: several users."""
        if self.options.user is None and self.folded is not None and len(self.folded.user_ids) == 1:
            return self.folded.user_ids[0]
        return self.options.user

    def model_of(self, user_id: str) -> TrainedModel:
        """Return the model that predicts for a user."""
        return self.run if self.folded is None else self.folded.model_of(user_id)

    def lists_by_block(self, user_ids: list[str] | None) -> Iterator[pd.DataFrame]:
        """Make the lists of users, with reasons if asked for, in blocks of bounded memory."""
        for block in (self.folded or self.run).lists_by_block(self.settings, user_ids=user_ids):
            if self.options.why:
                items_by_user = block.groupby("user_id", sort=False)["item_id"]
                block["why"] = [text for name, items in items_by_user for text in self._reasons_for(str(name), items)]
            yield block

    def _reasons_for(self, user_id: str, item_ids: pd.Series) -> list[str]:
        return _reasons(explain_list(self.run, self.folded, user_id, item_ids, k=NUM_REASONS), item_ids)


def recommend(options: RecommendOptions) -> None:
    """Recommend items: print them for one user, below the user's highest ratings, or write them to a file.

    Raises:
        UserError: a file cannot be read or written, an id or a genre is unknown, or a cell is invalid.
    """
    named = {"users": options.users, "items": options.items}
    tables = {key: read_table(options, name, key=key) for key, name in named.items() if name is not None}
    inputs = [*(table.source.file.path for table in tables.values()), *fold_in_files(options)]
    output = None if options.output is None else table_path(options.output, inputs=inputs)
    run, notes = load_run(options.run)
    folded = fold_in_from_options(run, options, options.columns, user_id=options.user) if options.folds_in else None
    if folded is not None:
        notes += [f"note: {note}" for note in folded.notes]
    trained = run if folded is None else folded.model
    check_length(options.k, num_items=trained.record.num_items)
    lists = ListOptions(
        k=options.k,
        candidates=_candidates(trained, options, tables.get("items"), notes),
        exclude_seen=options.exclude_seen,
        unknown=options.unknown.value,
        order=options.ranking,
    )
    request = _ListsRequest(run, folded, options, lists)
    if request.user_id is not None:
        _recommend_to_one(request, request.user_id, output, notes)
        return
    if output is None:
        count = len(tables["users"].content) if folded is None else len(folded.user_ids) or run.record.num_users
        raise UserError(f"set output=FILE to recommend to {count:,} users, or user=ID for one of them")
    _recommend_to_several(request, tables.get("users"), output, notes)


def _candidates(
    model: TrainedModel, options: RecommendOptions, items: TextTable | None, notes: list[str]
) -> Ids | None:
    """Return the ids of the candidate items, None: all items, and add a note on those that are left out."""
    tables = model.tables
    of_genres: Ids | None = tables.items_of(options.genres, column=options.columns.genres) if options.genres else None
    if items is None:
        return of_genres
    column = columns_in(items.names, options.columns, model.record)["item"]
    item_ids = np.array(items.ids(column, key="columns.item", noun="item").to_pylist(), dtype=object)
    is_trained = tables.trained_items(item_ids)
    if not is_trained.all():
        count = (~is_trained).sum()
        example = item_ids[int(np.argmin(is_trained))]
        notes.append(
            f"note: items left out, since they have no training ratings: {count:,} of the {len(item_ids):,} in "
            f"{items.source.file}, such as {example}"
        )
    if of_genres is not None:
        has_genre = np.isin(tables.item_ids.index_of(item_ids), tables.item_ids.index_of(of_genres))
        item_ids = item_ids[has_genre]
    if not tables.trained_items(item_ids).any():
        genres = " and one of the genres" if options.genres else ""
        raise UserError(f"items: no item in {items.source.file} has training ratings{genres}")
    return item_ids


def _recommend_to_one(request: _ListsRequest, user_id: str, output: Path | None, notes: Sequence[str]) -> None:
    """Write a user's list to a file, if asked to, and print it below the user's highest ratings."""
    notes_on_user = list(_notes_on_user(request, user_id))
    (listed,) = request.lists_by_block([user_id])
    is_new = request.folded is not None and request.folded.is_anonymous
    name = user_id if is_new else f"user {user_id}"
    if output is not None:
        _write(output, [listed.assign(user_id=user_id)])
        print_beside(output, f"{len(listed):,} recommendations for {name} in {output}")
    print_beside(output, *notes, *notes_on_user)
    if output is None or not is_stream(output):
        _print_list(listed.drop(columns="user_id"), request, user_id, name=name)


def _notes_on_user(request: _ListsRequest, user_id: str) -> Iterator[str]:
    """Say what a user without training ratings gets.

    Raises:
        UserError: the options refuse such a user.
    """
    if request.model_of(user_id).tables.has_user(user_id):
        return
    if request.options.unknown is UnknownUsers.error:
        request.run.tables.check_users([user_id], place=lambda _: "user")
    is_popular = request.run.record.predicts_scores
    instead = "the list has the most popular items" if is_popular else "the bias baseline predicts"
    yield f"note: user {user_id} has no training ratings; {instead}, the same for everyone"


def _print_list(listed: pd.DataFrame, request: _ListsRequest, user_id: str, *, name: str) -> None:
    """Print a user's highest ratings, and then the list; `name` is what to call the user."""
    rated = request.model_of(user_id).rated_highest(user_id, k=NUM_RATED_SHOWN)
    if len(rated) > 0:
        print(f"{name} rated highest")
        print_rows(rated.drop(columns="rank"))
        print()
    print(f"recommended to {name}, {_order_text(request.run, request.options.ranking)}")
    print_rows(listed)
    if len(listed) < request.options.k:
        print(f"note: only {len(listed)} of {request.options.k} items: no other candidates are left")


def _order_text(run: Run, order: OrderOptions) -> str:
    """Describe the order of a list, in which predicted ratings need not descend."""
    if run.record.predicts_scores:
        return "by score"
    if order.by is OrderBy.prediction:
        return "by predicted rating"
    if order.by is OrderBy.lower_bound:
        return "by lower bound: predicted rating minus its standard deviation"
    liked = run.tables.lowest_liked(order.threshold)
    return f"by expected gain: interest times probability of a rating of at least {liked:g}"


def _reasons(changes: pd.DataFrame, item_ids: pd.Series) -> list[str]:
    """Write the ratings that changed each item's prediction, from `explain_list`, with those that raised it first.

    As in `because of Alien (1979) 5: +0.21; despite Heat (1995) 2: -0.04`. Leaves out changes that round to 0.
    """
    changes = changes[changes["change"].round(2) != 0]
    name = changes["rated_title" if "rated_title" in changes else "rated_item_id"]
    columns = zip(name, changes["rating"], changes["change"], strict=True)
    text = np.array([f"{rated} {rating:g}: {change:+.2f}" for rated, rating, change in columns], dtype=object)
    is_raised, item = changes["change"].to_numpy() > 0, changes["item_id"].astype(str).to_numpy()

    def reasons(item_id: str) -> str:
        is_of_item = item == item_id
        parts = {"because of": text[is_of_item & is_raised], "despite": text[is_of_item & ~is_raised]}
        return "; ".join(f"{word} {'; '.join(texts)}" for word, texts in parts.items() if len(texts) > 0)

    return [reasons(item_id) for item_id in item_ids.astype(str)]


def _recommend_to_several(request: _ListsRequest, users: TextTable | None, output: Path, notes: Sequence[str]) -> None:
    """Write the lists of the users in a table, None: of all users, to a file, and print how many there are."""
    user_ids = None if users is None else _user_ids(request, users)
    num_rows, num_users = _write(output, request.lists_by_block(user_ids))
    print_beside(output, f"{num_rows:,} recommendations for {num_users:,} users in {output}")
    print_beside(output, *notes)
    if request.folded is None:
        print_beside(output, *_notes_on_users(request, user_ids, num_listed=num_users))


def _user_ids(request: _ListsRequest, users: TextTable) -> list[str]:
    """Return the ids of the users in a table, once each.

    Raises:
        UserError: the options refuse users without training ratings, and the table has one.
    """
    name = columns_in(users.names, request.options.columns, request.run.record)["user"]
    user_ids = list(dict.fromkeys(users.ids(name, key="columns.user", noun="user").to_pylist()))
    if request.options.unknown is UnknownUsers.error:
        rows = users.column(name, key="columns.user")
        tables = request.run.tables
        tables.check_users(user_ids, place=lambda number: users.place(rows.index(user_ids[number]), name))
    return user_ids


def _notes_on_users(request: _ListsRequest, user_ids: list[str] | None, *, num_listed: int) -> Iterator[str]:
    """Count the users without a list and those who got the baseline's list."""
    run = request.run
    unknown = request.options.unknown
    num_trained = run.record.num_users
    num_all = len(run.user_ids)
    if user_ids is not None:
        num_trained = int(run.tables.trained_users(user_ids).sum())
        num_all = len(user_ids)
    untrained = num_all - num_trained
    asked = num_all if unknown is UnknownUsers.baseline else num_trained
    instead = "the most popular items" if run.record.predicts_scores else "the bias baseline's list"
    if untrained > 0 and unknown is UnknownUsers.baseline:
        yield f"note: users without training ratings, who got {instead}: {untrained:,}"
    elif untrained > 0:
        yield (
            f"note: users left out, since they have no training ratings: {untrained:,}; "
            f"unknown=baseline recommends {instead}"
        )
    if num_listed < asked:
        yield f"note: users left out, since no candidates are left for them: {asked - num_listed:,}"


def _write(output: Path, blocks: Iterable[pd.DataFrame]) -> tuple[int, int]:
    """Write one or more blocks of recommendations, and return the numbers of rows and of users.

    Merges blocks into larger ones, since Parquet should have few row groups.
    """
    num_rows = num_users = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal num_rows, num_users
        pending = list[pd.DataFrame]()
        for block in blocks:
            num_rows += len(block)
            num_users += block["user_id"].nunique()
            pending.append(block)
            if sum(map(len, pending)) >= BLOCK_ROWS:
                yield pa.Table.from_pandas(pd.concat(pending), preserve_index=False)
                pending = []
        if pending:
            yield pa.Table.from_pandas(pd.concat(pending), preserve_index=False)

    merged = tables()
    first = next(merged)
    write_table(output, first.schema, chain([first], merged))
    return num_rows, num_users
