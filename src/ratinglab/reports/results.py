"""Results of one run, in the lines that training and evaluation print."""

import re
from collections.abc import Iterator, Mapping

from ratinglab.errors import format_count
from ratinglab.evaluation.list_options import OrderOptions
from ratinglab.evaluation.ranking import METRIC_LABELS
from ratinglab.inference.run_evaluation import BASELINES, PART_LABELS, POPULARITY
from ratinglab.inference.run_tables import RunTables
from ratinglab.reports.table_layout import align, format_metric
from ratinglab.runs.record import RunRecord

NO_RESULTS = "note: no held-out rows were evaluated, so there are no results"
"""Line that replaces the tables of a run without held-out rows."""
MIN_COLD_ROWS = 10
"""Minimum number of cold rows for which the table has separate lines. Errors of fewer rows say little."""


def tabulate_metrics(values: Mapping[str, float], record: RunRecord) -> Iterator[str]:
    """Tabulate the metrics of the model and the baselines on each part, and on its warm and cold rows.

    Parts with fewer than MIN_COLD_ROWS cold rows have no lines for warm and cold rows. Yields nothing if `values` has
    no metrics of predicted ratings.
    """
    metrics = record.metric_kinds()
    if not metrics:  # a ranking model
        return
    systems = {"": record.model, **BASELINES}
    rows = [["", "", *(metric.label for metric in metrics)]]
    for part, label in PART_LABELS.items():
        for group in ("", "/warm", "/cold"):
            is_shown = group == "" or values.get(f"{part}/cold/rows", 0) >= MIN_COLD_ROWS
            if f"{part}{group}/mse" not in values or not is_shown:
                continue
            # on cold rows, the model predicts what the bias baseline predicts
            for prefix, name in (BASELINES if group == "/cold" else systems).items():
                cells = [format_metric(values.get(f"{prefix}{part}{group}/{metric.name}")) for metric in metrics]
                rows.append([f"{label}{group.replace('/', ' ')}", name, *cells])
    if len(rows) == 1:  # only the header
        return
    if record.noise_floor is not None:
        floor = {"mse": record.noise_floor, "rmse": record.noise_floor**0.5}
        rows.append(["", "noise floor", *(format_metric(floor.get(metric.name)) for metric in metrics)])
    yield from align(rows, right=range(2, 2 + len(metrics)))
    for part, label in PART_LABELS.items():
        if f"{part}/cold/rows" in values:
            num_cold = int(values[f"{part}/cold/rows"])
            are_cold, them = ("is cold: its", "it") if num_cold == 1 else ("are cold: their", "them")
            yield (
                f"note: {format_count(num_cold, f'{label} row')} {are_cold} user or item has no training "
                f"ratings, and the bias baseline predicts {them}"
            )


def tabulate_lists(values: Mapping[str, float], tables: RunTables, *, order: OrderOptions) -> Iterator[str]:
    """Tabulate the ranking metrics of the model and of the most popular items, one table per length of the lists.

    Also counts the measured users, and warns if the most popular items have a higher NDCG than the model on test rows
    (or, if these are not measured, on validation rows). Yields nothing if `values` has no ranking metrics.
    """
    record = tables.record
    lengths = sorted({int(match[1]) for tag in values if (match := re.fullmatch(r"(?:val|test)/ndcg@(\d+)", tag))})
    for k in lengths:
        rows = [[f"top {k}", "", *METRIC_LABELS.values()]]
        for part, label in PART_LABELS.items():
            for prefix, name in (("", record.model), (POPULARITY, "most popular")):
                if f"{prefix}{part}/ndcg@{k}" in values:
                    cells = [format_metric(values.get(f"{prefix}{part}/{metric}@{k}")) for metric in METRIC_LABELS]
                    rows.append([label, name, *cells])
        yield from align(rows, right=range(2, 2 + len(METRIC_LABELS)))
    by = "score" if record.predicts_scores else order.by.value.replace("_", " ")
    for part, label in PART_LABELS.items():
        if f"{part}/ranked_users" in values:
            ranked = format_count(int(values[f"{part}/ranked_users"]), "user")
            irrelevant, untrained = values[f"{part}/users_without_relevant"], values[f"{part}/users_without_training"]
            liked = tables.lowest_liked(order.threshold)
            yield (
                f"lists      {label}: by {by}, {ranked}; left out: {irrelevant:,} without a {label} rating of at "
                f"least {liked:g}, {untrained:,} without training ratings"
            )
    for k in lengths:
        part = "test" if f"test/ndcg@{k}" in values else "val"
        model, popular = values[f"{part}/ndcg@{k}"], values[f"{POPULARITY}{part}/ndcg@{k}"]
        if _is_visibly_above(popular, model):
            yield (
                f"warning: the lists of {record.model} are worse than the most popular items on {PART_LABELS[part]} "
                f"rows: NDCG@{k} {model:.4f} against {popular:.4f}"
            )


def _describe_fit(values: Mapping[str, float], record: RunRecord) -> str:
    """Describe the seconds, the epochs and the speed of a fit.

    With split.refit, the fit is the refit, except that the seconds are the sum over both fits.
    """
    seconds, epochs = f"{values['fit/seconds']:.1f} s", format_count(int(values["fit/epochs"]), "epoch")
    speed = f"{values['fit/ratings_per_second']:,.0f} ratings/s"
    if record.refit_epochs is not None:
        refit = f"{epochs}, {speed}" if record.refit_epochs > 0 else epochs
        return f"fit        {seconds} for both fits; refit: {refit}"
    if not record.is_sampled:  # a sampler averages its samples, so no epoch is the best
        epochs += f", best after {values['fit/best_epoch']}"
    return f"fit        {seconds}, {epochs}; {speed}"


def _is_visibly_above(value: float, other: float) -> bool:
    """Return whether a metric is above another one, and not only in decimals that are not printed."""
    return value > other and format_metric(value) != format_metric(other)


def describe_results(values: Mapping[str, float], tables: RunTables) -> Iterator[str]:
    """Yield the tables of a finished run's metrics, the time of its fit, and warnings."""
    record = tables.record
    yield from tabulate_metrics(values, record)
    yield from tabulate_lists(values, tables, order=record.order_options())
    if not any(tag.startswith(("val/", "test/")) for tag in values):
        yield NO_RESULTS
    if record.refit_epochs is not None:
        tested = "; the test results come from the refit" if any(tag.startswith("test/") for tag in values) else ""
        reason = "because the refit trained on the validation rows"
        yield f"note: the validation results come from the first fit, {reason}{tested}"
    yield _describe_fit(values, record)
    if values["fit/best_epoch"] == 0:
        yield f"warning: no epoch beat the initial weights' {record.monitor}, so the run keeps them"
    if record.predicts_scores:
        return
    part, label = ("test", "test") if "test/mse" in values else ("val", "validation")
    if f"{part}/mse" not in values:
        return
    model_mse, bias_mse = values[f"{part}/mse"], values[f"baseline/bias/{part}/mse"]
    if f"{part}/coverage_90" in values:
        share = values[f"{part}/coverage_90"]
        yield f"intervals  {share:.1%} of the warm {label} ratings lie in their 90% prediction interval"
    if record.noise_floor is not None and model_mse <= bias_mse:
        closed = (bias_mse - model_mse) / (bias_mse - record.noise_floor)
        yield f"gap        {closed:.0%} closed, from the bias baseline to the noise floor"
    if _is_visibly_above(model_mse, bias_mse) and values["fit/best_epoch"] > 0:  # initial weights have a warning above
        yield (
            f"warning: {record.model} is worse than the bias baseline on {label} rows: "
            f"MSE {model_mse:.4f} against {bias_mse:.4f}"
        )
