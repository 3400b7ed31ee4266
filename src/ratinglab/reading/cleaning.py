"""Cleaning of rows: repeated pairs, ratings outside the scale, users and items with too few ratings."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.mapped_arrays import count_values, empty, release
from ratinglab.ratings.table import Ratings
from ratinglab.reading.source_rows import Rows
from ratinglab.reading.unrated import is_unrated, notes_on_suspected_unrated

PIECE_ROWS = 1 << 15
"""Approximate number of rows that a thread searches for repeated pairs at once."""
BUCKET = 1 << 25
"""Approximate number of rows whose pairs are sorted at once if the rows are in mapped files: 256 MB."""
PLACES_SHOWN = 3
"""Number of rows named in the message on repeated pairs."""


@dataclass(frozen=True)
class Cleaning:
    """Settings for cleaning the rows of a table, see `DataOptions` and `CsvOptions`.

    `lowest` and `highest` are the bounds of the rating scale; None: not set.
    """

    duplicates: str
    min_rating: float | None
    min_ratings_per_user: int
    min_ratings_per_item: int
    lowest: float | None
    highest: float | None
    unrated: tuple[float, ...]

    @property
    def set_scale(self) -> tuple[float | None, float | None]:
        """Lowest and highest possible rating, rounded to float32 like the ratings; None: not set."""
        lowest, highest = (None if bound is None else float(np.float32(bound)) for bound in (self.lowest, self.highest))
        return lowest, highest


def without_unrated(rows: Rows, cleaning: Cleaning, *, name: str) -> Rows:
    """Drop the rows without a rating; note how many, and ratings that may mean unrated.

    Raises:
        UserError: no row is left.
    """
    if cleaning.unrated:
        is_missing = is_unrated(rows.ratings.rating, cleaning.unrated)
        listed = ",".join(f"{value:g}" for value in cleaning.unrated)
        rows = _without(is_missing, rows, option=f"data.unrated=[{listed}]", name=name)
    expected = [bound for bound in (cleaning.lowest, cleaning.highest) if bound is not None]
    return rows.noted(*notes_on_suspected_unrated(rows.ratings.rating, expected=expected))


def _without(is_dropped: NDArray[np.bool_], rows: Rows, *, option: str, name: str) -> Rows:
    """Drop rows, and note how many. Raises UserError if no row is left; `option` is the reason."""
    if is_dropped.all():
        raise UserError(f"{name}: {option} leaves no rating")
    kept = rows.take(np.flatnonzero(~is_dropped)) if is_dropped.any() else rows
    return kept.noted(f"{option} dropped {is_dropped.sum():,} of {len(is_dropped):,} rows")


def scale_of(rows: Rows, cleaning: Cleaning, *, name: str) -> tuple[float, float]:
    """Determine the lowest and the highest possible rating, as set or as found in all rows.

    Raises:
        UserError: a rating is outside the scale that is set, or all ratings are equal.
    """
    rating = rows.ratings.rating
    observed = float(rating.min()), float(rating.max())
    lowest, highest = (
        bound if fixed is None else fixed for bound, fixed in zip(observed, cleaning.set_scale, strict=True)
    )
    if observed[0] < lowest or observed[1] > highest:
        off = (rating < lowest) | (rating > highest)
        row = int(np.argmax(off))
        raise UserError(
            f"{rows.places([row])[0]}: the rating {rating[row]:g} is outside data.scale, {lowest:g} to {highest:g}; "
            f"rows outside it in total: {off.sum():,} of {len(rating):,}; data.unrated drops rows without a rating"
        )
    if observed[0] == observed[1]:
        raise UserError(
            f"{name}: every rating is {observed[0]:g}: there is nothing to predict; is data.columns.rating right?"
        )
    return lowest, highest


def cleaned(rows: Rows, cleaning: Cleaning, *, name: str, folder: Path | None) -> Rows:
    """Merge repeated pairs, drop low ratings, then users and items with too few ratings, and ids without rows.

    Raises:
        UserError: rows repeat a pair (see `without_duplicates`), or no row is left.
    """
    rows = without_duplicates(rows, policy=cleaning.duplicates, folder=folder)
    if cleaning.min_rating is not None:
        is_low = rows.ratings.rating < np.float32(cleaning.min_rating)
        rows = _without(is_low, rows, option=f"data.min_rating={cleaning.min_rating:g}", name=name)
    rows = _k_core(rows, cleaning)
    if rows.number is None:
        return rows
    user, user_ids = _only_used(rows.ratings.user, rows.user_ids)
    item, item_ids = _only_used(rows.ratings.item, rows.item_ids)
    return replace(rows, ratings=replace(rows.ratings, user=user, item=item), user_ids=user_ids, item_ids=item_ids)


def without_duplicates(rows: Rows, *, policy: str, folder: Path | None = None) -> Rows:
    """Merge rows so that each pair of user and item has one row: the latest or, without times, the last in the files.

    Args:
        policy: "error", "last" or "mean".
        folder: folder for temporary files if the rows are in mapped files, which requires the policy "error"; or None.

    Raises:
        UserError: the policy is "error", and rows repeat a pair.
    """
    num_items = len(rows.item_ids)
    if not _repeats_a_pair(rows.ratings, num_items=num_items, folder=folder):
        return rows
    if folder is not None:
        rows = rows.take(_rows_of_repeats(rows.ratings, num_items=num_items, folder=folder))
    ratings = rows.ratings
    pair = _pairs(ratings, num_items=num_items)
    if policy == "error" or rows.timestamp is None:
        order = np.argsort(pair, kind="stable")
    else:  # by time; among rows at the same time, the last in the files counts as the latest
        order = np.lexsort((rows.timestamp, pair))
    is_first = np.concatenate([[True], np.diff(pair[order]) != 0])
    if policy == "error":
        raise UserError(rows.matrix_hint() or _message_on_repeats(rows, np.sort(order[~is_first]), pair))
    start = np.flatnonzero(is_first)
    last = order[np.append(start[1:], len(order)) - 1]
    if policy == "mean":
        mean = np.add.reduceat(ratings.rating[order].astype(np.float64), start) / np.diff(start, append=len(order))
        rating = ratings.rating.copy()
        rating[last] = mean
        rows = replace(rows, ratings=replace(ratings, rating=rating))
    number = np.arange(len(pair)) if rows.number is None else rows.number
    in_file = np.searchsorted(rows.stops, number[order], side="right")
    is_across = np.maximum.reduceat(in_file, start) != np.minimum.reduceat(in_file, start)
    note = f"data.duplicates={policy}: rows merged into others of the same user and item: {(~is_first).sum():,}"
    return replace(rows.take(np.sort(last)).noted(note), merged_across_files=int(is_across.sum()))


def _message_on_repeats(rows: Rows, repeats: NDArray[np.intp], pair: NDArray[np.int64]) -> str:
    """Make the message on the rows that repeat the pair of an earlier row; pair: (N,)."""
    shown = repeats[:PLACES_SHOWN]
    named = rows.places([*shown, *(int(np.argmax(pair == pair[row])) for row in shown)])
    user, item = rows.user_ids.ids[rows.ratings.user[shown]], rows.item_ids.ids[rows.ratings.item[shown]]
    examples = "; ".join(
        f"{place}, user {user_id} and item {item_id} as in {earlier}"
        for place, earlier, user_id, item_id in zip(named, named[len(shown) :], user, item, strict=False)
    )
    return (
        f"rows that repeat an earlier row's user and item: {len(repeats):,} ({examples}); data.duplicates=last or "
        "=mean keeps one row of each pair"
    )


def _pairs(ratings: Ratings, *, num_items: int) -> NDArray[np.int64]:
    """Pack user and item into one number per row: (N,) int64."""
    pair = ratings.user.astype(np.int64)
    pair *= num_items
    pair += ratings.item
    return pair


def _repeats_a_pair(ratings: Ratings, *, num_items: int, folder: Path | None) -> bool:
    if (ratings.user[1:] < ratings.user[:-1]).any():
        if folder is not None:
            return any(len(repeats) > 0 for repeats in _repeats_by_bucket(ratings, num_items=num_items, folder=folder))
        return _has_repeats(_pairs(ratings, num_items=num_items))
    # Most files are sorted by user, so search pieces of whole users that fit the processor's cache.
    borders = np.arange(0, len(ratings) + PIECE_ROWS, PIECE_ROWS)
    borders[1:-1] = np.searchsorted(ratings.user, ratings.user[borders[1:-1]])
    pieces = (ratings.take(slice(start, stop)) for start, stop in itertools.pairwise(borders))
    with ThreadPoolExecutor(pa.cpu_count()) as threads:  # numpy releases the GIL
        return any(threads.map(lambda piece: _has_repeats(_pairs(piece, num_items=num_items)), pieces))


def _repeats_by_bucket(ratings: Ratings, *, num_items: int, folder: Path) -> Iterator[NDArray[np.int64]]:
    """Yield the repeated pairs of each bucket of users. Temporary files hold the pairs: 8 bytes per row."""
    num_rows_of = count_values(ratings.user, int(ratings.user.max()) + 1)
    stop = np.cumsum(num_rows_of)
    bucket_of_user = ((stop - 1) // BUCKET).astype(np.uint16)
    starts = np.concatenate([[0], np.cumsum(np.bincount(bucket_of_user, weights=num_rows_of).astype(np.int64))])
    place, pairs = starts[:-1].copy(), empty(len(ratings), np.int64, folder=folder)
    for _, rows in ratings.blocks():
        bucket = bucket_of_user[rows.user]
        order = np.argsort(bucket, kind="stable")  # a radix sort
        pair, number = _pairs(rows, num_items=num_items)[order], np.bincount(bucket, minlength=len(place))
        for index in np.flatnonzero(number):
            stop_in_block = int(number[: index + 1].sum())
            pairs[place[index] : place[index] + number[index]] = pair[stop_in_block - number[index] : stop_in_block]
            place[index] += number[index]
        release(pairs)
    for start, after in itertools.pairwise(starts):
        of_bucket = np.sort(pairs[start:after])
        release(pairs)
        yield np.unique(of_bucket[1:][of_bucket[1:] == of_bucket[:-1]])


def _rows_of_repeats(ratings: Ratings, *, num_items: int, folder: Path) -> NDArray[np.int64]:
    """Find all rows whose pair is repeated."""
    repeated = np.concatenate(list(_repeats_by_bucket(ratings, num_items=num_items, folder=folder)))
    repeats = [
        rows.start + np.flatnonzero(np.isin(_pairs(block, num_items=num_items), repeated))
        for rows, block in ratings.blocks()
    ]
    return np.concatenate(repeats)


def _has_repeats(pair: NDArray[np.int64]) -> bool:
    if not (pair[1:] > pair[:-1]).all():
        pair.sort()
    return bool((pair[1:] == pair[:-1]).any())


def _k_core(rows: Rows, cleaning: Cleaning) -> Rows:
    """Drop rows of users and items with too few ratings, repeatedly, until all have enough; note how many.

    Raises:
        UserError: no row is left.
    """
    least_user, least_item = cleaning.min_ratings_per_user, cleaning.min_ratings_per_item
    if least_user <= 1 and least_item <= 1:
        return rows
    num_users, num_items, kept = len(rows.user_ids), len(rows.item_ids), rows
    while True:
        user_count = np.bincount(kept.ratings.user, minlength=num_users)
        item_count = np.bincount(kept.ratings.item, minlength=num_items)
        enough = (user_count >= least_user)[kept.ratings.user] & (item_count >= least_item)[kept.ratings.item]
        if enough.all():
            break
        kept = kept.take(np.flatnonzero(enough))
    num_dropped = len(rows.ratings) - len(kept.ratings)
    if len(kept.ratings) == 0:
        raise UserError(
            f"data.min_ratings_per_user={least_user} and data.min_ratings_per_item={least_item} leave no rating"
        )
    if num_dropped == 0:
        return rows
    users_left, items_left = int((user_count > 0).sum()), int((item_count > 0).sum())
    return kept.noted(
        f"dropped {num_dropped:,} ratings, {num_users - users_left:,} users and "
        f"{num_items - items_left:,} items with fewer ratings than data.min_ratings_per_user={least_user} or "
        f"data.min_ratings_per_item={least_item}"
    )


def _only_used(index: NDArray[np.int32], ids: IdMap) -> tuple[NDArray[np.int32], IdMap]:
    """Drop ids without rows; return each row's new index and the remaining ids in their old order."""
    is_used = np.bincount(index, minlength=len(ids)) > 0
    if is_used.all():
        return index, ids
    new_index = np.cumsum(is_used, dtype=np.int32) - 1
    return new_index[index], ids.reordered(np.flatnonzero(is_used))
