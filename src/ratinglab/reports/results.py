"""Results of one run, as lines of text."""

from collections.abc import Iterator, Mapping

from ratinglab.reports.text_table import aligned
from ratinglab.runs.record import RunRecord

SYSTEMS = (("", None), ("baseline/bias/", "bias baseline"), ("baseline/mean/", "mean baseline"))
"""Prefix of each system's tags, and its name; None stands for the model's name."""


def metrics_table(values: Mapping[str, float], record: RunRecord) -> Iterator[str]:
    """Tabulate the metrics of the model and the baselines on each part, and on its warm and cold rows."""
    metrics, parts = record.metric_kinds(), {"val": "validation", "test": "test"}
    rows = [["", "", *(metric.label for metric in metrics)]]
    for part, label in parts.items():
        for group in ("", "/warm", "/cold"):
            if f"{part}{group}/mse" not in values:
                continue
            for prefix, name in SYSTEMS:
                cells = [_cell(values.get(f"{prefix}{part}{group}/{metric.name}")) for metric in metrics]
                rows.append([f"{label}{group.replace('/', ' ')}", name or record.model, *cells])
    if record.noise_floor is not None:
        floor = {"mse": record.noise_floor, "rmse": record.noise_floor**0.5}
        rows.append(["", "noise floor", *(_cell(floor.get(metric.name)) for metric in metrics)])
    yield from aligned(rows, right=range(2, 2 + len(metrics)))
    for part, label in parts.items():
        if f"{part}/cold/rows" in values:
            yield (
                f"note: {values[f'{part}/cold/rows']:,} {label} rows are cold: their user or item has no training "
                "ratings, and the bias baseline predicts them"
            )


def _cell(value: float | None) -> str:
    """Format a value; blank if undefined."""
    return "" if value is None else f"{value:.4f}"


def results(values: Mapping[str, float], record: RunRecord) -> Iterator[str]:
    """Report the metrics, the time of the fit, and remarks."""
    yield from metrics_table(values, record)
    yield (
        f"fit        {values['fit/seconds']:.1f} s, {values['fit/epochs']} epochs, best after "
        f"{values['fit/best_epoch']}; {values['fit/ratings_per_second']:,.0f} ratings/s"
    )
    part, label = ("test", "test") if "test/mse" in values else ("val", "validation")
    if f"{part}/mse" not in values:
        return
    model_mse, bias_mse = values[f"{part}/mse"], values[f"baseline/bias/{part}/mse"]
    if f"{part}/coverage_90" in values:
        share = values[f"{part}/coverage_90"]
        yield f"interval   {share:.1%} of the warm {label} ratings lie in the 90 % interval of their prediction"
    if record.noise_floor is not None:
        closed = (bias_mse - model_mse) / (bias_mse - record.noise_floor)
        yield f"closed     {closed:.0%} of the gap from the bias baseline to the noise floor"
    if model_mse > bias_mse:
        yield (
            f"warning: {record.model} is worse than the bias baseline on {label} rows: "
            f"MSE {model_mse:.4f} against {bias_mse:.4f}"
        )
