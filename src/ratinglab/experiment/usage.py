"""Uses of a trained run: evaluate, recommend, predict. A missing, damaged or unwritable file raises UserError."""

import sys
from pathlib import Path
from typing import IO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ratinglab.errors import UserError
from ratinglab.experiment.root_options import EvaluateOptions, PairColumns, PredictOptions, RecommendOptions
from ratinglab.files import is_stream, output_path, write_output
from ratinglab.ratings.columnar import as_text
from ratinglab.ratings.input_paths import existing_file
from ratinglab.ratings.text_dialects import TextDialect
from ratinglab.ratings.text_tables import TextTable, read_text_table
from ratinglab.ratings.timestamps import times_of_texts
from ratinglab.reports.results import metrics_table
from ratinglab.reports.text_table import aligned
from ratinglab.runs.record import read_metrics
from ratinglab.runs.run import Run, Times

NUM_RATED_SHOWN = 5
"""Number of the user's own ratings shown above the recommendations."""
PREDICTED = ("prediction", "standard_deviation")
"""Columns that predictions add."""
CSV = TextDialect(",", "utf-8")
"""Dialect of the recommendations."""


def evaluate(options: EvaluateOptions) -> None:
    """Recompute a run's metrics on its own validation and test rows, and compare them with its metrics.json."""
    run = Run.load(options.run)
    metrics = run.evaluate()
    record, came_from = run.record, run.record.provenance
    print(f"{record.model} on {came_from['data']}, split {came_from['split']}, seed {came_from['seed']}")
    print(*metrics_table(metrics, record), sep="\n")
    if not (run.folder / "metrics.json").is_file():
        print("metrics.json is missing: the run has not finished")
        return
    recorded = read_metrics(run.folder)
    # the first fit of a refit run records no test errors
    differences = [(abs(value - recorded[tag]), tag) for tag, value in metrics.items() if tag in recorded]
    difference, tag = max(differences, default=(0.0, ""))
    if difference == 0:
        print("equal to metrics.json to the last digit")
    else:
        print(f"differs from metrics.json by at most {difference:.1e} ({tag})")


def recommend(options: RecommendOptions) -> None:
    """Recommend items to one user or all: print them below the user's highest ratings, or write them to a file."""
    output = None if options.output is None else output_path(options.output, key="output")
    run = Run.load(options.run)
    if options.user is not None:
        _recommend_to_one(run, options.user, output, k=options.k)
        return
    assert output is not None, "the options refuse all users without a file"
    recommended = run.recommend_to_all(k=options.k)
    _write(
        output, pa.Table.from_pandas(recommended.rename(columns={"rating": "prediction"}), preserve_index=False), CSV
    )
    users = recommended["user_id"].nunique()
    _remark(output, f"{len(recommended):,} recommendations to {users:,} users in {output}")


def _recommend_to_one(run: Run, user_id: str, output: Path | None, *, k: int) -> None:
    recommended = run.recommend(user_id, k=k)
    if output is not None:
        rows = recommended.rename(columns={"rating": "prediction"})
        rows.insert(0, "user_id", user_id)
        _write(output, pa.Table.from_pandas(rows, preserve_index=False), CSV)
        if is_stream(output):
            return
    if not run.trained_users([user_id])[0]:
        print(
            f"note: user {user_id} has no training ratings; showing the bias baseline's ranking, the same for everyone"
        )
    rated = run.rated_highest(user_id, k=NUM_RATED_SHOWN)
    if len(rated) > 0:
        print(f"user {user_id} rated highest")
        _print_items(rated.drop(columns="rank"), rating_name="rating")
        print()
    print(f"recommended to user {user_id}")
    _print_items(recommended, rating_name="predicted")
    if len(recommended) < k:
        print(f"note: only {len(recommended)} of {k}: the user has rated every other item with training ratings")


def predict(options: PredictOptions) -> None:
    """Write the pairs of a file with their predicted ratings, atomically."""
    file = existing_file(options.input, key="input")
    output = output_path(options.output, key="output", inputs=[file.path])
    run = Run.load(options.run)
    pairs = read_text_table(file, options.dialect(""), header=options.header)
    user_ids, item_ids, times = _columns_of_pairs(pairs, options.columns, pattern=options.timestamp_format)
    for column in ("prediction", "standard_deviation") if run.record.is_sampled else ("prediction",):
        if column in pairs.names:
            raise UserError(f"{file} already has a column '{column}'")
    predicted = run.predict(user_ids, item_ids, times=times)
    predictions = pairs.content.append_column("prediction", pa.array(predicted))
    if run.record.is_sampled:
        deviation = run.deviation(user_ids, item_ids, times=times)
        predictions = predictions.append_column("standard_deviation", pa.array(deviation))
    _write(output, predictions, pairs.dialect or CSV, header=pairs.header)
    _remark(output, f"{len(predicted):,} predictions in {output}")
    for note in pairs.notes:
        _remark(output, f"note: {note}")
    if run.predictor.model.takes_day and times is None:
        _remark(output, "note: no times given: using each user's last training day; set columns.timestamp")
    for what, trained in (("user", run.trained_users(user_ids)), ("item", run.trained_items(item_ids))):
        if not trained.all():
            count = (~trained).sum()
            note = f"note: predicted by the bias baseline, since the {what} has no training ratings: {count:,}"
            _remark(output, note)


def _columns_of_pairs(
    pairs: TextTable, columns: PairColumns, *, pattern: str | None
) -> tuple[list[str], list[str], Times | None]:
    """Extract the user ids, the item ids and, if their column is named, the times of the rows."""
    user_ids = pairs.ids(columns.user, key="columns.user", noun="user")
    item_ids = pairs.ids(columns.item, key="columns.item", noun="item")
    if columns.timestamp is None:
        return user_ids, item_ids, None
    name = columns.timestamp
    texts = pairs.column(name, key="columns.timestamp")
    return user_ids, item_ids, times_of_texts(texts, pattern=pattern, place=lambda row: pairs.place(row, name))


def _remark(output: Path, text: str) -> None:
    """Print a remark, on stderr if stdout may hold the output."""
    print(text, file=sys.stderr if is_stream(output) else sys.stdout)


def _write(path: Path, table: pa.Table, dialect: TextDialect, *, header: bool = True) -> None:
    """Write a table as Parquet if the path ends with .parquet, else as text."""

    def write(file: IO[bytes]) -> None:
        if path.suffix.lower() == ".parquet":
            pyarrow.parquet.write_table(table, file)
            return
        # text as it was, and integers beside nulls, which pandas would turn into floats
        texts = {name: as_text(table[name]) for name in table.column_names if name not in PREDICTED}
        frame = pd.DataFrame(texts | {name: table[name].to_numpy() for name in PREDICTED if name in table.column_names})
        if dialect.is_quoted:
            frame.to_csv(
                file,
                sep=dialect.separator,
                encoding=dialect.encoding,
                index=False,
                header=header,
                decimal=dialect.decimal,
                escapechar="\\" if dialect.escape else None,
            )
            return
        separator = (
            " " if dialect.separator == "spaces" else dialect.separator
        )  # to_csv supports only one-byte separators
        for name in frame.columns.intersection(list(PREDICTED)):
            frame[name] = frame[name].astype(str).str.replace(".", dialect.decimal)
        rows = frame.to_numpy().tolist()
        lines = [separator.join(row) for row in ([list(frame.columns)] if header else []) + rows]
        file.write(("\n".join(lines) + "\n").encode(dialect.encoding))

    write_output(path, write, key="output")


def _print_items(items: pd.DataFrame, *, rating_name: str) -> None:
    shown = items.assign(rating=items["rating"].map("{:.2f}".format)).rename(columns={"rating": rating_name})
    print(*aligned([list(shown.columns), *shown.astype(str).to_numpy().tolist()]), sep="\n")
