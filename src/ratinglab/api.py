"""The Python API: train, cross_validate, load and lightning, with the keys, checks and folders of the command line."""

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypedDict, TypeVar, Unpack

import pandas as pd
from pytorch_lightning import LightningDataModule, LightningModule

from ratinglab.config.call import Call
from ratinglab.config.claimed_folder import claimed_folder
from ratinglab.errors import UserError, did_you_mean
from ratinglab.experiment.isolation import interruptible, isolated, logged
from ratinglab.experiment.root_options import TrainOptions
from ratinglab.experiment.training import build_lightning
from ratinglab.experiment.training import train as train_run
from ratinglab.options import as_override
from ratinglab.program import shown_path
from ratinglab.ratings.frames import Frame, Frames
from ratinglab.ratings.sources import FRAME, CsvOptions
from ratinglab.runs.run import Run

P = ParamSpec("P")
R = TypeVar("R")
Table = Frame | str | os.PathLike[str]
"""A data frame, arrays by column name, or the path of a file."""


class Settings(TypedDict, total=False):
    """Keyword arguments of train, cross_validate and lightning; all are optional.

    Attributes:
        ratings: data frame of ratings with the columns user_id, item_id and rating, or path of a file; several paths as
            a list. Without it, the ratings are those of the override data=NAME, or generated.
        users: table of users, with the column user_id; all others are features.
        items: table of items, with the columns item_id and title; all others are features.
        columns: other column names by role: user, item, rating, timestamp.
        recipe: name of a model with its fit and settings.
        model: name of the equation.
        optimizer: name of the method that fits it.
        embedding_dim: number of latent factors.
        lr: learning rate.
        batch_size: number of ratings per training step.
        max_epochs: maximum number of epochs.
        seed: seed of the initial weights and of the order of the training rows.
        folder: folder of the run, new or empty; by default below outputs/ in the working folder.
        config_dir: folder with your own YAML files and classes.
        verbose: whether to print the output of the command and a progress bar; True by default.
    """

    ratings: Table | Sequence[str | os.PathLike[str]]
    users: Table
    items: Table
    columns: Mapping[str, str]
    recipe: str
    model: str
    optimizer: str
    embedding_dim: int
    lr: float
    batch_size: int
    max_epochs: int
    seed: int
    folder: str | os.PathLike[str]
    config_dir: str | os.PathLike[str]
    verbose: bool


KEYS = {
    "recipe": "recipe",
    "model": "model",
    "optimizer": "optimizer",
    "embedding_dim": "model.embedding_dim",
    "lr": "optimizer.lr",
    "batch_size": "data.batch_size",
    "max_epochs": "trainer.max_epochs",
    "seed": "seed",
    "folder": "hydra.run.dir",
}
"""Command-line key of each keyword argument that has one."""
TABLES = {"ratings": "data.path", "users": "data.users.path", "items": "data.titles.path"}
"""Key of the path of each table."""
ID_COLUMNS = {"users": ("user", "data.users.user"), "items": ("item", "data.titles.item")}
"""Role and key of the id column of each other table."""


class Lightning(NamedTuple):
    """A fit and its data, for your own Trainer."""

    module: LightningModule
    data: LightningDataModule


def _with_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Add the keyword arguments of Settings to a function's signature, so that notebooks complete them."""
    signature = inspect.signature(function)
    positional = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in Settings.__annotations__.items()
    ]
    function.__signature__ = signature.replace(parameters=[*positional, *keywords])  # type: ignore[attr-defined]
    return function


@_with_keywords
def train(*overrides: str, **settings: Unpack[Settings]) -> Run:
    """Train a run, as `ratinglab train` does.

        ratinglab.train(ratings=frame, recipe="biased_mf_gibbs", embedding_dim=16)
        ratinglab.train("split=temporal", "optimizer.weight_decay=0.01", ratings="ratings.csv", model="biased_mf")
        ratinglab.train("resume=outputs/…", "trainer.max_epochs=50")

    Args:
        overrides: arguments of the command line, such as "model.embedding_dim=16".
        settings: see Settings.

    Returns:
        The trained run, with its best weights.

    Raises:
        UserError: an argument, the data or the folder is wrong; nothing is trained, and no folder is left behind.
        RunFailedError: the fit diverged, or a checkpoint could not be written; the folder remains.
    """
    with isolated():
        return _train(_arguments(overrides, settings), settings)


@_with_keywords
def cross_validate(*overrides: str, folds: int | None = None, **settings: Unpack[Settings]) -> pd.DataFrame:
    """Train one run per fold, each with a different fold held out for test.

        ratinglab.cross_validate(ratings=frame, recipe="biased_mf_gibbs")["test/rmse"].mean()

    Args:
        overrides: as in `train`. They can choose another split with folds, or a protocol that has one.
        folds: number of folds; None: the split's own number, 5 for kfold.
        settings: see Settings. `folder` holds one run per fold; by default it is below outputs/sweeps.

    Returns:
        One row per fold, from 1: the metrics by tag, such as test/rmse, and the run's folder.

    Raises:
        UserError: as in `train`, or the split has no folds.
        RunFailedError: as in `train`.
    """
    if not any(text.startswith(("split=", "protocol=")) for text in overrides):
        overrides = ("split=kfold", *overrides)
    if folds is not None:
        overrides = (*overrides, f"split.folds={folds}")
    verbose = settings.get("verbose", True)
    with isolated():
        call = Call(_arguments(overrides, settings), config_dir=_config_dir(settings))
        folds = getattr(call.options.split, "folds", None)
        if folds is None:
            raise UserError(
                f"cross_validate needs a split with folds, such as split=kfold; got {call.options.split.name}"
            )
        parent = call.folder if "folder" in settings else call.sweep_folder
        rows = []
        for fold in range(1, folds + 1):
            folder = parent / f"{fold - 1}-fold-{fold}"
            fold_overrides = (*overrides, f"split.fold={fold}")
            run = _train(_arguments(fold_overrides, {**settings, "folder": folder}), {**settings, "verbose": False})
            rows.append({"fold": fold, **run.metrics, "folder": str(shown_path(folder))})
            if verbose:
                print(f"fold {fold} of {folds}   {_rmse(run)}   {shown_path(folder)}", flush=True)
    return pd.DataFrame(rows).set_index("fold")


def load(folder: str | os.PathLike[str]) -> Run:
    """Load a trained run from its folder.

    Raises:
        UserError: the folder is not a run, or a file is missing, damaged or from another model.
    """
    return Run.load(os.fspath(folder))


@_with_keywords
def lightning(*overrides: str, **settings: Unpack[Settings]) -> Lightning:
    """Build the LightningModule and the LightningDataModule of a run, for your own Trainer.

        module, data = ratinglab.lightning(ratings=frame, model="biased_mf")
        Trainer(max_epochs=10).fit(module, datamodule=data)
        module.predictor(user, item)

    The predictor takes indices of users and items, (B,) int32, and returns ratings, (B,) float32.

    Raises:
        UserError: as in `train`.
    """
    with isolated():
        call = Call(_arguments(overrides, settings), config_dir=_config_dir(settings))
        return Lightning(*build_lightning(_with_frames(call.options, settings)))


def _train(arguments: list[str], settings: Settings) -> Run:
    """Train one run, inside `isolated`."""
    call, verbose = Call(arguments, config_dir=_config_dir(settings)), settings.get("verbose", True)
    call.options.trainer.enable_progress_bar &= verbose
    sys.argv[:] = ["ratinglab", "train", *arguments]  # for the record
    with (
        claimed_folder(call.folder, key="folder", is_resumed=call.is_resumed),
        logged(call.folder / "train.log", on_screen=verbose),
        interruptible(call.folder),
    ):
        if not call.is_resumed:
            call.save()
        train_run(_with_frames(call.options, settings), call.folder)
        return Run.load(call.folder)


def _arguments(overrides: Sequence[str], settings: Settings) -> list[str]:
    """Convert the settings to command-line arguments, and append the overrides."""
    for name in settings:
        if name not in Settings.__annotations__:
            raise TypeError(f"unexpected keyword argument {name!r}{did_you_mean(name, Settings.__annotations__)}")
    if "ratings" in settings and any(text.startswith("data=") for text in overrides):
        raise UserError("give either ratings= or an override data=NAME, not both")
    given = {key: value for name, key in KEYS.items() if (value := settings.get(name)) is not None}
    plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in given.items()}
    is_resumed = any(text.startswith("resume=") for text in overrides)
    return [
        *_data_arguments(settings, is_resumed=is_resumed),
        *(as_override(*pair) for pair in plain.items()),
        *overrides,
    ]


def _data_arguments(settings: Settings, *, is_resumed: bool) -> Iterator[str]:
    """Yield the arguments for the tables and their columns. A resumed run has already chosen its data."""
    tables = {name: settings.get(name) for name in TABLES if settings.get(name) is not None}
    columns = settings.get("columns", {})
    if "ratings" in tables and not is_resumed:
        yield "data=csv"
    elif "ratings" not in tables and (tables or columns):
        raise UserError(f"{next(iter(tables), 'columns')}= needs ratings=")
    for name, table in tables.items():
        yield as_override(TABLES[name], _path_of(table) or FRAME)
    for role, column in columns.items():
        yield as_override(f"data.columns.{role}", str(column))
    for name, (role, key) in ID_COLUMNS.items():
        if name in tables and role in columns:
            yield as_override(key, str(columns[role]))


def _path_of(table: Any) -> str | list[str] | None:
    """Return the path or paths of a table; None for a data frame."""
    if isinstance(table, list | tuple):
        return [os.fspath(each) for each in table]
    return os.fspath(table) if isinstance(table, str | os.PathLike) else None


def _with_frames(options: TrainOptions, settings: Settings) -> TrainOptions:
    """Pass data frames to the options that load the ratings."""
    given: dict[str, Any] = {
        name: table for name in TABLES if (table := settings.get(name)) is not None and _path_of(table) is None
    }
    if given:
        assert isinstance(options.data, CsvOptions), "the arguments choose data=csv"
        options.data = options.data.with_frames(Frames(**given))
    return options


def _config_dir(settings: Settings) -> str | None:
    folder = settings.get("config_dir")
    return None if folder is None else os.fspath(folder)


def _rmse(run: Run) -> str:
    """Format a run's RMSE on its test rows or, without one, on its validation rows."""
    metrics = run.metrics
    return next((f"{tag} {metrics[tag]:.4f}" for tag in ("test/rmse", "val/rmse") if tag in metrics), "")
