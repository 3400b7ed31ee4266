"""One run on disk: written whole, loaded safely, and of use without its data file.

run.json          what the run is and where it comes from
users.parquet     user_id by index
items.parquet     item_id by index, with titles and genres where there are any
ratings.parquet   user, item, rating, part of every row, with its day where the model takes days: seen items and the
                  run's own test rows
checkpoints/      best.ckpt, last.ckpt
metrics.json      flat; its keys are the TensorBoard tags
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ratinglab.datamodule import Blocks
from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.predictions import Predictions
from ratinglab.files import user_path, write_whole
from ratinglab.metrics import ErrorSums
from ratinglab.models.baselines import BiasBaseline
from ratinglab.models.discovery import build_model, model_class, model_names
from ratinglab.models.equation import Interactions, ItemFeatures
from ratinglab.models.posterior import Posterior
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.holdout import Holdout
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.items import pairs_with_genres
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.topk import top_k

Ids = Sequence[int | str] | NDArray[np.generic]
"""Own ids of users or items; 42 and "42" are the same."""
Times = NDArray[np.datetime64]
"""Times of ratings, in UTC, in any unit."""

FORMAT_VERSION = 2
PARTS = ("train", "val", "test")
"""Names of the parts, by their code in ratings.parquet."""
CHECKPOINT_FAULTS = (
    OSError,
    RuntimeError,
    UnpicklingError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
)
"""What torch.load, and a look into what it gives, raise for a file that is no checkpoint or not all of one."""
WITHIN_90 = 1.6449
"""Standard deviations to either side that hold 90 % of a normal distribution."""
PREDICTOR_PREFIX = "predictor."
"""Where a LightningModule's checkpoint holds the predictor's weights."""


@dataclass(frozen=True)
class RunRecord:
    """What run.json holds.

    Attributes:
        model: name of the equation.
        model_options: values of its Options.
        num_users: users with training rows.
        num_items: items with training rows.
        rating_mean: of the training ratings.
        scale: lowest and highest rating, to which predictions are clipped; None: not clipped.
        noise_floor: MSE of a perfect model, for generated data.
        max_epochs: epochs after which the fit ends, if it is not stopped early.
        provenance: versions, git commit, digest of the data, identity of the split, seed, threads, command line.
        refit_epochs: epochs of the second fit, on training and validation rows; None: there is no second fit.
        is_sampled: whether the run holds samples of the weights, whose predictions are averaged.
        fit: how the weights were found: the optimizer's name and options, and the schedule's.
        fold: of the split; None where it has none.
        protocol: the figures that the run is set beside, and what it departs in; None: it is under no protocol.
        format_version: of the run's folder.
    """

    model: str
    model_options: dict[str, Any]
    num_users: int
    num_items: int
    rating_mean: float
    scale: tuple[float, float] | None
    noise_floor: float | None
    max_epochs: int
    provenance: dict[str, Any]
    refit_epochs: int | None = None
    is_sampled: bool = False
    fit: dict[str, Any] = field(default_factory=dict)
    fold: int | None = None
    protocol: dict[str, Any] | None = None
    format_version: int = FORMAT_VERSION


def write_run(folder: Path, *, record: RunRecord, holdout: Holdout) -> None:
    """Write all that a run needs besides its weights."""
    items = {"item_id": holdout.item_ids.ids, "title": holdout.titles, "genres": holdout.genres}
    ratings = {**vars(holdout.all_rows), "part": holdout.split.part}
    tables = {
        "users": pd.DataFrame({"user_id": holdout.user_ids.ids}),
        "items": pd.DataFrame({name: column for name, column in items.items() if column is not None}),
        "ratings": pd.DataFrame({name: column for name, column in ratings.items() if column is not None}),
    }
    for name, content in tables.items():
        write_whole(folder / f"{name}.parquet", partial(content.to_parquet, index=False))
    write_json(folder / "run.json", asdict(record))  # last: with it the folder is a run


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole, or leave the old one."""
    write_whole(path, lambda file: file.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode()))


def features_of(genres: NDArray[np.object_] | None, *, num_items: int) -> ItemFeatures | None:
    """The genres of the items with training rows, those below num_items; None where none of them has any.

    Args:
        genres: (at least num_items,) text such as `Comedy|Drama`, by item index.
        num_items: items with training rows.
    """
    if genres is None:
        return None
    item, feature, names = pairs_with_genres(genres[:num_items])
    return ItemFeatures(torch.from_numpy(item), torch.from_numpy(feature), len(names)) if names else None


def build_predictor(
    record: RunRecord,
    *,
    seed: int,
    interactions: Callable[[], Interactions],
    item_features: Callable[[], ItemFeatures | None],
) -> Predictor:
    """The predictor of a run: first weights drawn from the seed, the baseline not yet fitted.

    Args:
        record: of the run.
        seed: of the first weights.
        interactions: who has rated what in the training part; asked for where the equation needs it.
        item_features: what is known of the items; so too.

    Raises:
        UserError: the equation needs what is not known of the items.
    """
    model = build_model(
        record.model,
        record.model_options,
        num_users=record.num_users,
        num_items=record.num_items,
        rating_mean=record.rating_mean,
        seed=seed,
        interactions=interactions,
        item_features=item_features,
    )
    if record.is_sampled:
        model = Posterior(model)
    baseline = BiasBaseline(num_users=record.num_users, num_items=record.num_items)
    return Predictor(model, baseline, scale=record.scale)


class Run:
    """A trained run, loaded from its folder.

    Attributes:
        folder: where it lies.
        record: what run.json holds.
        predictor: with the best weights, in evaluation mode, on the cpu.
        best_epoch: number of epochs after which the weights were best.
    """

    def __init__(self, folder: Path, *, record: RunRecord, predictor: Predictor, best_epoch: int) -> None:
        """See `load`."""
        self.folder = folder
        self.record = record
        self.predictor = predictor
        self.best_epoch = best_epoch

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Load a run with its best weights.

        Raises:
            UserError: the folder is no run, or its checkpoint is missing, damaged or of another model.
        """
        folder = user_path(str(folder), key="run")
        record = read_record(folder)
        try:
            predictor = build_predictor(
                record,
                seed=0,
                interactions=lambda: _interactions(folder, has_days=model_class(record.model).takes_day),
                item_features=lambda: _item_features(folder, num_items=record.num_items),
            )
        except (LookupError, TypeError, RuntimeError) as error:
            raise UserError(f"{folder / 'run.json'} is damaged: {' '.join(str(error).split())}") from error
        path = folder / "checkpoints" / "best.ckpt"
        weights, best_epoch = _read_checkpoint(path)
        try:
            predictor.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(f"{path} does not hold the weights of {record.model}") from error
        if isinstance(predictor.model, Posterior) and predictor.model.num_samples == 0:
            raise UserError(f"{path} holds no sample yet: the run was cut off in burn-in; go on with resume={folder}")
        return cls(folder, record=record, predictor=predictor.eval(), best_epoch=best_epoch)

    @cached_property
    def user_ids(self) -> IdMap:
        """The id of each user index."""
        return IdMap(_parquet(self.folder / "users.parquet")["user_id"].to_numpy())

    @cached_property
    def _items(self) -> pd.DataFrame:
        return _parquet(self.folder / "items.parquet")

    @cached_property
    def item_ids(self) -> IdMap:
        """The id of each item index."""
        return IdMap(self._items["item_id"].to_numpy())

    @cached_property
    def titles(self) -> NDArray[np.object_] | None:
        """The title of each item index, or None where the data had none."""
        return self._items["title"].to_numpy(dtype=object) if "title" in self._items else None

    @cached_property
    def _rows(self) -> pd.DataFrame:
        return _parquet(self.folder / "ratings.parquet")

    def part(self, name: str) -> Ratings:
        """The run's rows of a part: train, val or test."""
        days = ["day"] if self.takes_days else []
        return Ratings(*_columns(self.folder, name, ["user", "item", "rating", *days]))

    @property
    def takes_days(self) -> bool:
        """Whether a prediction depends on the day."""
        return self.predictor.model.takes_day

    @cached_property
    def train_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Training ratings of each user index, and of each item index."""
        user, item = _columns(self.folder, "train", ["user", "item"])
        return np.bincount(user, minlength=len(self.user_ids)), np.bincount(item, minlength=len(self.item_ids))

    def train_ratings(self) -> NDArray[np.float32]:
        """The training ratings alone."""
        return _columns(self.folder, "train", ["rating"])[0]

    def predict(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> NDArray[np.float32]:
        """Predicted rating of each pair of a user's and an item's own ids.

        A user or item without training ratings gets the bias baseline's: μ + b_i for an unknown user, μ + b_u for an
        unknown item, μ for both.

        Args:
            user_ids: (B,) ids as in the data; 42 and "42" are the same.
            item_ids: (B,) ids as in the data.
            times: (B,) datetime64, in UTC, for a model that takes days; None: each user as on the last day with
                training rows, each item as in the last of its bins.

        Returns:
            (B,) float32, clipped to the rating scale unless the run was trained with clip_predictions=false.

        Raises:
            UserError: not as many users as items, or as times; a time is NaT; or the model takes no times.
        """
        pairs = self._pairs(user_ids, item_ids, times)
        with torch.inference_mode():
            predicted = [self.predictor(user, item, day) for user, item, _, day in Blocks(pairs)]
        return torch.cat(predicted).numpy() if predicted else np.empty(0, dtype=np.float32)

    def deviation(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> NDArray[np.float32]:
        """Standard deviation of each pair's rating around its prediction, in a run of optimizer=gibbs.

        Args:
            user_ids: (B,) ids as in the data; 42 and "42" are the same.
            item_ids: (B,) ids as in the data.
            times: as of `predict`. On a day without training rows the user is as on the nearest one, and what may have
                changed since is not in the deviation.

        Returns:
            (B,) float32, in rating units; NaN for a user or item without training ratings.

        Raises:
            UserError: as of `predict`, or the run has no samples.
        """
        if not self.record.is_sampled:
            raise UserError(f"{self.folder} has no samples, of which a standard deviation could be told")
        pairs = self._pairs(user_ids, item_ids, times)
        with torch.inference_mode():
            found = [self.predictor.deviation(user, item, day) for user, item, _, day in Blocks(pairs)]
        return torch.cat(found).numpy() if found else np.empty(0, dtype=np.float32)

    def _pairs(self, user_ids: Ids, item_ids: Ids, times: Times | None) -> Ratings:
        if len(user_ids) != len(item_ids):
            raise UserError(f"predict needs as many users as items, got {len(user_ids)} and {len(item_ids)}")
        if times is not None:
            if not self.takes_days:
                raise UserError(f"{self.record.model} takes no times: it predicts the same on all days")
            if len(times) != len(user_ids):
                raise UserError(f"predict needs as many times as users, got {len(times)} and {len(user_ids)}")
            if np.isnat(times).any():
                raise UserError(f"times: entry {int(np.isnat(times).argmax())} is NaT")
        return Ratings(
            day=None if times is None else times.astype("datetime64[D]").astype(np.int32),
            user=self.user_ids.index_of(user_ids),
            item=self.item_ids.index_of(item_ids),
            rating=np.zeros(len(user_ids), dtype=np.float32),
        )

    def trained_users(self, user_ids: Ids) -> NDArray[np.bool_]:
        """(B,) whether each user has training ratings."""
        user = self.user_ids.index_of(user_ids)
        return (user >= 0) & (user < self.record.num_users)

    def trained_items(self, item_ids: Ids) -> NDArray[np.bool_]:
        """(B,) whether each item has training ratings."""
        item = self.item_ids.index_of(item_ids)
        return (item >= 0) & (item < self.record.num_items)

    def recommend(self, user_id: int | str, *, k: int) -> pd.DataFrame:
        """The k items with the highest predicted ratings among those that the user has not rated in any part.

        A user without training ratings gets the ranking of the bias baseline.

        Args:
            user_id: the user's own id.
            k: items wanted, at least 1; there are fewer where fewer are left.

        Returns:
            rank from 1, item_id, title (where the data had titles), rating (predicted), best first.

        Raises:
            UserError: k is below 1.
        """
        if k < 1:
            raise UserError(f"k must be at least 1, got {k}")
        user = int(self.user_ids.index_of([user_id])[0])
        candidates = np.setdiff1d(
            np.arange(self.record.num_items, dtype=np.int32), self._rows["item"][self._rows["user"] == user]
        )
        best = top_k(self.predictor, user=user, candidates=torch.from_numpy(candidates), k=k)
        with torch.inference_mode():
            rating = self.predictor(torch.full_like(best, user), best)
        return self._listed(best.numpy(), rating.numpy())

    def recommend_to_all(self, *, k: int) -> pd.DataFrame:
        """The items of `recommend` for every user of the data, of which none is left without one to recommend.

        Args:
            k: items wanted for each user, at least 1; there are fewer where fewer are left.

        Returns:
            user_id, rank from 1, item_id, title (where the data had titles), rating (predicted); the users in the
            order of their ids' indices, best first.

        Raises:
            UserError: k is below 1.
        """
        from ratinglab.recommend.all_users import rated_by_user, top_k_of_all  # which imports a compiler

        if k < 1:
            raise UserError(f"k must be at least 1, got {k}")
        user, item = (np.asarray(self._rows[name]) for name in ("user", "item"))
        rated = rated_by_user(user, item, num_users=len(self.user_ids))
        found = top_k_of_all(self.predictor, rated, num_items=self.record.num_items, k=min(k, self.record.num_items))
        is_item = found >= 0
        user = np.repeat(np.arange(len(found), dtype=np.int32), is_item.sum(axis=1))
        item = found[is_item]
        pairs = Ratings(user=user, item=item, rating=np.zeros(len(item), dtype=np.float32))
        with torch.inference_mode():
            ratings = [self.predictor(user, item) for user, item, *_ in Blocks(pairs)]
        rating = torch.cat(ratings).numpy() if ratings else np.empty(0, dtype=np.float32)
        rank = np.broadcast_to(np.arange(1, found.shape[1] + 1), found.shape)[is_item]
        listed = self._listed(item, rating).assign(rank=rank)
        listed.insert(0, "user_id", self.user_ids.ids[user])
        return listed

    def rated_highest(self, user_id: int | str, *, k: int) -> pd.DataFrame:
        """The k items that a user rated highest, in all parts: columns as of `recommend`; empty for an unknown user."""
        user = self.user_ids.index_of([user_id])[0]
        rows = self._rows[self._rows["user"] == user].nlargest(k, "rating", keep="first")
        return self._listed(rows["item"].to_numpy(), rows["rating"].to_numpy())

    def _listed(self, item: NDArray[np.int32], rating: NDArray[np.float32]) -> pd.DataFrame:
        listed = pd.DataFrame({"rank": np.arange(1, len(item) + 1), "item_id": self.item_ids.ids[item]})
        if self.titles is not None:
            listed["title"] = self.titles[item]
        return listed.assign(rating=rating)

    def predictions(self, part: str) -> Predictions:
        """The rows of a part, val or test, with what the model and the bias baseline predict for them."""
        ratings, (user_count, item_count) = self.part(part), self.train_counts
        with torch.inference_mode():
            model = [self.predictor(user, item, day) for user, item, _, day in Blocks(ratings)]
            baseline = [self.predictor.clip(self.predictor.baseline(user, item)) for user, item, *_ in Blocks(ratings)]
        return Predictions(
            rating=ratings.rating,
            model=torch.cat(model).numpy(),
            baseline=torch.cat(baseline).numpy(),
            user_count=user_count[ratings.user],
            item_count=item_count[ratings.item],
        )

    def evaluate(self, parts: Sequence[str] = ("val", "test")) -> dict[str, float]:
        """MSE, RMSE and MAE on the run's own validation and test rows, of the model and of the baselines.

        Where a part has cold rows, of a user or an item without training ratings, they are counted, and the errors of
        the cold and of all other, warm rows stand beside those of all.

        Returns:
            val/mse …, test/mse …, baseline/mean/test/mse …, baseline/bias/test/mse …; test/cold/rows, test/cold/mse …,
            test/warm/mse …; a part without rows is left out. Of a run with samples test/coverage_90 too: the share of
            the warm rows whose rating lies in the 90 % interval of its prediction.
        """
        metrics: dict[str, float] = {}
        for part in parts:
            ratings = self.part(part)
            is_cold = (ratings.user >= self.record.num_users) | (ratings.item >= self.record.num_items)
            groups = {part: ratings}
            if is_cold.any():
                metrics[f"{part}/cold/rows"] = int(is_cold.sum())
                groups |= {f"{part}/warm": ratings.take(~is_cold), f"{part}/cold": ratings.take(is_cold)}
            for group, rows in groups.items():
                if len(rows) > 0:
                    metrics |= {tag.format(group): value for tag, value in _evaluate(self.predictor, rows).items()}
            warm = ratings.take(~is_cold)
            if self.record.is_sampled and len(warm) > 0:
                metrics[f"{part}/coverage_90"] = _coverage(self.predictor, warm)
        return metrics


def _evaluate(predictor: Predictor, ratings: Ratings) -> dict[str, float]:
    """The errors of the model and the baselines, under their tags with {} for the rows."""
    sums = {"": ErrorSums(), "baseline/bias/": ErrorSums(), "baseline/mean/": ErrorSums()}
    with torch.inference_mode():
        for user, item, rating, day in Blocks(ratings):
            bias = predictor.baseline(user, item)
            mean = predictor.baseline.mean.expand_as(rating)
            sums[""].update(predicted=predictor(user, item, day), rating=rating)
            sums["baseline/bias/"].update(predicted=predictor.clip(bias), rating=rating)
            sums["baseline/mean/"].update(predicted=predictor.clip(mean), rating=rating)
    return {f"{of}{{}}/{name}": value for of, sum in sums.items() for name, value in asdict(sum.compute()).items()}


def _coverage(predictor: Predictor, ratings: Ratings) -> float:
    """The share of ratings within 1.645 standard deviations of what is predicted."""
    inside = 0
    with torch.inference_mode():
        for user, item, rating, day in Blocks(ratings):
            distance = (predictor.score(user, item, day) - rating).abs()
            inside += int((distance <= WITHIN_90 * predictor.deviation(user, item, day)).sum())
    return inside / len(ratings)


def _parquet(
    path: Path, *, columns: list[str] | None = None, filters: list[tuple[str, str, int]] | None = None
) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, columns=columns, filters=filters)
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise UserError(f"{path} is missing or damaged") from error


def _columns(folder: Path, part: str, columns: list[str]) -> list[NDArray[Any]]:
    """Columns of a part's rows, filtered while they are read: the memory is that of the part."""
    rows = _parquet(folder / "ratings.parquet", columns=columns, filters=[("part", "==", PARTS.index(part))])
    # copies: pandas hands out read-only views, of which torch makes no tensor
    return [np.array(rows[column]) for column in columns]


def _interactions(folder: Path, *, has_days: bool) -> Interactions:
    user, item, *days = map(torch.from_numpy, _columns(folder, "train", ["user", "item", *(["day"] * has_days)]))
    return Interactions(user, item, days[0] if has_days else None)


def _item_features(folder: Path, *, num_items: int) -> ItemFeatures | None:
    items = _parquet(folder / "items.parquet")
    return features_of(items["genres"].to_numpy(dtype=object), num_items=num_items) if "genres" in items else None


def read_record(folder: Path) -> RunRecord:
    """What run.json holds.

    Raises:
        UserError: the folder is no run, or the file is damaged or of another format.
    """
    if folder.is_file():
        raise UserError(f"run must be a folder, got the file {folder}")
    if not folder.is_dir():
        siblings = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise UserError(f"run: there is no folder {folder}{did_you_mean(folder.name, siblings)}")
    path = folder / "run.json"
    if not path.is_file():
        raise UserError(f"run: {folder} is not the folder of a run: it has no run.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format_version"]
        if version != FORMAT_VERSION:
            raise UserError(f"{path} is of format {version}; this ratinglab reads format {FORMAT_VERSION}")
        if content["model"] == "svdpp":
            content["model_options"].setdefault("item_features", False)  # of a run from before there were any
        record = RunRecord(**content)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged: {error}") from error
    if record.model not in model_names():
        raise UserError(f"{path} names the model {record.model}, of which there is no file in models/")
    return record


def read_metrics(folder: Path) -> dict[str, float]:
    """What metrics.json holds.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / "metrics.json"
    try:
        metrics: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(metrics, dict) and "fit/epochs" in metrics):
            raise ValueError("it has no fit/epochs")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return metrics


def read_epoch(path: Path) -> int:
    """The number of epochs done when a checkpoint was written.

    Raises:
        UserError: the file is damaged.
    """
    return _read_checkpoint(path)[1]


def _read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], int]:
    """The predictor's weights, and the number of epochs after which they were written."""
    if not path.is_file():
        raise UserError(f"run: {path} is missing: the run has not finished its first epoch")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        weights = {
            key.removeprefix(PREDICTOR_PREFIX): value
            for key, value in content["state_dict"].items()
            if key.startswith(PREDICTOR_PREFIX)
        }
        return weights, content["epochs"]
    except CHECKPOINT_FAULTS as error:
        raise UserError(f"{path} is damaged or no checkpoint of ratinglab's") from error
