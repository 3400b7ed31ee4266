"""The record of a new run: settings, data, versions, commit, protocol."""

import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from llvmlite.binding import get_host_cpu_name

from ratinglab.datamodule import RatingDataModule
from ratinglab.evaluation.metrics import find_metrics
from ratinglab.evaluation.protocol_options import Protocol
from ratinglab.options import group_to_plain, to_plain
from ratinglab.runs.record import Provenance, RunRecord
from ratinglab.splits.split import VALIDATION, Split
from ratinglab.splits.split_ratings import SplitRatings
from ratinglab.training.train_options import TrainOptions

PACKAGES = (
    "ratinglab", "torch", "pytorch-lightning", "numba", "numpy", "scipy", "pandas", "pyarrow", "hydra-core", "omegaconf"
)  # fmt: skip
"""Packages that can change the weights, the splits or the options of a run."""
STEP_KEYS = "limit_train_batches accumulate_grad_batches gradient_clip_val min_epochs check_val_every_n_epoch".split()
"""Keys of the Trainer that affect the weights. The number of epochs is recorded separately."""


def make_record(
    options: TrainOptions,
    data: RatingDataModule,
    ratings: SplitRatings,
    *,
    command: Sequence[str],
    refit_epochs: int | None,
) -> RunRecord:
    """Make the record of a run before it is trained. `refit_epochs` is None except for a refit."""
    table, model = ratings.table, options.model
    needs = model.needs()
    side_digests = table.side_digests(needs)
    departures = describe_departures(
        options,
        data_digest=table.digest,
        side_digests=table.side_digests(needs._replace(days=True)) if options.split.uses_times else side_digests,
        split=ratings.split,
    )
    return RunRecord(
        model=model.name,
        model_target=f"{type(model).__module__}.{type(model).__qualname__}",
        model_options=to_plain(model),
        num_users=data.num_users,
        num_items=data.num_items,
        rating_mean=data.rating_mean,
        scale=ratings.scale if options.clip_predictions and not model.predicts_scores else None,
        fitted_scale=data.stars,
        noise_floor=table.noise_floor,
        max_epochs=options.trainer.max_epochs,
        provenance=_collect_provenance(options, ratings, command=command, side_digests=side_digests),
        refit_epochs=refit_epochs,
        is_sampled=options.optimizer.keeps_samples,
        fit={
            **group_to_plain("optimizer", options.optimizer),
            **group_to_plain("schedule", options.schedule),
            "batch_size": data.batch_size,
            **to_plain(options.callbacks.early_stopping),
            "clip_predictions": options.clip_predictions,
            **{key: getattr(options.trainer, key) for key in STEP_KEYS},
        },
        fold=options.split.chosen_fold,
        protocol=make_protocol_record(options, departures),
        metrics=[] if model.predicts_scores else make_metric_records(options.metrics),
        monitor=options.monitor,
        ranking=to_plain(options.ranking) | to_plain(options.order),
        predicts_scores=model.predicts_scores,
        max_time=options.trainer.max_time,
        id=token_hex(8),
        started_with={},  # filled in once Hydra has written its files
        split=group_to_plain("split", options.split),
    )


def make_metric_records(targets: Sequence[str]) -> list[dict[str, Any]]:
    """Make the entries of run.json for these metrics."""
    return [
        {"target": target, "name": kind.name, "label": kind.label, "higher_is_better": kind.higher_is_better}
        for target, kind in zip(targets, find_metrics(targets), strict=True)
    ]


def _collect_provenance(
    options: TrainOptions, ratings: SplitRatings, *, command: Sequence[str], side_digests: dict[str, str]
) -> Provenance:
    """Collect the command, the data and the environment of a run."""
    checkout = Path(__file__).resolve().parents[3]
    # ignore any other repository around the environment where ratinglab is installed
    is_checkout = _git(checkout, "rev-parse", "--show-toplevel") == str(checkout)
    status = _git(checkout, "status", "--porcelain") if is_checkout else None
    return {
        "command": list(command),
        "seed": options.seed,
        "from": options.from_,
        "data": ratings.table.name,
        "columns": options.data.column_names(),
        "timestamp_format": options.data.default_timestamp_format,
        "data_digest": ratings.table.digest,
        "side_digest": ratings.side_information.digest(),
        "split": ratings.split.identity,
        "threads": torch.get_num_threads(),
        "git_commit": _git(checkout, "rev-parse", "HEAD") if is_checkout else None,
        "git_dirty": None if status is None else status != "",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": get_host_cpu_name(),
        "versions": {name: version(name) for name in PACKAGES},
        "side_digests": side_digests,
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command, or None if it fails, such as outside a checkout."""
    try:
        process = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, encoding="utf-8", check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


def make_protocol_record(options: TrainOptions, departures: Iterable[str]) -> dict[str, Any] | None:
    """Make the entry of run.json for the protocol of a run. Returns None for a run without a protocol."""
    protocol = options.protocol
    if not isinstance(protocol, Protocol):
        return None
    references = [
        asdict(reference) | {"kind": reference.kind.value, "uses": [use.value for use in reference.uses]}
        for reference in protocol.references
    ]
    return {
        "title": protocol.title,
        "metric": protocol.metric,
        "folds": protocol.folds,
        "figures": references,
        "uses": [use.value for use in options.model.needs().information()],
        "departures": list(departures),
    }


def describe_departures(
    options: TrainOptions, *, data_digest: str, side_digests: Mapping[str, str], split: Split
) -> Iterator[str]:
    """Describe each departure of a run from its protocol, if it has a protocol.

    Using timestamps or features that the protocol does not pin is a departure. So is a final fit without the validation
    rows, unless the protocol holds them out. `side_digests` holds the digests of the timestamps and features
    that the equation and the split use; see RatingTable.side_digests.
    """
    protocol = options.protocol
    if not isinstance(protocol, Protocol):
        return
    for key, pinned in protocol.pins.items():
        if (value := _look_up(options, key)) != pinned:
            yield f"{key} is {value}, but the protocol requires {pinned}"
    if protocol.num_ratings not in (None, len(split.part)):
        yield f"there are {len(split.part):,} ratings, but the protocol has {protocol.num_ratings:,}"
    if protocol.data_digest not in (None, data_digest):
        yield "the ratings or their order differ from the protocol's"
    for name, digest in side_digests.items():
        kind, _, column = name.partition(".")
        label = f"the {kind.replace('_features', ' feature')} {column}" if column else "the timestamps"
        if name not in protocol.side_digests:
            yield f"the protocol does not pin {label}"
        elif digest != protocol.side_digests[name]:
            yield f"{label} {'differs' if column else 'differ'} from the protocol's"
    held_out = 0 if protocol.pins.get("split.validation") else split.count(VALIDATION)
    if held_out > 0 and not options.split.refit:
        yield f"{held_out:,} rows were held out for validation and not trained on"


def _look_up(options: TrainOptions, key: str) -> Any:
    """Look up the plain value of a key such as split.seed; "not set" if the chosen groups do not have the key."""
    value: Any = options
    for name in key.split("."):
        value = getattr(value, name, "not set")
    return value.name if isinstance(value, Enum) else value
