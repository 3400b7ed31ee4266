"""The command line: one task under Hydra, and every mistake as one line with exit status 2."""

import functools
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from ratinglab.config.mistakes import explain, refuse_schema_bypass
from ratinglab.config.schema import register_schemas, to_options
from ratinglab.errors import TrainingDivergedError, UserError

Task = Callable[[Any, Path], float | None]
VERSION_BASE = "1.3"

log = logging.getLogger(__name__)


def command(*, config_folder: Path, config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a script's task a Hydra app that takes options and the run's folder.

    A mistake of the user's is told in one line on stderr, with exit status 2, before a folder is made where the
    configuration alone shows it; a folder that was made is removed. A diverged training ends with status 1 and keeps
    its folder; in a sweep it counts as infinitely bad, the other runs go on, and the status is 1 at the end.
    A fault of ratinglab's own keeps its traceback.

    Args:
        config_folder: the folder conf/.
        config_name: the primary config there, such as `train`.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            # else Hydra prints its own mistakes itself, in several lines, and exits with 1
            os.environ["HYDRA_FULL_ERROR"] = "1"
            register_schemas()
            diverged: list[Path] = []
            app = hydra.main(
                version_base=VERSION_BASE, config_path=str(config_folder.resolve()), config_name=config_name
            )(_job(task, diverged))
            arguments = get_args_parser().parse_args()
            try:
                if arguments.run or arguments.multirun or not _asks_for_information(arguments):
                    _check(arguments.overrides, config_folder, config_name, multirun=arguments.multirun)
                app()
            except UserError as error:
                _exit_with(str(error), status=2)
            except (HydraException, OmegaConfBaseException) as error:
                _exit_with(explain(error, config_folder, config_name, arguments.overrides), status=2)
            except KeyboardInterrupt:
                _exit_with("interrupted", status=130)
            if diverged:
                sys.exit(1)

        return main

    return decorate


def _asks_for_information(arguments: Any) -> bool:
    return bool(arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion)


def _check(overrides: Sequence[str], config_folder: Path, config_name: str, *, multirun: bool) -> None:
    """Compose and check every run that the arguments ask for, before Hydra makes a folder."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    refuse_schema_bypass(parsed)
    with initialize_config_dir(config_dir=str(config_folder.resolve()), version_base=VERSION_BASE):
        jobs = BasicSweeper.split_arguments(parsed, None)[0] if multirun else [list(overrides)]
        for job in jobs:
            config = compose(config_name, overrides=job, return_hydra_config=True)
            folder = Path(config.hydra.run.dir)
            with read_write(config), open_dict(config):
                del config["hydra"]
            to_options(config, parsed)
            if (folder / "run.json").exists():
                raise UserError(f"hydra.run.dir must be a new folder, got {folder}, which holds a run")


def _job(task: Task, diverged: list[Path]) -> Callable[[DictConfig], float | None]:
    @functools.wraps(task)
    def run(config: DictConfig) -> float | None:
        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        try:
            overrides = OverridesParser.create().parse_overrides(list(hydra_config.overrides.task))
            return task(to_options(config, overrides), folder)
        except UserError as error:
            _remove_traces(folder)
            _exit_with(str(error), status=2)
        except TrainingDivergedError as error:
            if hydra_config.mode == RunMode.RUN:
                _exit_with(str(error), status=1)
            log.error("error: %s", error)
            diverged.append(folder)
            return float("inf")

    return run


def _remove_traces(folder: Path) -> None:
    """Remove what Hydra has put into the folder of a run that did not begin, and folders thereby empty."""
    logging.shutdown()
    shutil.rmtree(folder / ".hydra", ignore_errors=True)
    for path in folder.glob("*.log"):
        path.unlink()
    for emptied in (folder, *folder.parents[:3]):
        if [path.name for path in emptied.iterdir()] == ["multirun.yaml"]:
            (emptied / "multirun.yaml").unlink()
        try:
            emptied.rmdir()
        except OSError:
            return


def _exit_with(message: str, *, status: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)
