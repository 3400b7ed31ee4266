"""Recommend items to one user, to the users in a file, or to all users."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ratinglab.commands.command_inputs import (
    check_table_path,
    fold_in,
    load_run,
    note_on_length,
    paths_of,
    print_notes,
    read_fold_in,
    read_table,
)
from ratinglab.commands.command_options import RecommendOptions
from ratinglab.errors import UserError, format_count
from ratinglab.evaluation.list_options import OrderBy, OrderOptions, UnknownUsers
from ratinglab.files import is_stream
from ratinglab.formats.text_tables import TextTable
from ratinglab.formats.writing import write_table
from ratinglab.inference.fold_in_input import choose_column_names
from ratinglab.inference.folded_in import FoldedIn
from ratinglab.inference.indexed_tables import Ids
from ratinglab.inference.recommender import ListOptions, Recommender, check_list_length
from ratinglab.inference.run import Run
from ratinglab.reports.table_layout import print_rows

BLOCK_ROWS = 1 << 18
"""Number of recommendations held in memory at once."""
NUM_REASONS = 3
"""Number of the user's ratings given as reasons for an item if why=true."""
NUM_RATED = 5
"""Number of the user's own ratings printed above the recommendations."""


@dataclass(frozen=True)
class _ListsRequest:
    """A request for recommendations, and the run that answers it.

    Attributes:
        folded: the users and items that were folded into the run, or None.
        list_options: the options of each list, taken from `options`.
    """

    run: Run
    folded: FoldedIn | None
    options: RecommendOptions
    list_options: ListOptions

    @property
    def recommender(self) -> Run | FoldedIn:
        """The recommender that makes the lists."""
        return self.folded or self.run

    @property
    def user_id(self) -> str | None:
        """Id of the user, or None if there are several."""
        if self.options.user is None and self.folded is not None and len(self.folded.folded_user_ids) == 1:
            return self.folded.folded_user_ids[0]
        return self.options.user

    def lists_by_block(self, user_ids: list[str] | None) -> Iterator[pd.DataFrame]:
        """Make the users' lists block by block, in bounded memory, with reasons if requested."""
        for block in self.recommender.lists_by_block(self.list_options, user_ids=user_ids):
            if self.options.why:
                reasons = list[str]()
                for user_id, item_ids in block.groupby("user_id", sort=False)["item_id"]:
                    changes = self.recommender.explain_list(item_ids, user_id=str(user_id), k=NUM_REASONS)
                    reasons += _reasons(changes, item_ids)
                block["why"] = reasons
            yield block


def recommend(options: RecommendOptions) -> None:
    """Recommend items: print them for one user, below the user's highest ratings, or write them to a file.

    Raises:
        UserError: a file cannot be read or written, an id or a genre is unknown, or a cell is invalid.
    """
    paths = {"users": options.users, "items": options.items}
    tables = {key: read_table(options, path, key=key) for key, path in paths.items() if path is not None}
    given = read_fold_in(options)
    inputs = paths_of({**tables, **given})
    output = None if options.output is None else check_table_path(options.output, inputs=inputs)
    run, notes = load_run(options.run)
    folded, fold_in_notes = fold_in(run, given, options.columns, user_id=options.user)
    table_notes = [note for table in tables.values() for note in table.opened_from.notes]
    notes += [f"note: {note}" for note in (*table_notes, *fold_in_notes)]
    recommender = folded or run
    check_list_length(options.k, num_items=recommender.record.num_items)
    candidates, candidate_notes = _find_candidates(recommender, options, tables.get("items"))
    notes += candidate_notes
    order = options.ranking
    if run.record.predicts_scores and (order.by is OrderBy.prediction or order.threshold is not None):
        notes.append(f"note: {run.record.model} orders lists by score and ignores ranking.by and ranking.threshold")
    list_options = ListOptions(
        k=options.k,
        candidates=candidates,
        exclude_seen=options.exclude_seen,
        unknown=options.unknown,
        order=order,
    )
    request = _ListsRequest(run, folded, options, list_options)
    if request.user_id is not None:
        _recommend_to_one(request, request.user_id, output, notes)
        return
    user_ids = _read_user_ids(request, tables["users"]) if "users" in tables else None
    if output is None:
        listed = user_ids if folded is None else folded.folded_user_ids or None
        count = run.record.num_users if listed is None else len(listed)
        raise UserError(f"set output=FILE to recommend to {format_count(count, 'user')}, or user=ID for a single one")
    _recommend_to_several(request, user_ids, output, notes)


def _find_candidates(
    recommender: Recommender, options: RecommendOptions, items: TextTable | None
) -> tuple[Ids | None, list[str]]:
    """Find the ids of the candidate items, or None if every item is one. Also returns a note on skipped items."""
    tables = recommender.tables
    with_genre: Ids | None = None
    if options.genres:
        with_genre = tables.items_with_genres(options.genres, column=options.columns.genres)
    if items is None:
        return with_genre, []
    column = choose_column_names(items.names, recommender.record, requested=options.columns.by_role())["item"]
    item_ids = np.array(items.ids(column, key="columns.item", side="item").to_pylist(), dtype=object)
    file, notes = items.opened_from.file, []
    untrained = item_ids[~tables.are_items_trained(item_ids)]
    if len(untrained) > 0:
        count = f"{len(untrained):,} of the {len(item_ids):,} items in {file}, such as {untrained[0]}"
        notes = [f"note: skipped {count}: they have no training ratings"]
    if with_genre is not None:
        has_genre = np.isin(tables.item_ids.index_of(item_ids), tables.item_ids.index_of(with_genre))
        item_ids = item_ids[has_genre]
    if not tables.are_items_trained(item_ids).any():
        genres = " and one of the genres" if options.genres else ""
        raise UserError(f"items: no item in {file} has training ratings{genres}")
    return item_ids, notes


def _recommend_to_one(request: _ListsRequest, user_id: str, output: Path | None, notes: Sequence[str]) -> None:
    """Write a user's list to the file `output`, if any, and print it below the user's highest ratings.

    Prints no list if the file is a stream, such as stdout.
    """
    notes_on_user = list(_notes_on_user(request, user_id))
    (rows,) = request.lists_by_block([user_id])
    is_new = request.folded is not None and request.folded.is_anonymous
    name = "the new user" if is_new else f"user {user_id}"
    if output is not None:
        _write(output, [rows.assign(user_id=user_id)])
        print_notes(output, f"{format_count(len(rows), 'recommendation')} for {name} in {output}")
    print_notes(output, *notes, *notes_on_user)
    if output is None or not is_stream(output):
        _print_list(rows.drop(columns="user_id"), request, user_id, name=name)


def _notes_on_user(request: _ListsRequest, user_id: str) -> Iterator[str]:
    """Say which list a user without training ratings gets, or refuse the user if the options say so."""
    if request.recommender.knows_user(user_id):
        return
    if request.options.unknown is UnknownUsers.error:
        request.run.tables.check_users([user_id], place=lambda _: "user")
    yield f"note: user {user_id} has no training ratings and gets {request.run.record.baseline_list}, as all such users"


def _print_list(rows: pd.DataFrame, request: _ListsRequest, user_id: str, *, name: str) -> None:
    """Print a user's highest ratings, and then the rows of the list. `name` is the user's name in the titles."""
    rated = request.recommender.rated_highest(user_id, k=NUM_RATED)
    if len(rated) > 0:
        print(f"highest ratings of {name}")
        print_rows(rated.drop(columns="rank"))
        print()
    print(f"recommended to {name}, {_order_text(request.run, request.options.ranking)}")
    print_rows(rows)
    if "why" in rows:
        print("why: the ratings that change the prediction most, and by how much, with item weights and noise fixed")
    if len(rows) < request.options.k:
        print(note_on_length(len(rows), requested=request.options.k))


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
    """Describe, for each item, the ratings that raised its prediction, and then the ratings that lowered it.

    An example is `because of Alien (1979) 5: +0.21; despite Heat (1995) 2: -0.04`. `changes` is the result of
    `Run.explain_list`. Changes that round to 0 are left out.
    """
    changes = changes[changes["change"].round(2) != 0]
    name = changes["rated_title" if "rated_title" in changes else "rated_item_id"]
    columns = zip(name, changes["rating"], changes["change"], strict=True)
    text = np.array([f"{rated} {rating:g}: {change:+.2f}" for rated, rating, change in columns], dtype=object)
    is_raise, changed_id = changes["change"].to_numpy() > 0, changes["item_id"].astype(str).to_numpy()

    def reasons(item_id: str) -> str:
        is_of_item = changed_id == item_id
        texts = {"because of": text[is_of_item & is_raise], "despite": text[is_of_item & ~is_raise]}
        return "; ".join(f"{word} {'; '.join(ratings)}" for word, ratings in texts.items() if len(ratings) > 0)

    return [reasons(item_id) for item_id in item_ids.astype(str)]


def _recommend_to_several(
    request: _ListsRequest, user_ids: list[str] | None, output: Path, notes: Sequence[str]
) -> None:
    """Write the lists of these users to a file, and print how many there are.

    With None, the users are those folded in or, if there are none, all users.
    """
    num_rows, num_users = _write(output, request.lists_by_block(user_ids))
    listed = f"{format_count(num_rows, 'recommendation')} for {format_count(num_users, 'user')}"
    print_notes(output, f"{listed} in {output}")
    print_notes(output, *notes)
    if request.folded is None:
        print_notes(output, *_notes_on_users(request, user_ids, num_listed=num_users))


def _read_user_ids(request: _ListsRequest, users: TextTable) -> list[str]:
    """Read the distinct user ids in a table. Refuses users without training ratings if the options say so."""
    name = choose_column_names(users.names, request.run.record, requested=request.options.columns.by_role())["user"]
    user_ids = list(dict.fromkeys(users.ids(name, key="columns.user", side="user").to_pylist()))
    if request.options.unknown is UnknownUsers.error:
        rows = users.column(name, key="columns.user")
        tables = request.run.tables
        tables.check_users(user_ids, place=lambda number: users.place(rows.index(user_ids[number]), name))
    return user_ids


def _notes_on_users(request: _ListsRequest, user_ids: list[str] | None, *, num_listed: int) -> Iterator[str]:
    """Count the users without a list, and the users who got the baseline's list. `user_ids` is None for all users."""
    run = request.run
    unknown = request.options.unknown
    num_trained = run.record.num_users
    num_all = len(run.user_ids)
    if user_ids is not None:
        num_trained = int(run.tables.are_users_trained(user_ids).sum())
        num_all = len(user_ids)
    num_untrained = num_all - num_trained
    num_requested = num_all if unknown is UnknownUsers.baseline else num_trained
    instead = run.record.baseline_list
    if num_untrained > 0 and unknown is UnknownUsers.baseline:
        yield f"note: {format_count(num_untrained, 'user')} without training ratings got {instead}"
    elif num_untrained > 0:
        skipped = format_count(num_untrained, "user")
        yield f"note: skipped {skipped} without training ratings; unknown=baseline recommends {instead}"
    if num_listed < num_requested:
        yield f"note: skipped {format_count(num_requested - num_listed, 'user')}, for whom no candidates are left"


def _write(output: Path, blocks: Iterable[pd.DataFrame]) -> tuple[int, int]:
    """Write blocks of recommendations, at least one, and return the numbers of rows and of users.

    Merges small blocks, because a Parquet file should have few row groups.
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
