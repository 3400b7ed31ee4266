"""Rebuild a fit from a checkpoint in a run's folder, for Lightning's load_from_checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratinglab.errors import UserError
from ratinglab.evaluation.metric_kinds import find_monitored_metric
from ratinglab.evaluation.metrics import find_metrics
from ratinglab.fitting.fit_options import FitOptions, FitSetup
from ratinglab.fitting.schedules import Schedule
from ratinglab.fitting.trainer_options import TrainerOptions
from ratinglab.options import from_plain
from ratinglab.runs.hydra_files import parse_hydra_file, put_config_dir_on_path
from ratinglab.runs.record import read_record
from ratinglab.runs.weights import build_predictor, load_weights, read_training_data
from ratinglab.targets import target_class

if TYPE_CHECKING:
    from ratinglab.fitting.fit import Fit


def read_fit(path: Path) -> "Fit":
    """Rebuild the fit that wrote a checkpoint of a run, with the checkpoint's weights."""
    folder = path.absolute().parents[1]
    record = read_record(folder)
    put_config_dir_on_path(folder)
    predictor = build_predictor(record, read_training_data(record, folder), seed=0)
    load_weights(predictor, path, record=record)
    # a validation fit, in a subfolder, has no copy of its own
    config = parse_hydra_file(folder, "config.yaml") or parse_hydra_file(folder.parent, "config.yaml")
    if config is None:
        raise UserError(f"{folder} has no .hydra/config.yaml, which its fit is built from")
    setup = FitSetup(
        schedule=_read_options(config, "schedule", base=Schedule),
        trainer=_read_options(config, "trainer", base=TrainerOptions),
        monitor=find_monitored_metric(record.monitor, find_metrics([metric["target"] for metric in record.metrics])),
        order=record.order_options(),
        seed=config["seed"],
    )
    optimizer: FitOptions = _read_options(config, "optimizer", base=FitOptions)
    return optimizer.build(predictor, setup)


def _read_options(config: dict[str, Any], group: str, *, base: type) -> Any:
    """Build the options object of a group, of the class that its `_target_` names, a subclass of base."""
    values = dict(config[group])
    return from_plain(values, target_class(values.pop("_target_"), base=base, key=f"{group}._target_"))
