"""The command line: one task under Hydra, and every mistake as one line with exit status 2."""

import atexit
import errno
import gc
import logging
import operator
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, Protocol

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from ratinglab.config.arguments import asks_for_information, parse_arguments
from ratinglab.config.mistakes import (
    MAY_BE_NONE,
    choices,
    explain,
    refuse_no_choice,
    refuse_schema_bypass,
    refuse_what_breaks_run_folders,
)
from ratinglab.config.resume import with_saved_values
from ratinglab.config.schema import VERSION_BASE, register_schemas, to_options
from ratinglab.errors import RunFailedError, UserError
from ratinglab.files import user_path


class Translation(Protocol):
    """The overrides that a script's own stand for; None where they stand for themselves."""

    def __call__(self, overrides: Sequence[str], *, multirun: bool) -> list[str] | None: ...


Task = Callable[[Any, Path], float | None]
STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""What a full, protected or broken disk answers: no mistake in the command, and no fault of ratinglab's."""

log = logging.getLogger(__name__)


def command(
    *, config_folder: Path, config_name: str, translate: Translation | None = None
) -> Callable[[Task], Callable[[], None]]:
    """Make a script's task a Hydra app that takes options and the run's folder.

    A mistake of the user's is told in one line on stderr, with exit status 2, before a folder is made where the
    configuration alone shows it; a folder that was made is removed. A diverged training ends with status 1 and keeps
    its folder; in a sweep it counts as infinitely bad, the other runs go on, and the status is 1 at the end.
    A fault of ratinglab's own keeps its traceback.

    Args:
        config_folder: the folder conf/.
        config_name: the primary config there, such as `train`.
        translate: what the script makes of its arguments before Hydra sees them.
    """

    def decorate(task: Task) -> Callable[[], None]:
        return _Command(task, config_folder.resolve(), config_name, translate).main

    return decorate


class _Command:
    """One call of a script on the command line."""

    def __init__(self, task: Task, config_folder: Path, config_name: str, translate: Translation | None) -> None:
        self._task = task
        self._translate = translate
        self._config_folder = str(config_folder)
        self._config_name = config_name
        self._diverged = False
        self._resumes = False
        self._there_before: set[Path] = set()
        self._swept: list[tuple[Path, list[str]]] = []

    def main(self) -> None:
        """Check the arguments, then let Hydra run the task once or, in a sweep, many times."""
        # else Hydra prints its own mistakes itself, in several lines, and exits with 1
        os.environ["HYDRA_FULL_ERROR"] = "1"
        # Read when torch is loaded. By default its threads spin while they wait for each other: with another process on
        # a core, a fit of small batches ran at a twentieth of its speed; asleep they cost 13 % where all are free.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        logging.raiseExceptions = False  # a line that cannot be printed is no traceback
        # Imports make a million objects that stay. To look for garbage among them took half a second of the start, and
        # a whole one of the end.
        gc.set_threshold(10_000, 50, 100)
        atexit.register(gc.freeze)
        register_schemas()
        app = hydra.main(version_base=VERSION_BASE, config_path=self._config_folder, config_name=self._config_name)
        try:
            arguments = parse_arguments()
            if arguments.help:
                print(self._help(arguments.overrides))
                sys.exit(0)
            if not asks_for_information(arguments):
                if self._translate is not None:
                    translated = self._translate(arguments.overrides, multirun=arguments.multirun)
                    self._resumes = any(text.startswith("resume=") for text in translated or [])
                    if translated is not None:
                        arguments.overrides = sys.argv[1:] = translated
                self._check(arguments)
            app(lambda config: self._job(config))()
            self._conclude_sweep()
        except UserError as error:
            _exit_with(str(error), status=2)
        except (HydraException, OmegaConfBaseException) as error:
            _exit_with(explain(error, self._config_folder, self._config_name, sys.argv[1:]), status=2)
        except KeyboardInterrupt:
            _exit_with("interrupted", status=130)
        if self._diverged:
            sys.exit(1)

    def _help(self, overrides: Sequence[str]) -> str:
        """What the primary config says of itself, the choices of each group, and all keys as the overrides set them.

        Hydra's own help takes twice as long, since it lists its own groups too, whatever its template asks for.
        """
        folder = Path(self._config_folder)
        lines = (folder / f"{self._config_name}.yaml").read_text(encoding="utf-8").splitlines()
        purpose = [line[2:] for line in takewhile(lambda line: line.startswith("#"), lines)]
        with initialize_config_dir(config_dir=self._config_folder, version_base=VERSION_BASE):
            config = compose(self._config_name, overrides=list(overrides))
        groups = [
            f"  {group.name}: {', '.join(choices(group))}"
            for group in sorted(folder.iterdir())
            if group.is_dir() and (group.name in config or (group.name in MAY_BE_NONE and "model" in config))
        ]
        shown = [*purpose, "", *(["Groups (GROUP=NAME):", "", *groups, ""] if groups else [])]
        return "\n".join([*shown, "Keys and their values (KEY=VALUE):", "", OmegaConf.to_yaml(config)])

    def _check(self, arguments: Any) -> None:
        """Compose and check every run that the arguments ask for, before Hydra makes a folder."""
        parsed = OverridesParser.create().parse_overrides(list(arguments.overrides))
        refuse_schema_bypass(parsed)
        refuse_no_choice(parsed, self._config_folder)
        if not self._resumes:
            refuse_what_breaks_run_folders(parsed)
        search = [f"hydra.searchpath=[file://{Path(arguments.config_dir).absolute()}]"] if arguments.config_dir else []
        with initialize_config_dir(config_dir=self._config_folder, version_base=VERSION_BASE):
            jobs = BasicSweeper.split_arguments(parsed, None)[0] if arguments.multirun else [arguments.overrides]
            # Every value once, not every combination: a composition takes a seventh of a second.
            jobs = [job for job in jobs if sum(map(operator.ne, job, jobs[0])) <= 1]
            for number, job in enumerate(jobs):
                config = compose(self._config_name, overrides=[*search, *job], return_hydra_config=True)
                makes_folder = config.hydra.output_subdir is not None
                if arguments.multirun and not makes_folder:
                    raise UserError(f"{self._config_name} has no sweeps: leave out -m")
                if number == 0 and makes_folder and not self._resumes:
                    self._check_folder(config, key="hydra.sweep.dir" if arguments.multirun else "hydra.run.dir")
                with read_write(config), open_dict(config):
                    del config["hydra"]
                to_options(config, parsed)

    def _check_folder(self, config: DictConfig, *, key: str) -> None:
        """The folder must be new, so that no file in it is lost, neither in a run nor after a mistake."""
        folder = user_path(str(OmegaConf.select(config, key)), key=key).absolute()
        self._there_before = {path for path in (folder, *folder.parents) if path.exists()}
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{key} must be a new or empty folder, got {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{key}: {error.filename} cannot be made: {error.strerror}") from error
        finally:
            self._remove_empty(folder)

    def _conclude_sweep(self) -> None:
        """Print the runs of a sweep and, last and alone, its folder."""
        if not self._swept:
            return
        from ratinglab.experiment.sweep import Job, sweep_table  # by now torch is loaded

        print()
        for line in sweep_table([Job(folder, arguments) for folder, arguments in self._swept]):
            print(line)
        print(os.path.relpath(self._swept[0][0].parent))

    def _job(self, config: DictConfig) -> float | None:
        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        if hydra_config.mode == RunMode.MULTIRUN:
            self._swept.append((folder, list(hydra_config.overrides.task)))
        overrides = OverridesParser.create().parse_overrides(list(hydra_config.overrides.task))
        if self._translate is not None and (config.resume or config.reproduces):
            with_saved_values(config)
        try:
            return self._task(to_options(config, overrides), folder)
        except UserError as error:
            if hydra_config.output_subdir is not None and not (folder / "run.json").exists():
                self._remove(folder)
            _exit_with(str(error), status=2)
        except BrokenPipeError:  # stdout was read by a command that has ended, such as head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except OSError as error:
            if error.errno not in STORAGE_FAULTS:
                raise
            _exit_with(f"{folder}: {os.strerror(error.errno)}", status=1)
        except RunFailedError as error:
            if hydra_config.mode == RunMode.RUN:
                _exit_with(str(error), status=1)
            log.error("error: %s", error)
            self._diverged = True
            return float("inf")

    def _remove(self, folder: Path) -> None:
        """Remove what Hydra has written for a run that did not begin, and the folders that it made to hold it."""
        logging.shutdown()
        shutil.rmtree(folder / ".hydra", ignore_errors=True)
        (folder / f"{self._config_name}.log").unlink(missing_ok=True)
        self._remove_empty(folder)
        sweep = folder.parent
        if sweep not in self._there_before and {path.name for path in sweep.glob("*")} == {"multirun.yaml"}:
            (sweep / "multirun.yaml").unlink()
            self._remove_empty(sweep)

    def _remove_empty(self, folder: Path) -> None:
        for path in (folder, *folder.parents):
            if path in self._there_before:
                return
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError:  # it is not empty
                return


def _exit_with(message: str, *, status: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)
