"""A request for a run, from the command line or from Python: its checked configuration, and the earlier run, if any."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ratinglab.commands.command_options import (
    EvaluateOptions,
    ExportOptions,
    InspectOptions,
    PredictOptions,
    RecommendOptions,
    SimilarOptions,
)
from ratinglab.config.arguments import quote_texts
from ratinglab.config.conversion import UnknownKeyError, to_options
from ratinglab.config.error_messages import check_overrides, name_file_of_key, translate_exceptions
from ratinglab.config.hydra_api import hide_hydra_app, hydra_context
from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.config.rerun import Rerun, find_resumed_run
from ratinglab.config.resolvers import register_resolvers
from ratinglab.files import user_path
from ratinglab.runs.record import read_hydra
from ratinglab.runs.run_files import HYDRA_FOLDER
from ratinglab.serving.serve_options import ServeOptions
from ratinglab.training.train_options import TrainOptions

OPTIONS_CLASSES: dict[str, type] = {
    "train": TrainOptions,
    "inspect_data": InspectOptions,
    "evaluate": EvaluateOptions,
    "recommend": RecommendOptions,
    "similar": SimilarOptions,
    "predict": PredictOptions,
    "export": ExportOptions,
    "serve": ServeOptions,
}
"""Options class of each primary config in conf/."""
FindRun = Callable[..., Rerun | None]
"""Function that finds the earlier run that overrides name. It takes the overrides, and `multirun` by keyword."""


class ComposedJob(NamedTuple):
    """The checked options of a run, the config from which they were converted, Hydra's part of it, and the request."""

    options: Any
    config: DictConfig
    hydra: DictConfig
    request: "RunRequest"

    def save(self, folder: Path) -> None:
        """Save the configuration in a run's folder, as Hydra's app does; of a reproduced run, the restored one."""
        rerun = self.request.rerun
        overrides = self.request.overrides if rerun is None else rerun.arguments()
        hydra = read_hydra(rerun.folder) if rerun is not None else self._complete_hydra_config(folder)
        (folder / HYDRA_FOLDER).mkdir(exist_ok=True)
        for name, content in (
            ("config.yaml", self.config),
            ("overrides.yaml", OmegaConf.create(overrides)),
            ("hydra.yaml", OmegaConf.create({"hydra": hydra})),
        ):
            OmegaConf.save(content, folder / HYDRA_FOLDER / name)

    def _complete_hydra_config(self, folder: Path) -> DictConfig:
        """Copy Hydra's part of the config, and set the values that Hydra's app would set."""
        config_dir, hydra = self.request.conf.extra_folder, self.hydra.copy()
        with read_write(hydra), open_dict(hydra):
            hydra.mode = RunMode.RUN
            hydra.run.dir = hydra.runtime.output_dir = str(folder)
            for source in hydra.runtime.config_sources:
                if config_dir is not None and source.path == str(config_dir):
                    source.provider = "command-line"  # Hydra's name for --config-dir, which a resumed run looks for
        return hydra


class RunRequest:
    """The overrides of one command or call, checked.

    Attributes:
        conf: the primary config.
        overrides: overrides for Hydra. For an earlier run, they only choose the folder to write to.
        rerun: the earlier run to resume or reproduce; None for a new run.
    """

    def __init__(
        self, conf: PrimaryConfig, overrides: Sequence[str], *, multirun: bool = False, find_run: FindRun | None = None
    ) -> None:
        """Check the overrides, and find the run to resume or reproduce, if any.

        For a new run, files chosen by overrides take precedence over overlays.

        Raises:
            UserError: an override is not allowed, or there is no such run.
        """
        self.conf = conf
        with hydra_context():
            check_overrides(conf.parse(overrides), conf)
        self.rerun = None if find_run is None else find_run(overrides, multirun=multirun)
        if self.rerun is not None:
            if conf.extra_folder is None:
                conf.add_folder(self.rerun.config_dir())
            self.overrides = list(self.rerun.overrides)
        elif multirun:
            self.overrides = list(overrides)
        else:
            with hydra_context():
                self.overrides = [*conf.overrides_of_choices(overrides), *overrides]

    def compose(self, overrides: Sequence[str]) -> ComposedJob:
        """Compose and check one job; call it inside `hydra_context`.

        Raises:
            UserError: a key is unknown, or a value is missing, of the wrong type, or out of range.
        """
        if self.rerun is not None:
            config, hydra = self.rerun.compose(self.conf)
            return ComposedJob(self.convert(config, self.rerun.arguments()), config, hydra, self)
        config, hydra = self.conf.compose(overrides)
        try:
            return ComposedJob(self.convert(config, overrides), config, hydra, self)
        except UnknownKeyError as error:
            raise name_file_of_key(error, self.conf, overrides) from error

    def convert(self, config: DictConfig, overrides: Sequence[str]) -> Any:
        """Convert a config to options; call it inside `hydra_context` or in a job of Hydra's."""
        self.conf.put_on_path()
        return to_options(config, OPTIONS_CLASSES[self.conf.config_name], self.conf.parse(overrides))


def compose_options(config_name: str, overrides: Sequence[str]) -> Any:
    """Compose the options of a primary config; call it in a Hydra job, such as a command's task."""
    conf = PrimaryConfig(config_name)
    config, _ = conf.compose(overrides)
    return to_options(config, OPTIONS_CLASSES[config_name], conf.parse(overrides))


def hydra_folder(hydra: DictConfig, kind: str) -> Path:
    """Return the absolute path of hydra.run.dir (kind "run") or hydra.sweep.dir (kind "sweep")."""
    return user_path(str(hydra[kind].dir), key=f"hydra.{kind}.dir").absolute()


def hydra_folder_of_call(job: ComposedJob, kind: str) -> Path:
    """Return `hydra_folder` for a call from Python, outside of Hydra's app.

    Raises:
        UserError: the key cannot be resolved.
    """
    with translate_exceptions(job.request.conf), hide_hydra_app():
        return hydra_folder(job.hydra, kind)


def compose_call(overrides: Sequence[str], *, config_dir: str | None) -> ComposedJob:
    """Compose and check the run that a call from Python asks for."""
    register_resolvers()
    conf = PrimaryConfig("train")
    with translate_exceptions(conf), hide_hydra_app():
        conf.add_folder(config_dir)
        request = RunRequest(conf, quote_texts(overrides), find_run=find_resumed_run)
        with hydra_context():
            return request.compose(request.overrides)
