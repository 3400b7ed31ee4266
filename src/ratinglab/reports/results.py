"""Results of one run, as lines of text."""

from collections.abc import Iterator, Mapping

from ratinglab.runs.record import RunRecord

SYSTEMS = (("", None), ("baseline/bias/", "bias baseline"), ("baseline/mean/", "mean baseline"))
"""Prefix of each system's tags, and its name; None stands for the model's name."""


def metrics_table(values: Mapping[str, float], record: RunRecord) -> Iterator[str]:
    """Tabulate the metrics of the model and the baselines on each part, and on its warm and cold rows."""
    model, metrics, noise_floor = record.model, record.metric_kinds(), record.noise_floor
    parts = {"val": "validation", "test": "test"}
    labels = {
        f"{part}{group}": f"{label}{group.replace('/', ' ')}"
        for part, label in parts.items()
        for group in ("", "/warm", "/cold")
        if f"{part}{group}/mse" in values
    }
    width = max([11, *(len(label) + 1 for label in labels.values())])
    widths = [max(9, len(metric.label) + 2) for metric in metrics]
    name_width = max(13, len(model) + 1)
    heads = "".join(f"{metric.label:>{size}}" for metric, size in zip(metrics, widths, strict=True))
    yield f"{'':{width + name_width}}{heads}"
    for tag, label in labels.items():
        for prefix, name in SYSTEMS:
            cells = "".join(
                _cell(values.get(f"{prefix}{tag}/{metric.name}"), size)
                for metric, size in zip(metrics, widths, strict=True)
            )
            yield f"{label:{width}}{name or model:{name_width}}{cells}"
    if noise_floor is not None:
        floor = {"mse": noise_floor, "rmse": noise_floor**0.5}
        cells = "".join(_cell(floor.get(metric.name), size) for metric, size in zip(metrics, widths, strict=True))
        yield f"{'':{width}}{'noise floor':{name_width}}{cells}".rstrip()
    for part, label in parts.items():
        if f"{part}/cold/rows" in values:
            yield (
                f"note: {values[f'{part}/cold/rows']:,} {label} rows are cold: their user or item has no training "
                "ratings, and the bias baseline predicts them"
            )


def _cell(value: float | None, width: int) -> str:
    """Format a value; blank if undefined."""
    return " " * width if value is None else f"{value:{width}.4f}"


def results(values: Mapping[str, float], record: RunRecord) -> Iterator[str]:
    """Report the metrics, the time of the fit, and remarks."""
    yield from metrics_table(values, record)
    yield (
        f"fit        {values['fit/seconds']:.1f} s, {values['fit/epochs']} epochs, best after "
        f"{values['fit/best_epoch']}; {values['fit/ratings_per_second']:,.0f} ratings/s"
    )
    part = "test" if "test/mse" in values else "val"
    if f"{part}/mse" not in values:
        return
    model_mse, bias_mse = values[f"{part}/mse"], values[f"baseline/bias/{part}/mse"]
    if f"{part}/coverage_90" in values:
        share = values[f"{part}/coverage_90"]
        yield f"interval   {share:.1%} of the warm {part} ratings lie in the 90 % interval of their prediction"
    if record.noise_floor is not None:
        closed = (bias_mse - model_mse) / (bias_mse - record.noise_floor)
        yield f"closed     {closed:.0%} of the gap from the bias baseline to the noise floor"
    if model_mse > bias_mse:
        yield (
            f"warning: {record.model} is worse than the bias baseline on {part}: "
            f"MSE {model_mse:.4f} against {bias_mse:.4f}"
        )
