"""Build a run's record from its options and data."""

from enum import Enum
from typing import Any

from ratinglab.datamodule import RatingDataModule
from ratinglab.experiment.provenance import provenance
from ratinglab.experiment.root_options import TrainOptions
from ratinglab.options import to_plain
from ratinglab.ratings.holdout import Holdout
from ratinglab.ratings.splits import VALIDATION, Split
from ratinglab.reports.protocols import Protocol, record_of
from ratinglab.runs.record import RunRecord, metric_records

STEP_KEYS = (
    "limit_train_batches",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "min_epochs",
    "check_val_every_n_epoch",
)
"""Trainer keys that affect the weights, besides the number of epochs."""


def record_run(
    options: TrainOptions, data: RatingDataModule, holdout: Holdout, *, refit_epochs: int | None
) -> RunRecord:
    """Make the record of a run before it is trained."""
    table, model = holdout.table, options.model
    return RunRecord(
        model=model.name,
        model_target=f"{type(model).__module__}.{type(model).__qualname__}",
        model_options=to_plain(model),
        num_users=data.num_users,
        num_items=data.num_items,
        rating_mean=data.rating_mean,
        scale=table.scale if options.clip_predictions else None,
        noise_floor=table.noise_floor,
        max_epochs=options.trainer.max_epochs,
        provenance=provenance(holdout, seed=options.seed),
        refit_epochs=refit_epochs,
        is_sampled=options.optimizer.keeps_samples,
        fit={
            "optimizer": options.optimizer.name,
            **_prefixed("optimizer", to_plain(options.optimizer)),
            "schedule": options.schedule.name,
            **_prefixed("schedule", to_plain(options.schedule)),
            "batch_size": data.batch_size,
            **to_plain(options.callbacks.early_stopping),
            "clip_predictions": options.clip_predictions,
            **{key: getattr(options.trainer, key) for key in STEP_KEYS},
        },
        fold=getattr(options.split, "fold", None),
        protocol=protocol_record(options, data_digest=table.digest, split=holdout.split),
        metrics=metric_records(options.metrics),
        monitor=options.monitor,
    )


def _prefixed(group: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{group}.{key}": value for key, value in values.items()}


def protocol_record(options: TrainOptions, *, data_digest: str, split: Split) -> dict[str, Any] | None:
    """Entry of run.json for the protocol, with the run's departures from it; None without a protocol.

    Args:
        options: the run's options.
        data_digest: digest of the run's ratings.
        split: the run's split; validation rows that the final fit does not train on are a departure.
    """
    protocol = options.protocol
    if not isinstance(protocol, Protocol):
        return None
    departures = [
        f"{key} is {found}, the protocol has {value}"
        for key, value in protocol.pins.items()
        if (found := _value(options, key)) != value
    ]
    if data_digest != protocol.data_digest:
        departures.append("other ratings than the protocol's, or in another order")
    held_out = split.count(VALIDATION)
    if held_out > 0 and not options.split.refit:
        departures.append(f"{held_out:,} rows were held out for validation and not trained on")
    return record_of(protocol, departures=departures)


def _value(options: TrainOptions, key: str) -> Any:
    """The plain value of a key, or a remark if the chosen groups lack the key."""
    found: Any = options
    for name in key.split("."):
        found = getattr(found, name, "not there")
    return found.name if isinstance(found, Enum) else found
