"""A request for a run, from the command line or from Python: its checked configuration, and the earlier run, if any."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ratinglab.commands.command_options import OPTIONS_CLASSES
from ratinglab.config.arguments import overrides_of_one_job
from ratinglab.config.conf import Conf
from ratinglab.config.conversion import UnknownKeyError, to_options
from ratinglab.config.hydra_api import initialized, outside_app
from ratinglab.config.mistakes import check_overrides, explained, with_file
from ratinglab.config.rerun import Rerun, resumed_run
from ratinglab.config.resolvers import register_resolvers
from ratinglab.files import user_path
from ratinglab.runs.hydra_files import HYDRA_FOLDER

FindRun = Callable[..., Rerun | None]
"""Takes the overrides, and multirun by keyword; returns the earlier run that they name, if any."""


class ComposedJob(NamedTuple):
    """The checked options of a run, the config that they come from, Hydra's part of the config, and the request."""

    options: Any
    config: DictConfig
    hydra: DictConfig
    request: "Request"

    def save(self, folder: Path) -> None:
        """Save the configuration in the folder of a new run, as Hydra's app does."""
        (folder / HYDRA_FOLDER).mkdir()
        hydra = as_in_app(self.hydra, folder, self.request.conf.extra_folder)
        for name, content in (
            ("config.yaml", self.config),
            ("overrides.yaml", OmegaConf.create(self.request.overrides)),
            ("hydra.yaml", DictConfig({"hydra": hydra})),
        ):
            OmegaConf.save(content, folder / HYDRA_FOLDER / name)


class Request:
    """The overrides of one command or call, checked.

    Attributes:
        overrides: the overrides for Hydra. For an earlier run, they only choose the folder to write to.
        rerun: the earlier run that they resume or reproduce; None for a new run.
    """

    def __init__(
        self, conf: Conf, overrides: Sequence[str], *, multirun: bool = False, find_run: FindRun | None = None
    ) -> None:
        """Check the overrides, and find the run to resume or reproduce, if any.

        For a new run, files chosen by the overrides win over keys that an overlay sets.
        """
        self.conf = conf
        with initialized():
            check_overrides(conf.parsed(overrides), conf)
        self.rerun = None if find_run is None else find_run(overrides, multirun=multirun)
        if self.rerun is not None:
            if conf.extra_folder is None:
                conf.add_folder(self.rerun.config_dir())
            self.overrides = list(self.rerun.overrides)
        elif multirun:
            self.overrides = list(overrides)
        else:
            with initialized():
                self.overrides = [*conf.keys_of_choices(overrides), *overrides]

    def job(self, overrides: Sequence[str]) -> ComposedJob:
        """Compose and check one job; call it inside `initialized`.

        Raises:
            UserError: a key is unknown, or a value is missing, of the wrong type, or out of range.
        """
        if self.rerun is not None:
            config, hydra = self.rerun.compose(self.conf)
            return ComposedJob(self.options(config, self.rerun.as_typed()), config, hydra, self)
        config, hydra = self.conf.compose(overrides)
        try:
            return ComposedJob(self.options(config, overrides), config, hydra, self)
        except UnknownKeyError as error:
            raise with_file(error, self.conf, overrides) from error

    def options(self, config: DictConfig, overrides: Sequence[str]) -> Any:
        """Convert a config to options; call it inside `initialized` or in a job of Hydra's."""
        self.conf.put_on_path()
        return to_options(config, OPTIONS_CLASSES[self.conf.config_name], self.conf.parsed(overrides))


def default_options(config_name: str, overrides: Sequence[str]) -> Any:
    """Compose the options of a primary config; call it in a job of Hydra's."""
    conf = Conf(config_name)
    config, _ = conf.compose(overrides)
    return to_options(config, OPTIONS_CLASSES[config_name], conf.parsed(overrides))


def folder_of(hydra: DictConfig, kind: str) -> Path:
    """Return the absolute path of the folder that Hydra writes to, hydra.run.dir or hydra.sweep.dir."""
    return user_path(str(hydra[kind].dir), key=f"hydra.{kind}.dir").absolute()


def folder_of_call(job: ComposedJob, kind: str) -> Path:
    """Return the folder that a call from Python writes to, hydra.run.dir or hydra.sweep.dir.

    Raises:
        UserError: the key cannot be resolved.
    """
    with explained(job.request.conf), outside_app():
        return folder_of(job.hydra, kind)


def as_in_app(hydra: DictConfig, folder: Path | None, config_dir: Path | None) -> DictConfig:
    """Add the values that Hydra's app would set to Hydra's part of a config; folder=None: as composed."""
    hydra = hydra.copy()
    with read_write(hydra), open_dict(hydra):
        hydra.mode = RunMode.RUN
        if folder is not None:
            hydra.run.dir = hydra.runtime.output_dir = str(folder)
        for source in hydra.runtime.config_sources:
            if config_dir is not None and source.path == str(config_dir):
                source.provider = "command-line"  # Hydra's name for --config-dir, which a resumed run looks for
    return hydra


def job_of_call(overrides: Sequence[str], *, config_dir: str | None) -> ComposedJob:
    """Compose and check the run that a call from Python asks for."""
    register_resolvers()
    conf = Conf("train")
    with explained(conf), outside_app():
        conf.add_folder(config_dir)
        request = Request(conf, overrides_of_one_job(overrides), find_run=resumed_run)
        with initialized():
            return request.job(request.overrides)
