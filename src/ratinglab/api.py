"""Python API: train, cross_validate, load and lightning. They use the keys, checks and folders of the command line."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypedDict, TypeVar, Unpack

import pandas as pd

from ratinglab.config.job import Job, compose_call
from ratinglab.datamodule import RatingDataModule
from ratinglab.datasets.sources import FRAME
from ratinglab.errors import ArgumentError, UserError, did_you_mean
from ratinglab.fitting.fit import Fit
from ratinglab.formats.frames import Frame, Frames, column_names, make_reusable
from ratinglab.inference.run import Run
from ratinglab.options import as_override
from ratinglab.process.program import shown_path
from ratinglab.python_calls import interruptible, isolated, log_to_file
from ratinglab.runs.claimed_folder import claim_folder
from ratinglab.runs.finished_runs import find_named_run
from ratinglab.training.training import build_lightning, train_run

P = ParamSpec("P")
R = TypeVar("R")
Table = Frame | str | os.PathLike[str]
"""A data frame, arrays by column name, or the path of a file."""


class Settings(TypedDict, total=False):
    """Keyword arguments of train, cross_validate and lightning. All are optional.

    Attributes:
        ratings: data frame of ratings with the columns user_id, item_id and rating, or the path of a file, or a list of
            paths. By default, the data of the override data=NAME, or synthetic ratings.
        users: table of users. Its id column has the same name as in `ratings`; its other columns are features.
        items: table of items, like `users`. The column `title` holds the titles; "data.items.title=NAME" names another
            column. A data frame need not have titles; for a file without them, pass "data.items.title=null".
        columns: names of the columns in `ratings`, if they differ, by role: user, item, rating, timestamp.
        timestamp_format: format of the timestamps, such as "%d.%m.%Y %H:%M". Not needed for Unix times and ISO dates.
        recipe: name of a model with its fit and settings.
        model: name of the equation.
        optimizer: name of the algorithm that fits the equation.
        embedding_dim: number of latent factors.
        lr: learning rate.
        batch_size: number of ratings per training step.
        max_epochs: maximum number of epochs.
        seed: seed of the initial weights, the order of the training rows, and the random draws of a fit.
        folder: folder of the run, new or empty. By default, it is below outputs/ in the working folder.
        config_dir: folder with your own YAML files and classes.
        verbose: whether to print the command's output and a progress bar. On by default.
    """

    ratings: Table | Sequence[str | os.PathLike[str]] | None
    users: Table | None
    items: Table | None
    columns: Mapping[str, str | int] | None
    timestamp_format: str | None
    recipe: str | None
    model: str | None
    optimizer: str | None
    embedding_dim: int | None
    lr: float | None
    batch_size: int | None
    max_epochs: int | None
    seed: int | None
    folder: str | os.PathLike[str] | None
    config_dir: str | os.PathLike[str] | None
    verbose: bool | None


KEY_OF_KEYWORD = {
    "timestamp_format": "data.timestamp_format",
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
"""Command-line key of each keyword argument that sets a single key."""
CROSS_VALIDATION_KEYS = {"split.fold", "split.folds", "hydra.run.dir"}
"""Keys that cross_validate sets."""
PATH_KEYS = {"ratings": "data.path", "users": "data.users.path", "items": "data.items.path"}
"""Key of each table's path."""
ID_COLUMNS = {"users": ("user", "data.users.user"), "items": ("item", "data.items.item")}
"""Role and key of the id column in the table of users and in the table of items."""


class Lightning(NamedTuple):
    """A fit, which is a LightningModule, and its LightningDataModule, for your own Trainer."""

    module: Fit
    data: RatingDataModule


def _document_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Show the keyword arguments of Settings in help() and tab completion, which see only `**settings`."""
    signature = inspect.signature(function)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
    for name, hint in Settings.__annotations__.items():
        default = True if name == "verbose" else None
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint))
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    function.__doc__ = f"{function.__doc__}\n\n{Settings.__doc__}"
    return function


@_document_keywords
def train(*overrides: str, **settings: Unpack[Settings]) -> Run:
    """Train a run, like `ratinglab train`.

        ratinglab.train(ratings=frame, recipe="biased_mf_gibbs", embedding_dim=16)
        ratinglab.train("split=temporal", "optimizer.weight_decay=0.01", ratings="ratings.csv", model="biased_mf")
        ratinglab.train("resume=outputs/…", "trainer.max_epochs=50")

    Args:
        overrides: arguments of the command line, such as "split=temporal".
        settings: the keyword arguments below.

    Returns:
        The trained run, with its best weights.

    Raises:
        UserError: an argument, the data or the folder is wrong; nothing is trained, and no folder is left behind.
        RunFailedError: the fit diverged, or a checkpoint could not be written; the folder remains.
    """
    with isolated():
        return _train_one(overrides, _check_arguments(overrides, settings))


@_document_keywords
def cross_validate(*overrides: str, folds: int | None = None, **settings: Unpack[Settings]) -> pd.DataFrame:
    """Train one run per fold, each with a different fold held out for test.

        ratinglab.cross_validate(ratings=frame, recipe="biased_mf_gibbs")["test/rmse"].mean()

    Args:
        overrides: arguments of the command line. They can choose another split with folds, or a protocol with such a
            split.
        folds: number of folds. With None, the split decides; kfold has 5.
        settings: the keyword arguments below. `folder` holds one run per fold. By default, it is below outputs/sweeps.
            `verbose` prints one line per fold, and the mean over the folds.

    Returns:
        One row per fold, from 1: the metrics by tag, such as test/rmse, and the run's folder. The columns of test and
        validation metrics come first, and the metrics of the baselines and of cold and warm rows last.

    Raises:
        UserError: an argument, the data or the folder is wrong, or the split has no folds.
        RunFailedError: a fit diverged, or a checkpoint could not be written; the folder remains.
    """
    with isolated():
        given = _check_arguments(overrides, settings)
        if keys := sorted(CROSS_VALIDATION_KEYS & _keys_set(overrides)):
            raise UserError(f"{keys[0]} cannot be set: cross_validate sets it; folds= and folder= are its arguments")
        if not _keys_set(overrides) & {"split", "protocol"}:
            overrides = ("split=kfold", *overrides)
        if folds is not None:
            overrides = (*overrides, f"split.folds={folds}")
        fold_1 = _compose_job(overrides, given)
        folds = getattr(fold_1.options.split, "folds", None)
        if folds is None:
            name = fold_1.options.split.name
            raise UserError(f"cross_validate needs a split with folds, such as split=kfold, got {name}")
        parent = fold_1.output_folder("run" if "folder" in given else "sweep")
        rows = list[dict[str, Any]]()

        def announce(label: str, metrics: Mapping[str, float], folder: Path) -> None:
            if given.get("verbose", True):
                summary = _summarize(metrics, monitor=fold_1.options.monitor)
                print(f"{label}   {summary}   {shown_path(folder)}", flush=True)

        for fold in range(1, folds + 1):
            fold_settings = {**given, "folder": parent / f"{fold - 1}-fold-{fold}", "verbose": False}
            try:
                run = _train_one((*overrides, f"split.fold={fold}"), fold_settings)
            except (Exception, KeyboardInterrupt) as error:
                if rows:
                    error.add_note(f"{len(rows)} of {folds} folds are finished: {shown_path(parent)}")
                raise
            rows.append({"fold": fold, **run.metrics, "folder": str(run.folder)})
            announce(f"fold {fold} of {folds}", run.metrics, run.folder)
        table = pd.DataFrame(rows).set_index("fold")
        tags = sorted(table.columns.drop("folder"), key=_column_order)
        table = table[[*tags, "folder"]]
        announce(f"mean of {folds} folds", {tag: float(table[tag].mean()) for tag in tags}, parent)
    return table


def _column_order(tag: str) -> tuple[int, int]:
    """Return the sort key of a metric: test/…, val/…, fit/…, and then tags with more parts, such as test/cold/mse.

    Notebooks show only the first and the last columns of a wide table.
    """
    first, *others = tag.split("/")
    return len(others), {"test": 0, "val": 1, "fit": 2}.get(first, 3)


def _summarize(metrics: Mapping[str, float], *, monitor: str) -> str:
    """Format the RMSE or, for a model that predicts scores, the monitored metric. Prefers the test rows."""
    tags = ("test/rmse", "val/rmse", monitor.replace("val/", "test/"), monitor)
    return next((f"{tag} {metrics[tag]:.4f}" for tag in tags if tag in metrics), "")


def load(folder: str | os.PathLike[str]) -> Run:
    """Load a trained run.

    Args:
        folder: a run's folder, "latest" or "best", as on the command line.

    Raises:
        ArgumentError: the folder is no path.
        UserError: the folder is not a run, or a file is missing, damaged or from another model.
    """
    if not isinstance(folder, str | os.PathLike):
        raise ArgumentError(f"folder must be a path, latest or best, got {folder!r}")
    with isolated():
        return Run.load(find_named_run(os.fspath(folder))[0].absolute())


@_document_keywords
def lightning(*overrides: str, **settings: Unpack[Settings]) -> Lightning:
    """Build the LightningModule and the LightningDataModule of a run, for your own Trainer.

        module, data = ratinglab.lightning(ratings=frame, model="biased_mf", max_epochs=10)
        trainer = Trainer(max_epochs=10)
        trainer.fit(module, datamodule=data)
        trainer.test(module, datamodule=data)  # test/mse; trainer.validate gives val/mse
        user, item = data.user_ids.index_of([1, 2]), data.item_ids.index_of([858, 1221])
        module.predictor(torch.from_numpy(user), torch.from_numpy(item))

    The Trainer is that of the package pytorch_lightning. The predictor takes indices of users and items, (B,) int32,
    and returns ratings, (B,) float32. Pass the number of epochs to both `lightning` and the Trainer: schedules and the
    burn-in of Gibbs sampling depend on it. Gradient fits loop over batches themselves, so set
    trainer.accumulate_grad_batches, trainer.gradient_clip_val and trainer.limit_train_batches as overrides, not in your
    Trainer, which refuses the first two and counts steps of up to 64 batches. Your Trainer decides everything else, so
    other overrides of trainer, logger and callbacks have no effect, and neither do `folder` and `verbose`.

    Args:
        overrides: arguments of the command line.
        settings: the keyword arguments below.

    Returns:
        module: the fit, with initial weights or the weights of the run in from=.
        data: its LightningDataModule. Nothing has been trained.

    Raises:
        UserError: an argument or the data is wrong, or a run would be resumed.
    """
    with isolated():
        job = _compose_job(overrides, _check_arguments(overrides, settings))
        return Lightning(*build_lightning(job.options))


def _check_arguments(overrides: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Check the arguments of a call, and return the settings that are not None. Frames can be read several times."""
    for name in settings:
        if name not in Settings.__annotations__:
            raise ArgumentError(f"unexpected keyword argument {name!r}{did_you_mean(name, Settings.__annotations__)}")
    for text in overrides:
        if not isinstance(text, str):
            raise ArgumentError(
                f"positional arguments must be overrides, such as 'split=temporal', got {type(text).__name__}; "
                "pass a data frame as ratings=frame"
            )
        if text.startswith("-"):
            raise UserError(f"{text}: flags work only on the command line; use config_dir=FOLDER for --config-dir")
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    if given.get("verbose", True) not in (True, False):
        raise ArgumentError(f"verbose must be True or False, got {given['verbose']!r}")
    if not isinstance(given.get("columns", {}), Mapping):
        raise ArgumentError(f"columns must be names by role, such as {{'user': 'userId'}}, got {given['columns']!r}")
    keys = _keys_set(overrides)
    for name, key in (KEY_OF_KEYWORD | PATH_KEYS).items():
        if name in given and key in keys:
            raise UserError(f"give {name} as a keyword or as the text {key}=…, not both")
    if "ratings" in given and "data" in keys:
        raise UserError("give ratings as a keyword or the text data=NAME, not both")
    return given | {name: make_reusable(given[name], name=name) for name in PATH_KEYS.keys() & given.keys()}


def _keys_set(overrides: Sequence[str]) -> set[str]:
    """Collect the keys that the overrides set to a value other than null."""
    return {key for key, _, value in (text.partition("=") for text in overrides) if value != "null"}


def _compose_job(overrides: Sequence[str], given: Mapping[str, Any]) -> Job:
    """Compose and check the run that a call asks for, with its data frames."""
    job = compose_call(_arguments(overrides, given), config_dir=given.get("config_dir"))
    if frames := _frames(given):
        job.options.data = job.options.data.with_frames(Frames(**frames))
    return job


def _train_one(overrides: Sequence[str], given: Mapping[str, Any]) -> Run:
    """Train one run, inside `isolated`."""
    job, verbose = _compose_job(overrides, given), given.get("verbose", True)
    folder, is_resumed = job.output_folder("run"), job.is_resumed
    if not verbose:
        job.options.trainer.enable_progress_bar = job.options.trainer.enable_model_summary = False
    if job.options.trainer.num_processes > 1:
        raise UserError(
            "trainer.devices and trainer.num_nodes must be 1 in a call from Python, which is one process: "
            "the command ratinglab train starts or joins several"
        )
    with (
        claim_folder(folder, key="folder", is_resumed=is_resumed),
        log_to_file(folder / "train.log", on_screen=bool(verbose)),
        interruptible(folder, frames=list(_frames(given))),
    ):
        if not is_resumed:
            job.save(folder)
        train_run(job.options, folder, command=["ratinglab", "train", *_arguments(overrides, given)])
        return Run.load(folder)


def _arguments(overrides: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """Convert the settings to command-line arguments, and append the overrides."""
    arguments = list(_data_arguments(given, is_resumed="resume" in _keys_set(overrides)))
    for name, key in KEY_OF_KEYWORD.items():
        if name in given:
            value = given[name]
            arguments.append(as_override(key, os.fspath(value) if isinstance(value, os.PathLike) else value))
    return [*arguments, *overrides]


def _data_arguments(given: Mapping[str, Any], *, is_resumed: bool) -> Iterator[str]:
    """Yield the arguments for the tables and their columns. A resumed run keeps its choice of data."""
    tables = {name: given[name] for name in PATH_KEYS if name in given}
    columns = given.get("columns", {})
    if "ratings" in tables and not is_resumed:
        yield "data=csv"
    elif "ratings" not in tables and (tables or columns):
        raise UserError(f"{next(iter(tables), 'columns')}= needs ratings=")
    for name, table in tables.items():
        path = _path_of(table)
        yield as_override(PATH_KEYS[name], FRAME if path is None else path)
        if name == "items" and path is None and not is_resumed and "title" not in column_names(table, name=name):
            yield "data.items.title=null"
    for role, column in columns.items():
        yield as_override(f"data.columns.{role}", str(column))
    for name, (role, key) in ID_COLUMNS.items():
        if name in tables and role in columns:
            yield as_override(key, str(columns[role]))


def _path_of(table: Any) -> str | list[str] | None:
    """Return the path or paths of a table, or None for a data frame."""
    if isinstance(table, list | tuple) and all(isinstance(path, str | os.PathLike) for path in table):
        return [os.fspath(path) for path in table]
    return os.fspath(table) if isinstance(table, str | os.PathLike) else None


def _frames(given: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the tables that are data frames."""
    return {name: given[name] for name in PATH_KEYS if name in given and _path_of(given[name]) is None}
