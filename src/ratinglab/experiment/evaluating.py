"""Recomputed metrics of a run."""

from ratinglab.experiment.root_options import EvaluateOptions
from ratinglab.reports.named_runs import named_run
from ratinglab.reports.results import metrics_table
from ratinglab.runs.record import read_metrics
from ratinglab.runs.run import Run


def evaluate(options: EvaluateOptions) -> None:
    """Recompute a run's metrics on its own validation and test rows, and compare them with its metrics.json.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    named = named_run(options.run)
    run = Run.load(named.folder)
    metrics = run.evaluate()
    record, provenance = run.record, run.record.provenance
    if named.remark is not None:
        print(named.remark)
    print(f"{record.model} on {provenance['data']}, split {provenance['split']}, seed {provenance['seed']}")
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
