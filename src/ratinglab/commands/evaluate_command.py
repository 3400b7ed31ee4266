"""Recompute the metrics of a run, and compare them with its metrics.json."""

from collections.abc import Mapping

from ratinglab.commands.command_inputs import load_run, print_notes
from ratinglab.commands.command_options import EvaluateOptions
from ratinglab.evaluation.list_options import OrderOptions
from ratinglab.inference.run_evaluation import evaluate_lists
from ratinglab.reports.results import NO_RESULTS, tabulate_lists, tabulate_metrics
from ratinglab.runs.record import find_largest_difference, read_metrics
from ratinglab.runs.run_files import METRICS

MAX_ROUNDING = 1e-4
"""Largest difference in a metric that another processor or library version can cause; relative for metrics above 1."""


def evaluate(options: EvaluateOptions) -> None:
    """Recompute and print a run's metrics on its validation and test rows, and compare them with its metrics.json.

    With ranking.k, also measures lists, and compares them if the run ordered its lists in the same way. For a model
    that predicts scores, measures the run's own lists by default.
    """
    run, notes = load_run(options.run)
    record, provenance = run.record, run.record.provenance
    metrics = run.evaluate()
    k = options.ranking.k
    order: OrderOptions = options.ranking
    recorded_order = record.order_options()
    thresholds = {record.stars.liked_threshold(value) for value in (order.threshold, recorded_order.threshold)}
    is_same_order = (record.predicts_scores or order.by is recorded_order.by) and len(thresholds) == 1
    list_metrics = {} if k is None else evaluate_lists(run, k, order, parts=("val", "test"))
    if record.predicts_scores and k is None:  # there is nothing else to measure
        list_metrics = run.evaluate_own_ranking(parts=("val", "test"))
        order, is_same_order = recorded_order, True
    print_notes(None, *notes)
    print(f"{record.model} on {provenance['data']}, split {provenance['split']}, seed {provenance['seed']}")
    for line in (*tabulate_metrics(metrics, record), *tabulate_lists(list_metrics, run.tables, order=order)):
        print(line)
    if not metrics and not list_metrics:
        print(NO_RESULTS)
    if not (run.folder / METRICS).is_file():
        print("nothing to compare: the run has not finished (no metrics.json)")
        return
    if is_same_order:
        metrics |= {tag: value for tag, value in list_metrics.items() if "@" in tag}
    print(_compare_with_recorded(metrics, read_metrics(run.folder), measures_lists=bool(list_metrics)))


def _compare_with_recorded(metrics: Mapping[str, float], recorded: Mapping[str, float], *, measures_lists: bool) -> str:
    """Say how far metrics are from those in metrics.json, which lacks test errors for a validation fit."""
    largest = find_largest_difference(metrics, recorded)
    if largest is None:
        return "metrics.json has none of these metrics: nothing to compare"
    difference, tag = largest
    shared = metrics.keys() & recorded.keys()
    if difference == 0:
        subject = "the errors are " if measures_lists and not any("@" in name for name in shared) else ""
        return f"{subject}equal to metrics.json to the last digit"
    is_rounding = all(
        abs(metrics[name] - recorded[name]) <= MAX_ROUNDING * max(1, abs(recorded[name])) for name in shared
    )
    return f"{'' if is_rounding else 'warning: '}differs from metrics.json by at most {difference:.1e} ({tag})"
