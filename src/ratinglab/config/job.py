"""A composed job: the checked options of one run, from the command line or from a call in Python."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.types import Override
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
from ratinglab.config.earlier_run import EarlierRun, find_resumed_run
from ratinglab.config.error_messages import check_overrides, name_file_of_key, translate_exceptions
from ratinglab.config.hydra_api import hide_hydra_app
from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.config.typed_options import TARGET, UnknownKeyError, to_options
from ratinglab.errors import UserError
from ratinglab.files import user_path
from ratinglab.fitting.fit_options import FitOptions
from ratinglab.options import quote_for_hydra
from ratinglab.runs.claimed_folder import claim_folder
from ratinglab.runs.hydra_files import read_config_dir, read_hydra
from ratinglab.runs.run_files import HYDRA_FOLDER
from ratinglab.serving.serve_options import ServeOptions
from ratinglab.targets import target_class
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


FindRun = Callable[[Sequence[Override]], EarlierRun | None]
"""Function that finds the earlier run that the overrides name, such as `find_resumed_run`. Returns None for a new
run."""


@dataclass(frozen=True)
class Job:
    """A job, composed and checked: a new run, an earlier run to resume or reproduce, or a command that trains nothing.

    Attributes:
        options: an object of the options class of the primary config.
        config: the config from which the options were converted.
        hydra: Hydra's part of the config.
        overrides: overrides to pass to Hydra's app, besides the folder to write to. An earlier run has its own config.
        conf: the primary config.
        earlier_run: the run to resume or to reproduce, or None.
    """

    options: Any
    config: DictConfig
    hydra: DictConfig
    overrides: list[str]
    conf: PrimaryConfig
    earlier_run: EarlierRun | None = None

    @property
    def is_resumed(self) -> bool:
        """Whether the job continues an earlier run in its folder."""
        return self.earlier_run is not None and self.earlier_run.is_resumed

    def output_folder(self, kind: Literal["run", "sweep"]) -> Path:
        """Return the folder of a resumed run, or else the absolute path of hydra.run.dir or hydra.sweep.dir.

        Raises:
            UserError: the key cannot be resolved.
        """
        if self.earlier_run is not None and self.is_resumed:
            return self.earlier_run.folder
        with translate_exceptions(self.conf), hide_hydra_app():
            return user_path(str(self.hydra[kind].dir), key=f"hydra.{kind}.dir").absolute()

    @contextmanager
    def claim_output_folder(self, kind: Literal["run", "sweep"]) -> Iterator[tuple[Path, str]]:
        """Create and lock the output folder for the duration of a `with` block. It must be new, empty or continued.

        Yields the folder, and the override that makes Hydra's app write to it. Without the override, Hydra would not
        expand `~`, and could put a later time into the name.
        """
        folder, key = self.output_folder(kind), f"hydra.{kind}.dir"
        with claim_folder(folder, key=key, is_resumed=self.is_resumed, is_sweep=kind == "sweep"):
            try:
                yield folder, f"{key}={quote_for_hydra(str(folder))}"
            finally:
                logging.shutdown()  # closes the logs of runs that `claim_folder` removes

    def save(self, folder: Path) -> None:
        """Save the configuration in a run's folder, as Hydra's app does. A reproduction saves the original's."""
        overrides = self.overrides if self.earlier_run is None else self.earlier_run.arguments()
        hydra = self._complete_hydra_config(folder) if self.earlier_run is None else read_hydra(self.earlier_run.folder)
        (folder / HYDRA_FOLDER).mkdir(exist_ok=True)
        for name, content in (
            ("config.yaml", self.config),
            ("overrides.yaml", OmegaConf.create(overrides)),
            ("hydra.yaml", OmegaConf.create({"hydra": hydra})),
        ):
            OmegaConf.save(content, folder / HYDRA_FOLDER / name)

    def _complete_hydra_config(self, folder: Path) -> DictConfig:
        """Copy Hydra's part of the config, and set the values that Hydra's app would set."""
        config_dir, hydra = self.conf.user_folder, self.hydra.copy()
        with read_write(hydra), open_dict(hydra):
            hydra.mode = RunMode.RUN
            hydra.run.dir = hydra.runtime.output_dir = str(folder)
            for source in hydra.runtime.config_sources:
                if config_dir is not None and source.path == str(config_dir):
                    source.provider = "command-line"  # Hydra's name for --config-dir, which a resumed run looks for
        return hydra


def find_earlier_run(conf: PrimaryConfig, overrides: Sequence[str], *, find_run: FindRun | None) -> EarlierRun | None:
    """Check the form of the overrides, and return the earlier run that they name, or None for a new run."""
    parsed = conf.parse(overrides)
    check_overrides(parsed, conf)
    return None if find_run is None else find_run(parsed)


def compose_job(conf: PrimaryConfig, overrides: Sequence[str], *, find_run: FindRun | None) -> Job:
    """Compose and check the one job that the overrides ask for.

    Raises:
        UserError: an override is not allowed, there is no such earlier run, or `to_options` refuses a value.
    """
    earlier_run = find_earlier_run(conf, overrides, find_run=find_run)
    if earlier_run is None:
        job = compose_new_job(conf, overrides)
        swept = OmegaConf.select(job.hydra, "sweeper.params") or {}
        # A single run would ignore a search. The command that trains the best job again sets all keys of the search.
        if swept.keys() - {override.key_or_group for override in conf.parse(overrides)}:
            names = conf.chosen_names(overrides)["search"]
            searched = f"search={names[0]}" if names else "hydra.sweeper.params"
            raise UserError(f"{searched} needs a sweep: {conf.sweep_hint}")
        return job
    config_dir = read_config_dir(earlier_run.folder)
    if conf.user_folder is None and config_dir is not None and Path(config_dir).is_dir():
        conf.add_folder(config_dir)
    config, hydra = earlier_run.compose(conf)
    options = convert_to_options(config, conf, overrides=earlier_run.arguments())
    # a resumed run keeps the files that Hydra wrote when it was started
    app_overrides = ["hydra.output_subdir=null"] if earlier_run.is_resumed else []
    return Job(options, config, hydra, app_overrides, conf, earlier_run)


def compose_new_job(conf: PrimaryConfig, overrides: Sequence[str]) -> Job:
    """Compose and check a job that is no earlier run."""
    overrides = conf.keep_typed_choices(overrides)
    config, hydra = conf.compose(overrides)
    try:
        options = convert_to_options(config, conf, overrides=overrides)
    except UnknownKeyError as error:
        raise name_file_of_key(error, conf, overrides) from error
    return Job(options, config, hydra, overrides, conf)


def convert_to_options(config: DictConfig, conf: PrimaryConfig, *, overrides: Sequence[str]) -> Any:
    """Convert the config to options, as `to_options` does."""
    _start_threads_if_compiled(config)
    return to_options(config, OPTIONS_CLASSES[conf.config_name], conf.parse(overrides))


def _start_threads_if_compiled(config: DictConfig) -> None:
    """Start numba's threads if the chosen fit is compiled.

    They must start before torch is imported, which the conversion to options does: an equation's options import it.
    """
    content: Any = OmegaConf.to_container(config, resolve=False)
    optimizer = content.get("optimizer")
    if isinstance(optimizer, dict) and TARGET in optimizer:
        fit = target_class(optimizer[TARGET], base=FitOptions, key=f"optimizer.{TARGET}")
        if issubclass(fit, FitOptions) and fit.is_compiled:
            from ratinglab.kernels.compiled import start_threads  # imported here, because other fits do not need numba

            start_threads()


def compose_call(overrides: Sequence[str], *, config_dir: str | os.PathLike[str] | None) -> Job:
    """Compose and check the run that a call from Python asks for."""
    conf = PrimaryConfig("train", in_python=True)
    with translate_exceptions(conf), hide_hydra_app():
        conf.add_folder(config_dir)
        return compose_job(conf, quote_texts(overrides), find_run=find_resumed_run)
