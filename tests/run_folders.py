"""Run folders, written without training."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from fits import SPLIT, split_ratings_of, training_data

from ratinglab.files import to_json
from ratinglab.models.equation_options import EquationOptions
from ratinglab.models.factors import Factors, SideFactors
from ratinglab.models.posterior import Posterior
from ratinglab.models.predictor import Predictor
from ratinglab.options import to_plain
from ratinglab.ratings.table import RatingTable
from ratinglab.runs.digests import seal_archive, write_with_digests
from ratinglab.runs.record import RunRecord
from ratinglab.runs.run_files import DIGESTS
from ratinglab.runs.storage import write_run
from ratinglab.runs.weights import build_predictor
from ratinglab.splits.split import TRAIN, SplitOptions
from ratinglab.splits.split_ratings import SplitRatings
from ratinglab.training.new_record import make_metric_records

PROVENANCE: Any = {
    "data": "ratings.csv", "seed": 0, "columns": {}, "timestamp_format": None, "command": [],
    "data_digest": "d1", "split": "random(seed=0)", "side_digest": "s1", "threads": 1, "cpu": "skylake",
    "versions": {"torch": "2"},
}  # fmt: skip

RUN_ID = "0123456789abcdef"


def record_of(model: EquationOptions, split_ratings: SplitRatings, **changed) -> RunRecord:
    """Make the record of a run of an equation."""
    record = RunRecord(
        model=model.name,
        model_target=f"{type(model).__module__}.{type(model).__qualname__}",
        model_options=to_plain(model),
        num_users=split_ratings.num_users,
        num_items=split_ratings.num_items,
        rating_mean=float(split_ratings.copy_rows(TRAIN).rating.mean(dtype="float64")),
        scale=(1.0, 5.0),
        noise_floor=None,
        max_epochs=3,
        provenance=PROVENANCE,
        refit_epochs=None,
        is_sampled=False,
        fit={"optimizer": "adam", "lr": 0.1},
        fold=None,
        protocol=None,
        metrics=make_metric_records(["mse", "rmse", "mae"]),
        monitor="val/mse",
        ranking={"k": None, "by": "expected_gain", "threshold": None},
        max_time=None,
        split={"split": "random"},
        fitted_scale=(1.0, 5.0),
        predicts_scores=False,
        id=RUN_ID,
        started_with={},
    )
    return replace(record, **changed)


def write_run_of(
    folder: Path, model: EquationOptions, table: RatingTable, *, split: SplitOptions = SPLIT, **changed
) -> Predictor:
    """Write the folder of a run with random weights, as after epoch 2, and return its predictor."""
    split_ratings = split_ratings_of(table, model, split=split)
    record = record_of(model, split_ratings, **changed)
    (folder / "checkpoints").mkdir(parents=True)
    write_run(folder, record=record, ratings=split_ratings)
    predictor = build_predictor(record, training_data(split_ratings), seed=0).eval()
    random = torch.Generator().manual_seed(1)
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter, generator=random)
    write_weights(folder, {f"predictor.{name}": weight for name, weight in predictor.state_dict().items()})
    return predictor


def add_samples(model: Posterior, random: torch.Generator) -> None:
    """Keep three random samples."""
    sides = model.equation.sides()
    tables = [side.embedding for side in sides] + [side.bias for side in sides]
    for _ in range(3):
        weights = [None if table is None else torch.randn(*table.weight.shape, generator=random) for table in tables]
        precisions = [torch.randn(len(side.last_rows()), generator=random).abs() for side in sides]
        user, item = map(SideFactors, weights[:2], weights[2:], precisions)
        model.samples.append(Factors(user, item, mean=float(model.equation.rating_mean)))


def write_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write best.ckpt as after epoch 2."""
    content = BytesIO()
    torch.save({"state_dict": weights, "epochs": 2, "run": RUN_ID}, content)
    seal_archive(content)
    (folder / "checkpoints" / "best.ckpt").write_bytes(content.getvalue())


def run_json_of(folder: Path) -> dict[str, Any]:
    """Read run.json as it is."""
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def metrics_of(folder: Path) -> dict[str, float]:
    """Read metrics.json as it is."""
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def write_record(folder: Path, record: RunRecord) -> None:
    """Write run.json, with its digest."""
    (folder / "run.json").write_bytes(to_json(asdict(record)))
    accept_files(folder)


def accept_files(folder: Path) -> None:
    """Record the digests of a run's files as they are, as if the run had written them."""
    names = (path.name for path in folder.iterdir() if path.suffix in (".json", ".csv", ".parquet"))
    write_with_digests(folder, {}, written=[name for name in names if name != DIGESTS], keep_others=False)


def edit_record(folder: Path, **changed: Any) -> None:
    """Change entries of run.json."""
    _edit(folder, "run.json", changed)


def edit_metrics(folder: Path, **changed: float) -> None:
    """Change entries of metrics.json."""
    _edit(folder, "metrics.json", changed)


def _edit(folder: Path, name: str, changed: dict[str, Any]) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    accept_files(folder)


def edit_saved(folder: Path, name: str, change: Callable[[str], str]) -> None:
    """Change the copy of one of Hydra's files in run.json."""
    started_with = run_json_of(folder)["started_with"]
    edit_record(folder, started_with=started_with | {name: change(started_with[name])})
