"""Use a trained run: evaluate, recommend, predict."""

from pathlib import Path
from typing import IO

import pandas as pd

from ratinglab.errors import UserError
from ratinglab.evaluation.metrics import find_metrics
from ratinglab.experiment.root_options import EvaluateOptions, PredictOptions, RecommendOptions
from ratinglab.files import user_path, write_whole
from ratinglab.ratings.inputs import TextForm
from ratinglab.ratings.reading import existing_file
from ratinglab.ratings.sources import separator_text
from ratinglab.ratings.text_tables import read_text_table, text_column
from ratinglab.ratings.timestamps import times_of_texts
from ratinglab.reports.results import metrics_table
from ratinglab.runs.record import read_metrics
from ratinglab.runs.run import Run

NUM_RATED_SHOWN = 5
"""Of the user's own ratings, beside the recommendations."""


def evaluate(options: EvaluateOptions) -> None:
    """Recompute a run's metrics on its own validation and test rows, and print them beside its metrics.json.

    Raises:
        UserError: there is no such run, or it is damaged.
    """
    run = Run.load(options.run)
    metrics = run.evaluate()
    came_from = run.record.provenance
    print(f"{run.record.model} of {came_from['data']}, split {came_from['split']}, seed {came_from['seed']}")
    kinds = find_metrics(run.record.metrics)
    for line in metrics_table(metrics, model=run.record.model, metrics=kinds, noise_floor=run.record.noise_floor):
        print(line)
    path = run.folder / "metrics.json"
    if not path.is_file():
        print("metrics.json is missing: the run has not finished")
        return
    recorded = read_metrics(run.folder)
    # the first fit of two records no test errors
    differences = [(abs(value - recorded[tag]), tag) for tag, value in metrics.items() if tag in recorded]
    difference, tag = max(differences, default=(0.0, ""))
    if difference == 0:
        print("equal to metrics.json to the last digit")
    else:
        print(f"differs from metrics.json by at most {difference:.1e} ({tag})")


def recommend(options: RecommendOptions) -> None:
    """Print what a user rated highest and the items to recommend, or write them to a file, for one user or all.

    Raises:
        UserError: there is no such run, or it is damaged, or the file cannot be written.
    """
    output = None if options.output is None else _output_path(options.output)
    run = Run.load(options.run)
    if options.user is None:
        assert output is not None
        recommended = run.recommend_to_all(k=options.k)
        _write(output, recommended.rename(columns={"rating": "prediction"}), TextForm(",", "utf-8"))
        print(f"{len(recommended):,} recommendations to {recommended['user_id'].nunique():,} users in {output}")
        return
    if not run.trained_users([options.user])[0]:
        print(f"note: user {options.user} has no training ratings; this is the bias baseline's ranking, for anyone")
    rated = run.rated_highest(options.user, k=NUM_RATED_SHOWN)
    if len(rated) > 0:
        print(f"user {options.user} rated highest")
        _print_items(rated.drop(columns="rank"), rating_name="rating")
        print()
    recommended = run.recommend(options.user, k=options.k)
    if output is not None:
        rows = recommended.rename(columns={"rating": "prediction"})
        rows.insert(0, "user_id", options.user)
        _write(output, rows, TextForm(",", "utf-8"))
    print(f"recommended to user {options.user}")
    _print_items(recommended, rating_name="predicted")
    if len(recommended) < options.k:
        print(f"note: {len(recommended)} of {options.k}: no other item has training ratings and is new to the user")


def predict(options: PredictOptions) -> None:
    """Write the pairs of a file with their predicted ratings, whole or not at all.

    Raises:
        UserError: the run, the input or its columns are wrong, or the output cannot be written.
    """
    file = existing_file(options.input, key="input")
    output = _output_path(options.output)
    run = Run.load(options.run)
    form = TextForm(separator_text(options.separator, key="separator"), options.encoding)
    pairs = read_text_table(file, form, header=True)
    user_ids = text_column(pairs, options.columns.user, key="columns.user", file=file)
    item_ids = text_column(pairs, options.columns.item, key="columns.item", file=file)
    for what, ids in (("user", user_ids), ("item", item_ids)):
        if "" in ids:
            raise UserError(f"{file}, row {ids.index('') + 1} after the header: the {what} id must not be blank")
    times = None
    if options.columns.timestamp is not None:
        texts = text_column(pairs, options.columns.timestamp, key="columns.timestamp", file=file)
        times = times_of_texts(texts, place=lambda row: f"{file}, row {row + 1} after the header")
    for column in ("prediction", "standard_deviation") if run.record.is_sampled else ("prediction",):
        if column in pairs.column_names:
            raise UserError(f"{file} has a column '{column}' already")
    predicted = run.predict(user_ids, item_ids, times=times)
    predictions = pairs.to_pandas().assign(prediction=predicted)
    if run.record.is_sampled:
        predictions["standard_deviation"] = run.deviation(user_ids, item_ids, times=times)
    _write(output, predictions, form)
    print(f"{len(predicted):,} predictions in {output}")
    if run.takes_days and times is None:
        print("note: no times: each user is as on the last day in training; columns.timestamp names their column")
    for what, trained in (("user", run.trained_users(user_ids)), ("item", run.trained_items(item_ids))):
        if not trained.all():
            print(f"note: in {(~trained).sum():,} rows the {what} has no training ratings: the bias baseline spoke")


def _output_path(name: str) -> Path:
    path = user_path(name, key="output")
    if not path.parent.is_dir():
        raise UserError(f"output: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"output must be a file, got the folder {name}")
    return path


def _write(path: Path, table: pd.DataFrame, form: TextForm) -> None:
    try:
        write_whole(path, lambda file: _write_table(file, table, form))
    except OSError as error:
        raise UserError(f"output: {path} cannot be written: {error.strerror or error}") from error


def _write_table(output: IO[bytes], table: pd.DataFrame, form: TextForm) -> None:
    if form.is_quoted:
        table.to_csv(output, sep=form.separator, encoding=form.encoding, index=False)
        return
    separator = " " if form.separator == "spaces" else form.separator  # to_csv knows those of one byte alone
    lines = [separator.join(row) for row in (list(table.columns), *table.astype(str).to_numpy().tolist())]
    output.write(("\n".join(lines) + "\n").encode(form.encoding))


def _print_items(items: pd.DataFrame, *, rating_name: str) -> None:
    shown = items.assign(rating=items["rating"].map("{:.2f}".format)).rename(columns={"rating": rating_name})
    columns = [[name, *shown[name].astype(str)] for name in shown.columns]
    widths = [max(len(cell) for cell in column) for column in columns]
    for row in zip(*columns, strict=True):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
