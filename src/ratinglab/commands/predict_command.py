"""Predict the ratings of the pairs in a file, in bounded memory."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial

import pandas as pd
import pyarrow as pa

from ratinglab.commands.command_inputs import (
    check_table_path,
    fold_in,
    load_run,
    open_table,
    paths_of,
    print_notes,
    read_fold_in,
)
from ratinglab.commands.command_options import PredictOptions
from ratinglab.errors import UserError, format_count
from ratinglab.formats.inputs import find_file
from ratinglab.formats.text_tables import OpenTable, TextTable
from ratinglab.formats.timestamps import detect_timestamp_format, parse_times_to_numpy
from ratinglab.formats.writing import keeps_input_dialect, write_table
from ratinglab.inference.fold_in_input import choose_column_names
from ratinglab.inference.folded_in import FoldedIn
from ratinglab.inference.recommender import Times
from ratinglab.inference.run import Run
from ratinglab.reports.table_layout import print_rows

BLOCK_ROWS = 1 << 18
"""Number of pairs held in memory at once."""
MAX_PRINTED = 20
"""Largest number of pairs printed without an output file."""
ParseTimes = Callable[[TextTable], Times]
"""Function that parses the timestamps of a block of pairs."""


def predict(options: PredictOptions) -> None:
    """Print the pairs of a file with their predicted ratings, or write them to a file, atomically.

    Raises:
        UserError: a file cannot be read or written, or a cell is invalid.
    """
    file = find_file(options.input, key="input")
    given = read_fold_in(options)
    inputs = [file.path, *paths_of(given)]
    output = None if options.output is None else check_table_path(options.output, inputs=inputs)
    run, notes = load_run(options.run)
    run.record.check_predicts_ratings()
    folded, fold_in_notes = fold_in(run, given, options.columns, user_id=None)
    pairs = open_table(options, file)  # last, because it may read ahead
    columns = choose_column_names(pairs.schema.names, run.record, requested=options.columns.by_role())
    if folded is not None and folded.is_anonymous and columns["user"] in pairs.schema.names:
        raise UserError(
            f"{file} has a column {columns['user']!r}, but the ratings belong to a single new user: give ratings "
            "with a user column, or pairs without one"
        )
    schema = _extend_schema(pairs, has_deviation=run.record.is_sampled or folded is not None)
    counts = Counter[Hashable]()
    parse_times, time_notes = _find_times(pairs.schema.names, options, run) if folded is None else (None, [])
    predict_block = partial(_predict_block, run=run, folded=folded, columns=columns, parse_times=parse_times)
    predicted = _append_predictions(pairs, predict_block, schema, counts)
    if output is None:
        _print_first(predicted, counts)
    else:
        dialect = pairs.dialect if keeps_input_dialect(output, file) else None
        header = pairs.dialect is None or pairs.dialect.has_header
        write_table(output, schema, predicted, dialect=dialect, header=header)
        print_notes(output, f"{format_count(counts.total(), 'prediction')} in {output}")
    notes += [f"note: {note}" for note in (*time_notes, *pairs.notes, *fold_in_notes)]
    for side in ("user", "item"):
        count = counts[f"{side}_unknown"] + counts["both_unknown"]
        if count > 0:
            predicted_pairs = format_count(count, "pair")
            notes.append(f"note: the bias baseline predicts {predicted_pairs}: the {side} has no training ratings")
    print_notes(output, *notes)


def _extend_schema(pairs: OpenTable, *, has_deviation: bool) -> pa.Schema:
    """Append the columns of the predictions to the columns of the pairs."""
    dtypes = {"prediction": pa.float32(), "standard_deviation": pa.float32(), "basis": pa.string()}
    if not has_deviation:
        del dtypes["standard_deviation"]
    schema = pairs.schema
    for name, dtype in dtypes.items():
        if name in schema.names:
            raise UserError(f"{pairs.file} already has a column '{name}'")
        schema = schema.append(pa.field(name, dtype))
    return schema


def _predict_block(
    block: TextTable, *, run: Run, folded: FoldedIn | None, columns: Mapping[str, str], parse_times: ParseTimes | None
) -> pd.DataFrame:
    """Predict the pairs of a block by the run, or by the folded-in users and items."""
    items = block.ids(columns["item"], key="columns.item", side="item").to_pandas()
    if folded is not None and folded.is_anonymous:
        return folded.predict_table(items)
    users = block.ids(columns["user"], key="columns.user", side="user").to_pandas()
    if folded is not None:
        return folded.predict_table(items, user_ids=users)
    return run.predict_table(users, items, times=None if parse_times is None else parse_times(block))


def _append_predictions(
    pairs: OpenTable, predict_block: Callable[[TextTable], pd.DataFrame], schema: pa.Schema, counts: Counter[Hashable]
) -> Iterator[pa.Table]:
    """Yield blocks of the pairs with their predictions, and count each `basis` in `counts`."""
    for block in pairs.blocks(BLOCK_ROWS):
        predicted = predict_block(block)
        counts.update(predicted["basis"].value_counts().to_dict())
        columns = pa.Table.from_pandas(predicted, preserve_index=False).columns
        yield pa.table([*block.content.columns, *columns], names=schema.names).cast(schema)


def _print_first(predicted: Iterator[pa.Table], counts: Counter[Hashable]) -> None:
    """Print the first pairs, and how many more there are."""
    first = next(predicted).slice(0, MAX_PRINTED)
    for _ in predicted:
        pass  # the iterator counts the other pairs
    print_rows(first.to_pandas())
    if counts.total() > len(first):
        print(f"note: {counts.total() - len(first):,} more pairs: set output=FILE to write all of them")


def _find_times(names: Sequence[str], options: PredictOptions, run: Run) -> tuple[ParseTimes | None, list[str]]:
    """Find the function that parses the timestamps of pairs. Also returns a note if the options do not name a column.

    The function is None if the options name no column and the model takes no days or the file lacks the run's column.
    """
    column, trained_column = options.columns.timestamp, run.record.provenance["columns"].get("timestamp")
    notes = list[str]()
    if column is None and run.predictor.model.takes_day:
        if trained_column in names:
            column = trained_column
            notes.append(f"predicted for the timestamps in the column {column}, named as in the training data")
        else:
            day = "each user's last training day"
            notes.append(f"no timestamps: predicted for {day}; columns.timestamp=NAME names their column")
    trained_format = run.record.provenance["timestamp_format"] if column == trained_column else None
    parse = None if column is None else _time_parser(column, options.timestamp_format or trained_format)
    return parse, notes


def _time_parser(column: str, pattern: str | None) -> ParseTimes:
    """Return a function that parses the timestamps of successive blocks, in the format of the first timestamp.

    It raises UserError if a cell is not a timestamp in that format.
    """
    first: str | None = None

    def parse(block: TextTable) -> Times:
        nonlocal pattern, first
        texts = block.column(column, key="columns.timestamp")
        times = parse_times_to_numpy(texts, pattern=pattern, place=lambda row: block.place(row, column), first=first)
        if first is None and texts:
            pattern = pattern or detect_timestamp_format(texts)
            first = texts[0]
        return times

    return parse
