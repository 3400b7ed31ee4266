"""Describe a table of ratings, and print the command that trains on it."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratinglab.commands.command_inputs import check_output_path
from ratinglab.commands.command_options import InspectOptions
from ratinglab.datasets.guessed_layout import guess_layout
from ratinglab.datasets.sources import CsvOptions, DataOptions
from ratinglab.errors import UserError, format_count
from ratinglab.evaluation.plots import plot_overview, rating_bin_edges
from ratinglab.files import write_output
from ratinglab.options import as_override
from ratinglab.process.program import shell_command
from ratinglab.ratings.side_information import Column, Needs, categories_in, is_numeric, is_unknown
from ratinglab.ratings.table import RatingTable
from ratinglab.reading.cleaning import RepeatedPairsError
from ratinglab.reading.cleaning_options import Duplicates

Data = TypeVar("Data", bound=DataOptions)

MAX_VALUES = 20
"""Largest number of distinct ratings that are listed one by one. More ratings are grouped into this many ranges."""
MAX_CATEGORIES = 6
"""Largest number of categories listed per column, the most frequent first."""
MAX_BAR_LENGTH = 40
"""Length of the longest bar, in characters."""
QUANTILES = {"least": 0, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "most": 1}
"""Quantiles of the number of ratings per user and per item, by the name of their column."""
FIGURE_FORMATS = ("png", "pdf", "svg")
"""Possible extensions of the figure's file."""
ALWAYS_SET = ("path", "user", "item", "rating", "title")
"""Last words of the keys that the train command sets even to their default values."""
MAX_FOR_BEST, MAX_FOR_GIBBS = 1_000_000, 5_000_000
"""Numbers of ratings above which recipe=best and Gibbs sampling of biased_mf take many minutes."""


def inspect_data(options: InspectOptions, defaults: Callable[[], DataOptions]) -> None:
    """Read a table with the checks of training, print its description, and draw a figure if requested.

    For a user's own file, guesses the options that do not fit it. The last line is then the command that trains on the
    file, without the keys whose values equal `defaults()`. Merges repeated user-item pairs.

    Raises:
        UserError: the table or an option is wrong, or the figure cannot be written.
    """
    figure = None if options.figure is None else check_output_path(options.figure, key="figure")
    if figure is not None and figure.suffix[1:] not in FIGURE_FORMATS:
        raise UserError(f"figure must end with one of .{', .'.join(FIGURE_FORMATS)}, got {options.figure}")
    data: DataOptions = options.data
    notes: tuple[str, ...] = ()
    if isinstance(data, CsvOptions):
        table, data, notes = _load_guessed(data)
    else:
        table, data = _load_merged(data)
    print(*describe_table(table, notes), sep="\n")
    if figure is not None:
        chart = plot_overview(table)
        write_output(figure, lambda file: chart.savefig(file, format=figure.suffix[1:]), key="figure")
        print(f"figure     {figure}")
    if isinstance(data, CsvOptions):
        print(f"train      {train_command(data, defaults(), num_ratings=len(table.ratings))}")


def _load_guessed(given: CsvOptions) -> tuple[RatingTable, CsvOptions, tuple[str, ...]]:
    """Load a table in its guessed layout. Also returns the options and notes.

    Drops titles from the ratings file, with a note, if the whole file shows that they are not item titles but, say,
    review titles.
    """
    guessed, notes = guess_layout(given)
    try:
        table, data = _load_merged(guessed)
    except UserError as error:
        if guessed.items.path == given.items.path:
            raise
        table, data = _load_merged(replace(guessed, items=given.items))
        notes = (*notes, f"column {guessed.items.title} was not read as titles: {error}")
    if table.num_users == 1:
        user = data.columns.user
        notes = (*notes, f"column {user} names only one user: if it does not hold the users, the file has no users")
    return table, data, notes


def _load_merged(data: Data) -> tuple[RatingTable, Data]:
    """Load a table, merging repeated user-item pairs. Also returns the options with which training loads it."""
    try:
        return data.load(), data
    except RepeatedPairsError:
        merging = replace(data, duplicates=Duplicates.last)
        return merging.load(), merging


def train_command(data: CsvOptions, defaults: DataOptions, *, num_ratings: int) -> str:
    """Make the command that trains on a file with these options, by a recipe that suits the number of ratings."""
    settings = dict(_reading_settings(data, "data."))
    default_settings = dict(_reading_settings(defaults, "data."))
    path = settings.pop("data.path")
    overrides = [as_override("data.path", path)] + [
        as_override(key, value)
        for key, value in settings.items()
        if default_settings.get(key) != value or key.rpartition(".")[2] in ALWAYS_SET
    ]
    recipe = "best" if num_ratings <= MAX_FOR_BEST else "biased_mf_gibbs" if num_ratings <= MAX_FOR_GIBBS else "fast"
    return shell_command("train", "data=csv", *overrides, f"recipe={recipe}")


def _reading_settings(options: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """List the options that affect how files are read, with their values. Leaves out tables without a path."""
    for field in fields(options):
        key = f"{prefix}{field.name}"
        value = getattr(options, field.name)
        if is_dataclass(value) and getattr(value, "path", "") is not None:
            yield from _reading_settings(value, f"{key}.")
        elif not is_dataclass(value) and field.name not in ("cache", "batch_size"):
            yield key, value[0] if field.name == "path" and isinstance(value, list) and len(value) == 1 else value


def describe_table(table: RatingTable, notes: tuple[str, ...]) -> Iterator[str]:
    """Describe a table, with notes on its layout, in lines that fit a terminal."""
    ratings = table.ratings
    lowest, highest = table.scale
    yield f"{table.name}: {table.size}, density {table.density:.2%}"
    yield f"ids        users {_describe_ids(table.user_ids.ids)}; items {_describe_ids(table.item_ids.ids)}"
    mean = _format_number(ratings.rating.mean(dtype=np.float64))
    deviation = _format_number(ratings.rating.std(dtype=np.float64))
    yield f"ratings    from {lowest:g} to {highest:g}; mean {mean}, standard deviation {deviation}"
    if table.timestamp is not None:
        first, last = (pd.Timestamp(int(time), unit="ms") for time in (table.timestamp.min(), table.timestamp.max()))
        yield f"time       {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    if table.titles is not None:
        yield f"titles     of {format_count(int((table.titles != '').sum()), 'item')}"
    yield from _describe_features("users", table.user_columns)
    yield from _describe_features("items", table.item_columns)
    yield f"digest     {table.digest}"
    needs = Needs(
        days=table.timestamp is not None,
        user_features=tuple(table.user_columns),
        item_features=tuple(table.item_columns),
    )
    yield from (f"           {name} {digest}" for name, digest in table.side_digests(needs).items())
    yield from (f"note: {note}" for note in (*notes, *table.notes))
    yield ""
    yield from _histogram(ratings.rating)
    yield ""
    yield f"{'ratings':13}" + "".join(f"{name:>9}" for name in QUANTILES)
    for label, index in (("of a user", ratings.user), ("of an item", ratings.item)):
        quantiles = np.quantile(np.bincount(index), list(QUANTILES.values()))
        yield f"{label:13}" + "".join(f"{round(value):9,}" for value in quantiles)


def _format_number(number: float) -> str:
    """Format a number with two decimals or, if it is very large or small, with three significant digits."""
    return f"{number:.2f}" if 0.01 <= abs(number) < 1e6 else f"{number:.3g}"


def _describe_ids(ids: pd.Index) -> str:
    if ids.dtype.kind == "i":
        return f"are integers from {ids.min()} to {ids.max()}"
    return f"are text, such as {ids[0]!r}"


def _describe_features(label: str, columns: dict[str, Column]) -> Iterator[str]:
    """Describe each column of users or items in one line. The first line begins with `label`."""
    for name, column in columns.items():
        values = _describe_numbers(column) if is_numeric(column) else _describe_categories(column)
        num_unknown = int(is_unknown(column).sum())
        unknown = f"; unknown {num_unknown:,}" if num_unknown > 0 else ""
        yield f"{label:11}{name}: {values}{unknown}"
        label = ""


def _describe_numbers(column: Column) -> str:
    known = column[~is_unknown(column)]
    if len(known) == 0:
        return "numbers"
    return f"numbers from {known.min():g} to {known.max():g}, {len(np.unique(known)):,} distinct"


def _describe_categories(column: Column) -> str:
    counts = Counter(category for text in column for category in categories_in(text))
    most_common = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(MAX_CATEGORIES))
    rest = ", …" if len(counts) > MAX_CATEGORIES else ""
    noun = "category" if len(counts) == 1 else "categories"
    return f"{len(counts):,} {noun}" + (f": {most_common}{rest}" if counts else "")


def _histogram(rating: NDArray[np.float32]) -> Iterator[str]:
    """Draw a histogram of ratings, a line per rating or range."""
    values, count = np.unique(rating, return_counts=True)
    labels = [f"{value:g}" for value in values]
    if len(values) > MAX_VALUES:
        edges = rating_bin_edges(rating, max_bins=MAX_VALUES)
        count, _ = np.histogram(rating, edges)
        ranges = [values[(values > low) & (values < high)] for low, high in itertools.pairwise(edges)]
        labels = [f"{inside[0]:g} to {inside[-1]:g}" if len(inside) > 0 else "" for inside in ranges]
    width = max(len("rating"), *(len(label) for label in labels))
    yield f"{'rating':>{width}}{'rows':>13}{'share':>8}"
    for label, rows in zip(labels, count, strict=True):
        bar = "█" * round(MAX_BAR_LENGTH * rows / count.max())
        yield f"{label:>{width}}{rows:13,}{rows / len(rating):8.1%}  {bar}".rstrip()
