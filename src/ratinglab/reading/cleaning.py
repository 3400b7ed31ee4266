"""Cleaning of rows: missing and repeated ratings, the rating scale, users and items with too few ratings."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ratinglab.errors import UserError, format_count
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.mapped_arrays import allocate_array, count_rows, drop_pages
from ratinglab.ratings.table import ConfiguredScale, Ratings
from ratinglab.reading.cleaning_options import CleaningOptions
from ratinglab.reading.source_rows import SourceRows
from ratinglab.reading.unrated import is_unrated, note_suspected_unrated

PIECE_ROWS = 1 << 15
"""Approximate number of rows that a thread searches for repeated pairs at once."""
BUCKET_ROWS = 1 << 25
"""Approximate number of rows whose pairs are sorted at once if the rows are in mapped files: 256 MB."""
MAX_EXAMPLES = 3
"""Maximum number of rows named in the message on repeated pairs."""


def drop_unrated(rows: SourceRows, values: Sequence[float], *, scale: ConfiguredScale, name: str) -> SourceRows:
    """Drop the rows without a rating, which have one of these values.

    Adds notes on their number, and on other ratings that may mean unrated, except the bounds of the scale.

    Raises:
        UserError: no row is left.
    """
    if values:
        texts = ",".join(f"{value:g}" for value in values)
        rows = _drop(is_unrated(rows.ratings.rating, values), rows, option=f"data.unrated=[{texts}]", name=name)
    expected = [bound for bound in scale if bound is not None]
    return rows.with_notes(*note_suspected_unrated(rows.ratings.rating, expected=expected))


def _drop(is_dropped: NDArray[np.bool_], rows: SourceRows, *, option: str, name: str) -> SourceRows:
    """Drop rows because of an option. Adds a note on their number. Raises UserError if no row is left."""
    if is_dropped.all():
        raise UserError(f"{name}: {option} leaves no rating")
    rows = rows.take(np.flatnonzero(~is_dropped)) if is_dropped.any() else rows
    return rows.with_notes(f"{option} dropped {is_dropped.sum():,} of {len(is_dropped):,} rows")


def determine_scale(rows: SourceRows, configured: ConfiguredScale, *, name: str) -> tuple[float, float]:
    """Determine the lowest and the highest possible rating, which default to the extremes of the rows.

    Raises:
        UserError: a rating is outside the configured scale, or all ratings are equal.
    """
    rating = rows.ratings.rating
    minimum, maximum = float(rating.min()), float(rating.max())
    lowest, highest = configured
    lowest = minimum if lowest is None else lowest
    highest = maximum if highest is None else highest
    if minimum < lowest or maximum > highest:
        is_outside = (rating < lowest) | (rating > highest)
        row = int(np.argmax(is_outside))
        raise UserError(
            f"{rows.places([row])[0]}: the rating {rating[row]:g} is outside data.scale, {lowest:g} to {highest:g}; "
            f"rows outside it in total: {is_outside.sum():,} of {len(rating):,}; "
            f"data.unrated=[{rating[row]:g}] drops the rows with this rating"
        )
    if minimum == maximum:
        raise UserError(
            f"{name}: {'the only' if len(rating) == 1 else 'every'} rating is {minimum:g} (to 7 digits): "
            "there is nothing to predict; is data.columns.rating right?"
        )
    return lowest, highest


def clean(rows: SourceRows, options: CleaningOptions, *, name: str) -> SourceRows:
    """Merge repeated pairs, then drop low ratings, users and items with too few ratings, and ids without rows.

    Raises:
        UserError: rows repeat a pair (see `merge_duplicates`), or no row is left.
    """
    rows = merge_duplicates(rows, policy=options.duplicates.value)
    if options.min_rating is not None:
        is_low = rows.ratings.rating < np.float32(options.min_rating)
        rows = _drop(is_low, rows, option=f"data.min_rating={options.min_rating:g}", name=name)
    rows = _k_core(rows, options)
    if rows.source_row is None:
        return rows
    user, user_ids = _drop_unused_ids(rows.ratings.user, rows.user_ids)
    item, item_ids = _drop_unused_ids(rows.ratings.item, rows.item_ids)
    return replace(rows, ratings=replace(rows.ratings, user=user, item=item), user_ids=user_ids, item_ids=item_ids)


class RepeatedPairsError(UserError):
    """Rows repeat a user-item pair."""


def merge_duplicates(rows: SourceRows, *, policy: str) -> SourceRows:
    """Merge the rows of each user-item pair into the latest row or, without timestamps, the last in the files.

    The policy "last" keeps the rating of that row, and "mean" the mean rating. Rows in mapped files need "error".

    Raises:
        RepeatedPairsError: the policy is "error", and rows repeat a pair.
    """
    num_items = len(rows.item_ids)
    if not _has_repeated_pairs(rows.ratings, num_items=num_items):
        return rows
    if rows.ratings.folder is not None:
        rows = rows.take(_find_repeated_rows(rows.ratings, num_items=num_items))
    ratings = rows.ratings
    pair = _pack_pairs(ratings, num_items=num_items)
    if policy == "error" or rows.timestamp is None:
        order = np.argsort(pair, kind="stable")
    else:  # by time; if times are equal, the last row in the files counts as the latest
        order = np.lexsort((rows.timestamp, pair))
    is_first = np.concatenate([[True], np.diff(pair[order]) != 0])
    if policy == "error":
        raise RepeatedPairsError(rows.matrix_note() or _repeats_message(rows, np.sort(order[~is_first]), pair))
    start = np.flatnonzero(is_first)
    last = order[np.append(start[1:], len(order)) - 1]
    if policy == "mean":
        mean = np.add.reduceat(ratings.rating[order].astype(np.float64), start) / np.diff(start, append=len(order))
        rating = ratings.rating.copy()
        rating[last] = mean
        rows = replace(rows, ratings=replace(ratings, rating=rating))
    source_row = np.arange(len(pair)) if rows.source_row is None else rows.source_row
    file_index = np.searchsorted(rows.stops, source_row[order], side="right")
    is_across_files = np.maximum.reduceat(file_index, start) != np.minimum.reduceat(file_index, start)
    merged = format_count(int((~is_first).sum()), "row")
    note = f"data.duplicates={policy} merged {merged} into other rows of the same user and item"
    return replace(rows.take(np.sort(last)).with_notes(note), merged_across_files=int(is_across_files.sum()))


def _repeats_message(rows: SourceRows, repeats: NDArray[np.intp], pair: NDArray[np.int64]) -> str:
    """Make the message about rows that repeat the pair of an earlier row; pair: (N,), the pair of each row."""
    late = repeats[:MAX_EXAMPLES]
    places = rows.places([*late, *(int(np.argmax(pair == pair[row])) for row in late)])
    user_ids, item_ids = rows.user_ids.ids[rows.ratings.user[late]], rows.item_ids.ids[rows.ratings.item[late]]
    examples = "; ".join(
        f"{place}, user {user_id} and item {item_id} as in {earlier_place}"
        for place, earlier_place, user_id, item_id in zip(places, places[len(late) :], user_ids, item_ids, strict=False)
    )
    return (
        f"rows that repeat an earlier row's user and item: {len(repeats):,} ({examples}); data.duplicates=last or "
        "=mean keeps one row of each pair"
    )


def _pack_pairs(ratings: Ratings, *, num_items: int) -> NDArray[np.int64]:
    """Pack the user and the item of each row into one number: (N,) int64."""
    pair = ratings.user.astype(np.int64)
    pair *= num_items
    pair += ratings.item
    return pair


def _has_repeated_pairs(ratings: Ratings, *, num_items: int) -> bool:
    if (ratings.user[1:] < ratings.user[:-1]).any():
        if ratings.folder is not None:
            return any(len(repeats) > 0 for repeats in _repeated_pairs_by_bucket(ratings, num_items=num_items))
        return _has_repeats(_pack_pairs(ratings, num_items=num_items))
    # Most files are sorted by user, so search pieces of whole users that fit the processor's cache.
    borders = np.arange(0, len(ratings) + PIECE_ROWS, PIECE_ROWS)
    borders[1:-1] = np.searchsorted(ratings.user, ratings.user[borders[1:-1]])
    pieces = (ratings.take(slice(start, stop)) for start, stop in itertools.pairwise(borders))
    with ThreadPoolExecutor(pa.cpu_count()) as threads:  # numpy releases the GIL
        return any(threads.map(lambda piece: _has_repeats(_pack_pairs(piece, num_items=num_items)), pieces))


def _repeated_pairs_by_bucket(ratings: Ratings, *, num_items: int) -> Iterator[NDArray[np.int64]]:
    """Yield the repeated pairs of each bucket of users. Temporary files hold the pairs: 8 bytes per row."""
    rows_per_user = count_rows(ratings.user, int(ratings.user.max()) + 1)
    bucket_of_user = ((np.cumsum(rows_per_user) - 1) // BUCKET_ROWS).astype(np.uint16)
    borders = np.concatenate([[0], np.cumsum(np.bincount(bucket_of_user, weights=rows_per_user).astype(np.int64))])
    position, pairs = borders[:-1].copy(), allocate_array(len(ratings), np.int64, folder=ratings.folder)
    for _, block in ratings.blocks():
        bucket = bucket_of_user[block.user]
        order = np.argsort(bucket, kind="stable")  # a radix sort
        sorted_pairs = _pack_pairs(block, num_items=num_items)[order]
        rows_per_bucket = np.bincount(bucket, minlength=len(position))
        stops = np.cumsum(rows_per_bucket)
        for index in np.flatnonzero(rows_per_bucket):
            count = rows_per_bucket[index]
            pairs[position[index] : position[index] + count] = sorted_pairs[stops[index] - count : stops[index]]
            position[index] += count
        drop_pages(pairs)
    for start, stop in itertools.pairwise(borders):
        bucket_pairs = np.sort(pairs[start:stop])
        drop_pages(pairs)
        yield np.unique(bucket_pairs[1:][bucket_pairs[1:] == bucket_pairs[:-1]])


def _find_repeated_rows(ratings: Ratings, *, num_items: int) -> NDArray[np.int64]:
    """Find all rows whose pair occurs more than once: (M,) int64."""
    repeated = np.concatenate(list(_repeated_pairs_by_bucket(ratings, num_items=num_items)))
    repeats = [
        rows.start + np.flatnonzero(np.isin(_pack_pairs(block, num_items=num_items), repeated))
        for rows, block in ratings.blocks()
    ]
    return np.concatenate(repeats)


def _has_repeats(pair: NDArray[np.int64]) -> bool:
    """Return whether a pair occurs more than once: (N,). Sorts the pairs in place."""
    if not (pair[1:] > pair[:-1]).all():
        pair.sort()
    return bool((pair[1:] == pair[:-1]).any())


def _k_core(rows: SourceRows, options: CleaningOptions) -> SourceRows:
    """Drop rows of users and items with too few ratings, repeatedly, until all have enough. Adds a note on the number.

    Raises:
        UserError: no row is left.
    """
    min_per_user, min_per_item = options.min_ratings_per_user, options.min_ratings_per_item
    if min_per_user <= 1 and min_per_item <= 1:
        return rows
    num_rows, num_users, num_items = len(rows.ratings), len(rows.user_ids), len(rows.item_ids)
    while True:
        user, item = rows.ratings.user, rows.ratings.item
        user_count, item_count = np.bincount(user, minlength=num_users), np.bincount(item, minlength=num_items)
        has_enough = (user_count >= min_per_user)[user] & (item_count >= min_per_item)[item]
        if has_enough.all():
            break
        rows = rows.take(np.flatnonzero(has_enough))
    if len(user) == 0:
        raise UserError(
            f"data.min_ratings_per_user={min_per_user} and data.min_ratings_per_item={min_per_item} leave no rating"
        )
    num_dropped = num_rows - len(user)
    if num_dropped == 0:
        return rows
    users = format_count(num_users - int((user_count > 0).sum()), "user")
    items = format_count(num_items - int((item_count > 0).sum()), "item")
    return rows.with_notes(
        f"dropped {format_count(num_dropped, 'rating')}, {users} and {items} with fewer ratings than "
        f"data.min_ratings_per_user={min_per_user} or data.min_ratings_per_item={min_per_item}"
    )


def _drop_unused_ids(index: NDArray[np.int32], ids: IdMap) -> tuple[NDArray[np.int32], IdMap]:
    """Drop ids without rows. Returns each row's new index, (N,), and the remaining ids in their old order."""
    is_used = np.bincount(index, minlength=len(ids)) > 0
    if is_used.all():
        return index, ids
    new_index = np.cumsum(is_used, dtype=np.int32) - 1
    return new_index[index], ids.reordered(np.flatnonzero(is_used))
