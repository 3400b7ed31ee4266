"""Run folders, written without training."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from fits import SPLIT, holdout_of, training_data

from ratinglab.models.declarations import EquationOptions
from ratinglab.models.posterior import Posterior, Sample
from ratinglab.models.predictor import Predictor
from ratinglab.options import to_plain
from ratinglab.ratings.table import RatingTable
from ratinglab.runs.record import RunRecord
from ratinglab.runs.storage import write_run
from ratinglab.runs.weights import build_predictor
from ratinglab.splits.holdout import Holdout
from ratinglab.splits.split import SplitOptions

PROVENANCE = {
    "data": "ratings.csv", "seed": 0,
    "data_digest": "d1", "split": "random(seed=0)", "side_digest": "s1", "threads": 1, "versions": {"torch": "2"},
}  # fmt: skip


def record_of(model: EquationOptions, holdout: Holdout, **changed) -> RunRecord:
    """Make the record of a run of an equation."""
    record = RunRecord(
        model=model.name,
        model_target=f"{type(model).__module__}.{type(model).__qualname__}",
        model_options=to_plain(model),
        num_users=holdout.num_users,
        num_items=holdout.num_items,
        rating_mean=float(holdout.train.rating.mean(dtype="float64")),
        scale=(1.0, 5.0),
        noise_floor=None,
        max_epochs=3,
        provenance=PROVENANCE,
        refit_epochs=None,
        is_sampled=False,
        fit={"optimizer": "adam", "lr": 0.1},
        fold=None,
        protocol=None,
    )
    return replace(record, **changed)


def write_run_of(
    folder: Path, model: EquationOptions, table: RatingTable, *, split: SplitOptions = SPLIT, **changed
) -> Predictor:
    """Write the folder of a run with random weights, as after epoch 2, and return its predictor."""
    holdout = holdout_of(table, model, split=split)
    record = record_of(model, holdout, **changed)
    (folder / "checkpoints").mkdir(parents=True)
    write_run(folder, record=record, holdout=holdout)
    predictor = build_predictor(record, training_data(holdout), seed=0).eval()
    random = torch.Generator().manual_seed(1)
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter, generator=random)
    write_weights(folder, {f"predictor.{name}": weight for name, weight in predictor.state_dict().items()})
    return predictor


def add_samples(model: Posterior, random: torch.Generator) -> None:
    """Keep three random samples."""
    sides = model.equation.user_side(), model.equation.item_side()
    shapes = [side.embedding.weight.shape for side in sides]
    shapes += [None if side.bias is None else side.bias.weight.shape for side in sides]
    precisions = [(len(side.last_rows()),) for side in sides]
    for _ in range(3):
        tables = [None if shape is None else torch.randn(*shape, generator=random) for shape in shapes]
        model.keep(Sample(*tables, *(torch.randn(*shape, generator=random).abs() for shape in precisions)))


def write_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write best.ckpt as after epoch 2."""
    torch.save({"state_dict": weights, "epochs": 2}, folder / "checkpoints" / "best.ckpt")


def forget_digests(folder: Path) -> None:
    """Turn a run into one of a version without digests, whose record can be edited."""
    (folder / "digests.json").unlink(missing_ok=True)
    path = folder / "run.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in ("id", "started_with")}))


def turn_into_format_2(folder: Path) -> None:
    """Rewrite a run in format 2, in which svdpp and timesvdpp had item_features=true for genres."""
    path = folder / "run.json"
    record = json.loads(path.read_text())
    options = record["model_options"]
    options.pop("user_features", None)
    has_genres = options.pop("item_features", []) == ["genres"]
    if record["model"] in ("svdpp", "timesvdpp"):
        options["item_features"] = has_genres
    for key in ("model_target", "metrics", "monitor"):
        record.pop(key)
    record["provenance"].pop("side_digest")
    path.write_text(json.dumps(record | {"format_version": 2}))
    items = pd.read_parquet(folder / "items.parquet")
    items.rename(columns={"feature/genres": "genres"}).to_parquet(folder / "items.parquet", index=False)
    weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    write_weights(folder, {name.replace("item_features.0", "item_features"): each for name, each in weights.items()})
