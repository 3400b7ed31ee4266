"""The weights of a run: its predictor, built from the record and the tables, and loaded from a checkpoint."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ratinglab.batches import Batch
from ratinglab.errors import UserError
from ratinglab.models.bias_baseline import BiasBaseline
from ratinglab.models.build_equation import build_equation
from ratinglab.models.design import Design
from ratinglab.models.equation import TrainingData
from ratinglab.models.factor_equation import FactorEquation
from ratinglab.models.posterior import Posterior
from ratinglab.models.predictor import Predictor
from ratinglab.options import as_yaml
from ratinglab.ratings.side_information import Column
from ratinglab.runs.digests import check_archive
from ratinglab.runs.record import RunRecord
from ratinglab.runs.run_files import BEST, ITEMS, LAST, RUN_RECORD, USERS
from ratinglab.runs.storage import read_part, read_stored_features
from ratinglab.stars import Stars

PREDICTOR_PREFIX = "predictor."
"""Prefix of the predictor's weights in the checkpoint of a LightningModule."""


class Checkpoint(NamedTuple):
    """The predictor's weights, and how many epochs and seconds had trained them."""

    weights: dict[str, torch.Tensor]
    epochs: int
    seconds: float


def read_training_data(record: RunRecord, folder: Path) -> TrainingData:
    """Read the training data of a run's equation from its folder."""
    needs = record.equation_options(place=str(folder / RUN_RECORD)).needs()
    rows = None
    if needs.interactions:
        columns = read_part(folder, "train", ["user", "item", "rating", *(["day"] if needs.days else [])])
        user, item, rating, *day = map(torch.from_numpy, columns)
        rows = Batch(user, item, record.stars.to_stars(rating), day[0] if day else None)
    return make_training_data(
        record,
        rows=rows,
        user_features=read_stored_features(folder / USERS, needs.user_features),
        item_features=read_stored_features(folder / ITEMS, needs.item_features),
    )


def make_training_data(
    record: RunRecord, *, rows: Batch | None, user_features: dict[str, Column], item_features: dict[str, Column]
) -> TrainingData:
    """Assemble an equation's training data from columns in which users or items with training rows come first."""

    def make_designs(columns: dict[str, Column], *, num_rows: int, key: str) -> dict[str, Design]:
        return {name: Design.from_feature(column[:num_rows], key=f"{key}: {name}") for name, column in columns.items()}

    return TrainingData(
        num_users=record.num_users,
        num_items=record.num_items,
        rating_mean=record.stars.to_stars(record.rating_mean),
        rows=rows,
        user_features=make_designs(user_features, num_rows=record.num_users, key="model.user_features"),
        item_features=make_designs(item_features, num_rows=record.num_items, key="model.item_features"),
    )


def build_predictor(record: RunRecord, training: TrainingData, *, seed: int) -> Predictor:
    """Build a run's predictor with initial weights drawn from the seed, and an unfitted baseline."""
    model = build_equation(record.equation_options(), training, seed=seed)
    if record.is_sampled:
        assert isinstance(model, FactorEquation), "the options of a sampler refuse other equations"
        model = Posterior(model)
    baseline = BiasBaseline(num_users=record.num_users, num_items=record.num_items)
    stars = Stars(1, 5) if record.predicts_scores else record.stars  # changes nothing: scores have no rating scale
    return Predictor(model, baseline, stars=stars, scale=record.scale)


def load_predictor(record: RunRecord, folder: Path) -> tuple[Predictor, int]:
    """Load a run's predictor with its best weights. Also returns the number of epochs that trained them."""
    predictor = build_predictor(record, read_training_data(record, folder), seed=0)
    path = folder / BEST
    best_epoch = load_weights(predictor, path, record=record)
    if isinstance(predictor.model, Posterior) and len(predictor.model.samples) == 0:
        longer = "" if record.max_time is None else " with a higher trainer.max_time"
        raise UserError(
            f"{path} holds no sample yet: the run was stopped during burn-in; resume={folder}{longer} continues it"
        )
    return predictor.eval(), best_epoch


def load_weights(predictor: Predictor, path: Path, *, record: RunRecord) -> int:
    """Load a checkpoint's weights into the predictor. Returns the number of epochs that trained them.

    Raises:
        UserError: the checkpoint is missing or damaged, or belongs to another run or model.
    """
    weights, epoch, _ = read_checkpoint(path, record=record)
    try:
        predictor.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path} does not hold the weights of {record.model}") from error
    return epoch


def load_equation(predictor: Predictor, path: Path, *, record: RunRecord, key: str) -> int:
    """Load only the equation's weights into the predictor. For a sampler, these are the last draw.

    Returns the number of epochs that trained them. Messages begin with `key`.

    Raises:
        UserError: the file is missing or damaged, or its weights have other shapes.
    """
    weights, epoch, _ = read_checkpoint(path, record=record, key=key)
    prefix = "model.equation." if record.is_sampled else "model."
    try:
        predictor.equation.load_state_dict(
            {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
        )
    except RuntimeError as error:
        options = ", ".join(f"{name}={as_yaml(value)}" for name, value in record.model_options.items())
        raise UserError(f"{key}: {path} holds weights of other shapes: {options}") from error
    return epoch


def read_checkpoint(path: Path, *, record: RunRecord, key: str = "run") -> Checkpoint:
    """Read a checkpoint of a run, and verify it.

    Raises:
        UserError: it is missing or damaged, or belongs to another run. The message names the intact checkpoints.
    """
    try:
        content = _load_checkpoint(path, run_id=record.id, key=key)
    except UserError as error:
        intact = describe_intact_checkpoints(path.parents[1], run_id=record.id)
        raise UserError(f"{error}; {intact}") from error
    state = content["state_dict"]
    weights = {
        name.removeprefix(PREDICTOR_PREFIX): value for name, value in state.items() if name.startswith(PREDICTOR_PREFIX)
    }
    return Checkpoint(weights, content["epochs"], float(content.get("seconds", 0)))


def _load_checkpoint(path: Path, *, run_id: str, key: str) -> dict[str, Any]:
    """Load a checkpoint, and verify its digest and its run."""
    if not path.exists():
        raise UserError(f"{key}: {path} is missing: the run has not written it yet, or it was removed")
    try:
        check_archive(path)
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    except Exception as error:  # an incomplete or foreign file can raise anything
        raise UserError(f"{key}: {path} is damaged or not a checkpoint of ratinglab") from error
    if content.get("run") != run_id:
        raise UserError(f"{key}: {path} belongs to another run")
    return content


def describe_intact_checkpoints(folder: Path, *, run_id: str) -> str:
    """Name the intact checkpoints of a run with their epochs, for an error message."""
    intact = []
    for path in (folder / BEST, folder / LAST):
        with suppress(UserError):
            epoch = _load_checkpoint(path, run_id=run_id, key="run")["epochs"]
            intact.append(f"{path.name} is intact, from epoch {epoch}")
    return "; ".join(intact) or "no checkpoint is intact"
