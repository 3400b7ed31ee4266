"""Notes on a fold-in: which items were folded in, and which ratings and users were left out."""

import itertools
from collections.abc import Iterator, Sequence

import pandas as pd

from ratinglab.inference.recommender_tables import is_trained
from ratinglab.inference.users_or_items import UsersOrItems
from ratinglab.runs.record import RunRecord
from ratinglab.stars import is_liked


def notes_on_fold_in(
    record: RunRecord, ratings: pd.DataFrame, users: UsersOrItems, items: UsersOrItems
) -> Iterator[str]:
    """Describe the folded-in items, and the ratings and users that were left out.

    `ratings` are all given ratings, from `look_up_ratings`.
    """
    if items.ids:
        yield f"new items folded in: {len(items.ids):,}, such as {items.ids[0]}"
    is_user_trained = is_trained(ratings["user_index"].to_numpy(), record.num_users)
    is_item_trained = is_trained(ratings["item_index"].to_numpy(), record.num_items)
    left_out = ratings[~is_user_trained & ~is_item_trained]
    if len(left_out) > 0:
        rating = _count_with_example(left_out["item"].tolist(), "rating", example="that of item ")
        yield f"skipped {rating}: neither the item nor the user has training ratings"
    users_left_out = sorted(set(left_out["user"]) - set(users.ids))
    if users_left_out:
        yield f"skipped {_count_with_example(users_left_out, 'user')}: they have rated no item with training ratings"
    if record.predicts_scores:
        yield from notes_on_likes(record, ratings, users)


def notes_on_likes(record: RunRecord, ratings: pd.DataFrame, users: UsersOrItems) -> Iterator[str]:
    """Describe the users who have neither training rows nor a rating that counts as a like, for a ranking model."""
    min_stars = record.model_options["min_stars"]
    if min_stars is None:
        return
    is_like = is_liked(record.stars.to_stars(ratings["rating"].to_numpy()), min_stars)
    is_like &= is_trained(ratings["item_index"].to_numpy(), record.num_items)
    users_with_likes = set(ratings["user"][is_like])
    is_known = is_trained(users.run_index, record.num_users)
    without_likes = [user for user in itertools.compress(users.ids, ~is_known) if user not in users_with_likes]
    if without_likes:
        lowest = record.stars.to_rating(min_stars)
        yield (
            f"users without a rating of at least {lowest:g} (model.min_stars), who get the most popular items, with "
            f"scores of 0: {len(without_likes):,}, such as {without_likes[0]}"
        )


def _count_with_example(names: Sequence[str], noun: str, *, example: str = "") -> str:
    """Count things, and name the first: `1 user, ann` or `3 users, such as ann`."""
    first = f"{example}{names[0]}"
    return f"1 {noun}, {first}" if len(names) == 1 else f"{len(names):,} {noun}s, such as {first}"
