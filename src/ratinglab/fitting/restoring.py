"""Rebuild a fit from a checkpoint in a run's folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratinglab.errors import UserError
from ratinglab.evaluation.metrics import find_metrics, monitored
from ratinglab.fitting.fit_options import FitOptions, FitSetup
from ratinglab.fitting.schedules import Schedule
from ratinglab.fitting.trainer import TrainerOptions
from ratinglab.options import from_plain
from ratinglab.runs.record import read_record
from ratinglab.runs.saved_run import parse_hydra_file
from ratinglab.runs.weights import build_predictor, load_weights, read_training_data
from ratinglab.targets import target_class

if TYPE_CHECKING:
    from ratinglab.fitting.fit import Fit


def read_fit(path: Path) -> "Fit":
    """Rebuild the fit that wrote a checkpoint of a run, with the checkpoint's weights."""
    folder = path.absolute().parents[1]
    record = read_record(folder)
    predictor = build_predictor(record, read_training_data(record, folder), seed=0)
    load_weights(predictor, path, record=record)
    config = _saved_config(folder)
    setup = FitSetup(
        schedule=_options(config, "schedule", base=Schedule),
        trainer=_options(config, "trainer", base=TrainerOptions),
        monitor=monitored(
            record.monitor, find_metrics([metric["target"] for metric in record.metrics]), order=record.order_options()
        ),
        seed=config["seed"],
    )
    optimizer: FitOptions = _options(config, "optimizer", base=FitOptions)
    return optimizer.build(predictor, setup)


def _saved_config(folder: Path) -> dict[str, Any]:
    """Read a run's configuration, which the first of two fits shares."""
    for place in (folder, folder.parent):
        config: dict[str, Any] | None = parse_hydra_file(place, "config.yaml")
        if config is not None:
            return config
    raise UserError(f"{folder} has no .hydra/config.yaml, which its fit is built from")


def _options(config: dict[str, Any], group: str, *, base: type) -> Any:
    values = dict(config[group])
    return from_plain(values, target_class(values.pop("_target_"), base=base, key=f"{group}._target_"))
