"""The record of a run: run.json and metrics.json. Imports nothing slow."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ratinglab.errors import RunFailedError, UserError
from ratinglab.evaluation.list_options import OrderBy, OrderOptions
from ratinglab.evaluation.metric_kinds import MetricAtK, MetricKind, find_monitored_metric, parse_metric_at_k
from ratinglab.files import suggest_sibling, to_json
from ratinglab.models.equation_options import EquationOptions
from ratinglab.options import check_options, from_plain
from ratinglab.runs.digests import check_file, read_digests, write_with_digests
from ratinglab.runs.run_files import METRICS, RUN_FORMAT, RUN_RECORD
from ratinglab.stars import Stars
from ratinglab.targets import target_class

Provenance = TypedDict(
    "Provenance",
    {
        "command": list[str],  # the command line
        "seed": int,
        "from": str | None,  # folder of the run that the weights started from
        "data": str,  # name of the data
        "columns": Mapping[str, str],  # column names by role; {} if the data have no names
        "timestamp_format": str | None,  # data.timestamp_format, or None if it was detected
        "data_digest": str,
        "side_digest": str | None,  # digest of the timestamps and features that the equation needs, if any
        "split": str,  # identity of the split
        "threads": int,
        "git_commit": str | None,  # None outside a checkout
        "git_dirty": bool | None,
        "python": str,
        "platform": str,
        "cpu": str,  # the kind of processor, for which numba compiles
        "versions": dict[str, str],  # by package
        "side_digests": dict[str, str],  # digest of the timestamps and of each feature, by name
    },
)
"""Origin of a run: its command, data and environment."""


@dataclass(frozen=True)
class RunRecord:
    """Contents of run.json."""

    # the data
    provenance: Provenance
    split: dict[str, Any]  # name and options of the split
    fold: int | None  # fold of the split; None for a split without folds
    num_users: int  # number of users with training rows
    num_items: int  # number of items with training rows
    rating_mean: float  # mean of the training ratings, in rating units
    scale: tuple[float, float] | None  # range that predictions are clipped to; None if they are not clipped
    fitted_scale: tuple[float, float]  # the ratings of 1 and of 5 stars
    noise_floor: float | None  # MSE of a perfect model; None unless the data are synthetic

    # the model
    model: str  # name of the equation
    model_target: str  # dotted path of its options class
    model_options: dict[str, Any]  # values of these options
    predicts_scores: bool  # whether the model predicts ranking scores instead of ratings
    is_sampled: bool  # whether the run holds samples of the weights and averages their predictions

    # the fit
    fit: dict[str, Any]  # optimizer and schedule with their options, and other settings that affect the weights
    max_epochs: int  # number of epochs after which the fit ends, unless it stops early
    max_time: str | None  # time limit of the fit as DD:HH:MM:SS, if any
    refit_epochs: int | None  # number of epochs of a refit, on training and validation rows; None for any other fit

    # the evaluation
    metrics: list[dict[str, Any]]  # target (name in the options), name, label and higher_is_better of each metric
    monitor: str  # validation metric that selects the best epoch
    ranking: dict[str, Any]  # options of the measured lists: k, by and threshold
    protocol: dict[str, Any] | None  # its references, and the run's departures from it; None without a protocol

    # the folder
    id: str  # random text, which the checkpoints repeat
    started_with: dict[str, str]  # contents of Hydra's files about the start of the run, by name
    format_version: int = RUN_FORMAT

    @property
    def stars(self) -> Stars:
        """The scale on which the model was fitted."""
        return Stars(*self.fitted_scale)

    @property
    def is_validation_fit(self) -> bool:
        """Whether the fit only finds the number of epochs for a refit."""
        return bool(self.split["split.refit"]) and self.refit_epochs is None

    def check_predicts_ratings(self) -> None:
        """Raise UserError for a model that predicts scores."""
        if self.predicts_scores:
            raise UserError(f"run: {self.model} predicts ranking scores, not ratings")

    @property
    def baseline_list(self) -> str:
        """Description of the list for a user without training ratings, with unknown=baseline."""
        return "the most popular items" if self.predicts_scores else "the bias baseline's list"

    @property
    def has_own_classes(self) -> bool:
        """Whether the equation or a metric is the user's own."""
        targets = [self.model_target, *(metric["target"] for metric in self.metrics)]
        return any("." in target and not target.startswith("ratinglab.") for target in targets)

    def metric_kinds(self) -> list[MetricKind]:
        """List the names and directions of the metrics of every part, without importing user modules."""
        return [MetricKind(metric["name"], metric["label"], metric["higher_is_better"]) for metric in self.metrics]

    def monitored_metric(self) -> MetricKind:
        """Find the metric that selects the best epoch."""
        return find_monitored_metric(self.monitor, self.metric_kinds())

    def order_options(self) -> OrderOptions:
        """Return the order of the measured lists."""
        return OrderOptions(OrderBy(self.ranking["by"]), self.ranking["threshold"])

    def monitor_settings(self) -> dict[str, Any]:
        """Return the settings that runs must share for their monitored metrics to be comparable."""
        is_ranking = isinstance(self.monitored_metric(), MetricAtK)
        return {"monitor": self.monitor} | ({"ranking.threshold": self.ranking["threshold"]} if is_ranking else {})

    def list_lengths(self) -> list[int]:
        """List the lengths of the measured lists: ranking.k, and k of the monitored and the protocol metric."""
        names = [self.monitor.removeprefix("val/"), *([] if self.protocol is None else [self.protocol["metric"]])]
        metrics = [metric for name in names if (metric := parse_metric_at_k(name)) is not None]
        return sorted({self.ranking["k"], *(metric.k for metric in metrics)} - {None})

    def equation_options(self, *, place: str = RUN_RECORD) -> EquationOptions:
        """Rebuild the equation's options; messages begin with `place`.

        Raises:
            UserError: the options class cannot be imported or has other options, or a value is out of range.
        """
        cls = target_class(self.model_target, base=EquationOptions, key=f"{place}: model_target")
        try:
            options: EquationOptions = from_plain(self.model_options, cls)
            check_options(options, prefix="model_options.")
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
        except KeyError as error:
            raise UserError(f"{place} is damaged: model_options has the unknown value {error}") from error
        return options


def write_metrics(
    folder: Path, metrics: Mapping[str, float], *, monitor: str, written: Sequence[str] = ()
) -> dict[str, float]:
    """Write metrics.json, which marks the run as finished, and record the digests of it and of the `written` files.

    Drops metrics that are undefined for their rows, such as a correlation with constant predictions. Returns the
    metrics that it has written.

    Raises:
        RunFailedError: an MSE or the monitored metric is not finite.
    """
    for tag, value in metrics.items():
        if not math.isfinite(value) and (tag.endswith("/mse") or tag == monitor):
            raise RunFailedError(f"{tag} is {value}")
    defined = {tag: value for tag, value in metrics.items() if math.isfinite(value)}
    write_with_digests(folder, {METRICS: to_json(defined)}, written=written)
    return defined


def read_run_json(run: Path) -> dict[str, Any] | None:
    """Read run.json; return None if it is missing, because a run may have been stopped before it wrote the file.

    Raises:
        UserError: the file is damaged or has another format.
    """
    path = run / RUN_RECORD
    check_file(path)
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = content["format_version"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if version != RUN_FORMAT:
        raise UserError(f"{path} has format {version}; this version of ratinglab reads format {RUN_FORMAT}")
    return content


def read_record(folder: Path, *, key: str = "run") -> RunRecord:
    """Read run.json. Messages about the folder begin with `key`.

    Raises:
        UserError: the folder is not a run, or the file is damaged or has another format.
    """
    if folder.is_file():
        raise UserError(f"{key} must be a folder, got the file {folder}")
    if not folder.is_dir():
        raise UserError(f"{key}: there is no folder {folder}{suggest_sibling(folder)}")
    content = read_run_json(folder)
    if content is None:
        raise UserError(f"{key}: {folder} is not the folder of a run: it has no {RUN_RECORD}")
    try:
        scales = {name: content[name] and tuple(content[name]) for name in ("scale", "fitted_scale")}  # JSON has lists
        return RunRecord(**(content | scales))
    except (LookupError, TypeError) as error:
        raise UserError(f"{folder / RUN_RECORD} is damaged: {error}") from error


def has_finished(folder: Path) -> bool:
    """Return whether a run has written metrics.json, even if the file is lost."""
    return os.path.lexists(folder / METRICS) or METRICS in read_digests(folder)


def read_metrics(folder: Path) -> dict[str, float]:
    """Read metrics.json. Adds the RMSE of validation and test rows if the run does not list it.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / METRICS
    check_file(path)
    if not path.exists():
        raise UserError(f"{folder} has no {METRICS}: the run has not finished")
    metrics: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    for part in ("val", "test"):  # tables compare RMSE even if the metrics option does not list it
        if f"{part}/mse" in metrics:
            metrics.setdefault(f"{part}/rmse", metrics[f"{part}/mse"] ** 0.5)
    return metrics


def find_largest_difference(metrics: Mapping[str, float], recorded: Mapping[str, float]) -> tuple[float, str] | None:
    """Return the largest difference between metrics that both have, and its tag. Returns None if they share none."""
    return max(((abs(metrics[tag] - recorded[tag]), tag) for tag in metrics if tag in recorded), default=None)
