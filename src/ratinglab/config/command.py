"""The command line: one task under Hydra, and every mistake as one line with exit status 2."""

import argparse
import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ratinglab.config.arguments import parse_arguments
from ratinglab.config.conf import Conf
from ratinglab.config.conversion import UnknownKeyError, to_options
from ratinglab.config.help_text import help_text
from ratinglab.config.hydra_api import hydra_app
from ratinglab.config.jobs import first_job, jobs_to_check
from ratinglab.config.mistakes import check_overrides, explain, with_file
from ratinglab.config.rerun import Rerun, with_saved_values
from ratinglab.config.resolvers import register_resolvers
from ratinglab.errors import RunFailedError, UserError
from ratinglab.experiment.root_options import (
    EvaluateOptions,
    InspectOptions,
    PredictOptions,
    RecommendOptions,
    TrainOptions,
)
from ratinglab.files import user_path
from ratinglab.startup import configure_process

ROOTS: dict[str, type] = {
    "train": TrainOptions,
    "inspect_data": InspectOptions,
    "evaluate": EvaluateOptions,
    "recommend": RecommendOptions,
    "predict": PredictOptions,
}
"""Options class of each primary config in conf/."""
Task = Callable[[Any, Path], float | None]
Translation = Callable[..., Rerun | None]
"""Takes the overrides, and multirun as a keyword; returns the arguments of the earlier run that they name, if any."""
STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors of a full, protected or broken disk: neither the user's mistake nor ratinglab's fault."""

log = logging.getLogger(__name__)


def command(
    *, config_folder: Path, config_name: str, translate: Translation | None = None
) -> Callable[[Task], Callable[[], None]]:
    """Make a script's task a Hydra app that takes options and the run's folder.

    A user's mistake is reported as one line on stderr, with exit status 2. If the configuration alone shows it, no
    folder is created; otherwise the folder is removed. A diverged run keeps its folder and exits with status 1. In a
    sweep, its objective is infinite, the other runs continue, and the sweep exits with status 1. A fault of ratinglab's
    own keeps its traceback.

    Args:
        config_folder: the folder conf/.
        config_name: the primary config there, such as `train`.
        translate: changes the script's arguments before Hydra sees them.
    """
    return lambda task: _Command(task, Conf(config_folder, config_name), translate).main


class _Command:
    """One call of a script from the command line."""

    def __init__(self, task: Task, conf: Conf, translate: Translation | None) -> None:
        self._task, self._conf, self._translate = task, conf, translate
        self._diverged = False
        self._there_before: set[Path] = set()
        self._swept: dict[Path, list[str]] = {}

    def main(self) -> None:
        """Check the arguments, then let Hydra run the task once or, in a sweep, many times."""
        configure_process()
        register_resolvers()
        with self._mistakes_in_one_line():
            arguments = parse_arguments()
            self._conf.add_folder(arguments.config_dir)
            if arguments.help:
                with self._conf.initialized():
                    parsed = self._conf.parsed(arguments.overrides)
                    overrides = first_job(parsed) if arguments.multirun else arguments.overrides
                    print(help_text(self._conf, overrides), flush=True)
                return
            if not (arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion):
                self._check_and_translate(arguments)
                self._check_jobs(arguments)
            sys.argv[1:] = [*arguments.flags, *arguments.overrides]
            hydra_app(self._job, config_folder=self._conf.folder, config_name=self._conf.config_name)()
            self._conclude_sweep()
        if self._diverged:
            sys.exit(1)

    @contextmanager
    def _mistakes_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            _exit_with(str(error), status=2)
        except (HydraException, OmegaConfBaseException, YAMLError) as error:
            _exit_with(explain(error, self._conf), status=2)
        except BrokenPipeError:  # a command such as head has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except KeyboardInterrupt:
            _exit_with("interrupted", status=130)

    def _check_and_translate(self, arguments: argparse.Namespace) -> None:
        """Check the overrides, and replace them with those of the run that is resumed or reproduced, if any."""
        with self._conf.initialized():
            check_overrides(self._conf.parsed(arguments.overrides), self._conf)
        rerun = self._translate and self._translate(arguments.overrides, multirun=arguments.multirun)
        if rerun is None:
            return
        if arguments.config_dir is None and rerun.config_dir is not None:
            self._conf.add_folder(rerun.config_dir)
            arguments.flags += ["--config-dir", rerun.config_dir]
        arguments.overrides = rerun.overrides

    def _check_jobs(self, arguments: argparse.Namespace) -> None:
        """Compose and check the runs that the arguments ask for, before Hydra creates a folder."""
        with self._conf.initialized():
            if arguments.multirun:
                self._check_sweep(self._conf.parsed(arguments.overrides))
            else:
                hydra = self._check_job(arguments.overrides)
                self._check_folder(hydra, key="hydra.run.dir")

    def _check_sweep(self, overrides: Sequence[Override]) -> None:
        _, hydra = self._conf.compose(first_job(overrides))
        if hydra.output_subdir is None:
            raise UserError(f"{self._conf.config_name} does not support sweeps: leave out -m")
        params = OmegaConf.select(hydra, "sweeper.params") or {}  # set by a search's YAML
        overrides = [*self._conf.parsed([f"{key}={value}" for key, value in params.items()]), *overrides]
        for override in overrides:
            is_interval = override.is_sweep_override() and not override.is_discrete_sweep()
            if is_interval and hydra.sweeper._target_.endswith(".BasicSweeper"):
                raise UserError(
                    f"{override.input_line}: an interval needs hydra/sweeper=optuna; a grid takes VALUE,VALUE,…"
                )
        for job in jobs_to_check(overrides):
            hydra = self._check_job(job)
        self._check_folder(hydra, key="hydra.sweep.dir")

    def _check_job(self, overrides: Sequence[str]) -> DictConfig:
        """Compose and check one job's config; return Hydra's part of it."""
        config, hydra = self._conf.compose(overrides)
        try:
            self._options(config, self._conf.parsed(overrides))
        except UnknownKeyError as error:
            raise with_file(error, self._conf, overrides) from error
        return hydra

    def _options(self, config: DictConfig, overrides: Sequence[Override]) -> Any:
        if self._translate is not None and (config.resume or config.reproduces):
            with_saved_values(config)
        self._conf.put_on_path()
        return to_options(config, ROOTS[self._conf.config_name], overrides)

    def _check_folder(self, hydra: DictConfig, *, key: str) -> None:
        """Check that the folder is new or empty, so that neither a run nor its removal can lose files."""
        if hydra.output_subdir is None:  # a command without a folder, or a resumed run
            return
        folder = user_path(str(OmegaConf.select(hydra, key.removeprefix("hydra."))), key=key).absolute()
        self._there_before = {path for path in (folder, *folder.parents) if path.exists()}
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{key} must be a new or empty folder, got {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{key}: {error.filename} cannot be made: {error.strerror}") from error
        finally:
            self._remove_empty(folder)

    def _job(self, config: DictConfig) -> float | None:
        """Run the task on one job's config; called by Hydra."""
        hydra = HydraConfig.get()
        folder, is_sweep = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
        overrides = list(hydra.overrides.task)
        if is_sweep:
            self._swept[folder] = overrides
        with self._mistakes_in_one_line():
            try:
                return self._task(self._options(config, self._conf.parsed(overrides)), folder)
            except UserError:
                if hydra.output_subdir is not None and not (folder / "run.json").exists():
                    self._remove(folder)
                raise
            except OSError as error:
                if error.errno not in STORAGE_FAULTS:
                    raise
                _exit_with(f"{error.filename or folder}: {os.strerror(error.errno)}", status=1)
            except RunFailedError as error:
                if not is_sweep:
                    _exit_with(str(error), status=1)
                log.error("error: %s", error)
                self._diverged = True
        return float("inf")

    def _conclude_sweep(self) -> None:
        """Print the table of a sweep's runs, then its folder on a line of its own."""
        if not self._swept:
            return
        from ratinglab.reports.sweep_table import sweep_table  # torch is loaded by now

        folder = os.path.relpath(next(iter(self._swept)).parent)
        print("", *sweep_table(self._swept), folder, sep="\n")

    def _remove(self, folder: Path) -> None:
        """Remove what Hydra wrote for a run that never began, and the folders that it created for it."""
        logging.shutdown()
        shutil.rmtree(folder / ".hydra", ignore_errors=True)
        (folder / f"{self._conf.config_name}.log").unlink(missing_ok=True)
        self._remove_empty(folder)
        sweep = folder.parent
        if sweep not in self._there_before and {path.name for path in sweep.glob("*")} == {"multirun.yaml"}:
            (sweep / "multirun.yaml").unlink()
            self._remove_empty(sweep)

    def _remove_empty(self, folder: Path) -> None:
        for path in (folder, *folder.parents):
            if path not in self._there_before:
                with suppress(OSError):  # it is gone, or not empty
                    path.rmdir()


def _exit_with(message: str, *, status: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)
