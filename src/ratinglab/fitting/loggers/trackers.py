"""MLflow and W&B runs. Neither sends anything over the network, unless the options say so.

A file in the run's folder has the id of the MLflow or W&B run, so a resumed run can continue it.
"""

import json
import logging
import os
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock
from pytorch_lightning.loggers import MLFlowLogger, WandbLogger

from ratinglab.files import write_atomically
from ratinglab.runs.run_files import SWEEP_RECORD, VALIDATION_FIT

MLFLOW_RUN, WANDB_RUN = "mlflow_run.json", "wandb_run.json"
"""Files in a run's folder with the ids of its MLflow run and its W&B run."""
SQLITE_PREFIX = "sqlite:///"
MAX_WAIT_SECONDS = 60
"""Seconds to wait while other processes create the tables of a database."""
STEP_METRIC = "trainer/global_step"
"""W&B metric under which Lightning's WandbLogger logs the step."""


class SafeNamesMLFlowLogger(MLFlowLogger):
    """Lightning's logger, with ndcg_at_10 for ndcg@10. MLflow takes no @: Lightning would drop the metric and warn."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics({tag.replace("@", "_at_"): value for tag, value in metrics.items()}, step)


def start_mlflow(run_folder: Path, *, tracking_uri: str, experiment_name: str) -> MLFlowLogger:
    """Start an MLflow run named after the run's folder, or continue the MLflow run whose id is in the folder."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would send usage data
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic"):  # they log each table that they create
        logging.getLogger(name).setLevel(logging.ERROR)
    id_file = run_folder / MLFLOW_RUN
    if id_file.exists():
        run = json.loads(id_file.read_text(encoding="utf-8"))
        MlflowClient(run["tracking_uri"]).update_run(run["run_id"], status="RUNNING")
        return SafeNamesMLFlowLogger(tracking_uri=run["tracking_uri"], run_id=run["run_id"])
    lock: AbstractContextManager[object] = nullcontext()
    if tracking_uri.startswith(SQLITE_PREFIX):
        database = Path(tracking_uri.removeprefix(SQLITE_PREFIX)).absolute()
        tracking_uri = f"{SQLITE_PREFIX}{database}"  # absolute: a resumed run may have another working folder
        database.parent.mkdir(parents=True, exist_ok=True)
        # two processes must not create the tables of a database at the same time
        lock = FileLock(database.with_name(f".{database.name}.lock"), timeout=MAX_WAIT_SECONDS)
    with lock:
        client = MlflowClient(tracking_uri)  # makes the tables of a new database
        if client.get_experiment_by_name(experiment_name) is None:
            with suppress(MlflowException):  # on a server, another job of the sweep has just made it
                client.create_experiment(experiment_name)
    sweep = _sweep_name(run_folder)
    logger = SafeNamesMLFlowLogger(
        experiment_name=experiment_name,
        run_name=_run_name(run_folder),
        tracking_uri=tracking_uri,
        tags={"folder": str(run_folder.absolute()), **({} if sweep is None else {"sweep": sweep})},
    )
    _write_id(id_file, {"tracking_uri": tracking_uri, "run_id": str(logger.run_id)})
    return logger


def start_wandb(run_folder: Path, *, project: str, is_offline: bool) -> WandbLogger:
    """Start a W&B run named after the run's folder, or continue the W&B run whose id is in the folder.

    Lightning's own start makes W&B print a warning.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would send reports of W&B's own errors
    import wandb

    id_file = run_folder / WANDB_RUN
    if not id_file.exists():
        _write_id(id_file, {"project": project, "run_id": secrets.token_hex(4)})
    run = wandb.init(
        project=project,
        name=_run_name(run_folder),
        id=json.loads(id_file.read_text(encoding="utf-8"))["run_id"],
        resume="allow",
        reinit="finish_previous",  # a W&B run that an earlier logger left open after a failure
        group=_sweep_name(run_folder),
        dir=run_folder,
        mode="offline" if is_offline else "online",
        settings=wandb.Settings(silent=True, console="off"),
    )
    run.define_metric(STEP_METRIC)
    run.define_metric("*", step_metric=STEP_METRIC, step_sync=True)
    return WandbLogger(experiment=run)


def _run_name(run_folder: Path) -> str:
    """Return the name of the run's folder; a validation fit adds its subfolder."""
    return "/".join(run_folder.parts[-2:]) if run_folder.name == VALIDATION_FIT else run_folder.name


def _sweep_name(run_folder: Path) -> str | None:
    """Return the name of the sweep's folder, or None if the run is not part of a sweep."""
    folder = run_folder.parent if run_folder.name == VALIDATION_FIT else run_folder
    return folder.parent.name if (folder.parent / SWEEP_RECORD).exists() else None


def _write_id(path: Path, content: dict[str, str]) -> None:
    write_atomically(path, lambda file: file.write(f"{json.dumps(content)}\n".encode()))
