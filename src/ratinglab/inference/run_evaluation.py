"""Evaluation of a run: the errors of its predictions, and the quality of its lists on held-out ratings."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch

from ratinglab.batches import Batch
from ratinglab.errors import UserError
from ratinglab.evaluation.list_options import OrderOptions
from ratinglab.evaluation.metrics import Predictions, find_metrics
from ratinglab.evaluation.ranking import check_threshold
from ratinglab.inference.indexed_tables import is_trained
from ratinglab.inference.recommender import predict_by_block
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.held_out_lists import HeldOutLists
from ratinglab.runs.storage import read_part
from ratinglab.stars import is_liked

if TYPE_CHECKING:
    from ratinglab.inference.run import Run

PART_LABELS = {"val": "validation", "test": "test"}
"""Name of each held-out part in printed tables, by its name in tags."""
BASELINES = {"baseline/bias/": "bias baseline", "baseline/mean/": "mean baseline"}
"""Name of each baseline of predicted ratings, by the prefix of its tags."""
POPULARITY = "baseline/popularity/"
"""Prefix of the tags of the most popular items' lists."""
HALF_WIDTH_90 = 1.6449
"""Half-width of the 90% interval of a normal distribution, in standard deviations."""


def predict_rows(run: "Run", rows: Ratings) -> Predictions:
    """Predict rows by the model and by the bias baseline."""
    predictor = run.predictor
    predicted = predict_by_block(predictor, rows)
    baseline = predict_by_block(lambda user, item, _: predictor.clip(predictor.baseline(user, item)), rows)
    arrays = predicted.numpy(), baseline.numpy()
    for array in arrays:
        array.setflags(write=False)  # a run keeps and returns them
    return Predictions(rows, *arrays)


def measure_errors(run: "Run", predictions: Predictions, *, prefix: str) -> dict[str, float]:
    """Measure the errors of all rows, and of warm and cold rows separately, by tag; see `Run.evaluate`."""
    metrics: dict[str, float] = {}
    is_warm = is_trained(predictions.rows.user, run.record.num_users)
    is_warm &= is_trained(predictions.rows.item, run.record.num_items)
    groups = {prefix: predictions}
    if not is_warm.all():
        metrics[f"{prefix}cold/rows"] = int((~is_warm).sum())
        groups |= {f"{prefix}warm/": predictions.take(is_warm), f"{prefix}cold/": predictions.take(~is_warm)}
    for group_prefix, group in groups.items():
        if len(group.rows) > 0:
            metrics |= _measure_group(run, group, prefix=group_prefix)
    if run.record.is_sampled and is_warm.any():
        rows = predictions.rows.take(is_warm)
        distance = (predict_by_block(run.predictor.predict_unclipped, rows) - torch.from_numpy(rows.rating)).abs()
        is_inside = distance <= HALF_WIDTH_90 * predict_by_block(run.predictor.standard_deviation, rows)
        metrics[f"{prefix}coverage_90"] = int(is_inside.sum()) / len(rows)
    return metrics


@torch.inference_mode()
def _measure_group(run: "Run", predictions: Predictions, *, prefix: str) -> dict[str, float]:
    """Measure the errors of the model and of the baselines, by tag."""
    rating, predictor = torch.from_numpy(predictions.rows.rating), run.predictor
    systems = {
        "": torch.tensor(predictions.predicted),
        "baseline/bias/": torch.tensor(predictions.baseline),
        "baseline/mean/": predictor.clip(predictor.baseline.mean).repeat(len(rating)),
    }
    metrics = find_metrics([metric["target"] for metric in run.record.metrics])
    return {
        f"{system}{prefix}{metric.name}": metric(predicted, rating)
        for system, predicted in systems.items()
        for metric in metrics
    }


def check_parts(parts: Sequence[str], *, valid: Collection[str] = tuple(PART_LABELS)) -> None:
    """Raise UserError unless this is a list of valid parts, by default val and test."""
    if isinstance(parts, str):
        raise UserError(f"parts must be a list, such as ['test'], got {parts!r}")
    if unknown := [part for part in parts if part not in valid]:
        raise UserError(f"a part must be one of {', '.join(valid)}, got {unknown[0]!r}")


def evaluate_lists(run: "Run", k: int, order: OrderOptions, *, parts: Sequence[str]) -> dict[str, float]:
    """Measure lists of k items; see `Run.evaluate_ranking`, which raises the same errors."""
    check_parts(parts)
    stars, held_out = run.record.stars, [run.tables.held_out[part].rating for part in parts]
    key = f"{order.key_prefix}threshold"
    check_threshold(stars.liked_threshold(order.threshold), held_out, unit=stars.unit, key=key)
    return measure_lists(run, [k], order, parts=parts)


def measure_lists(run: "Run", lengths: Sequence[int], order: OrderOptions, *, parts: Sequence[str]) -> dict[str, float]:
    """Measure the lists of the model and of the most popular items on parts, by tag; see `Run.evaluate_ranking`."""
    metrics: dict[str, float] = {}
    threshold, built_order = run.record.stars.liked_threshold(order.threshold), run._build_order(order)
    for part in parts:
        rows, val = run.tables.held_out[part], run.tables.held_out["val"]
        if len(rows) == 0:
            continue
        lists = HeldOutLists(
            rows.take(is_liked(rows.rating, threshold, unit=run.record.stars.unit)),
            train=run.tables.train_pairs,
            validation_pairs=RatedPairs(val.user, val.item) if part == "test" else None,
            history=_read_history(run, part),
            num_users=run.record.num_users,
            num_items=run.record.num_items,
        )
        metrics[f"{part}/ranked_users"] = len(lists.users)
        metrics[f"{part}/users_without_relevant"] = lists.num_without_relevant
        metrics[f"{part}/users_without_training"] = lists.num_without_training
        for k in lengths:
            measured = lists.measure(run.predictor, k=k, order=built_order)
            for system, values in {"": measured, POPULARITY: lists.measure_popularity(k=k)}.items():
                metrics |= {f"{system}{part}/{name}@{k}": value for name, value in values.items()}
    return metrics


def _read_history(run: "Run", part: str) -> Batch:
    """Read the rows from which a part's users are folded in, if any, with ratings in stars."""
    columns = read_part(run.tables.folder, f"{part}_history", ["user", "item", "rating"])
    user, item, rating = map(torch.from_numpy, columns)
    return Batch(user, item, run.record.stars.to_stars(rating), day=None)
