"""Functions of Hydra that are private or differ between 1.3 and 1.4. No other file uses private names of Hydra."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra import initialize_config_module
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

PACKAGE = "ratinglab.conf"
"""Package that holds the configs."""
IS_1_3 = hydra.__version__.startswith("1.3.")
VERSION_BASE: dict[str, str] = {"version_base": "1.3"} if IS_1_3 else {}
"""Hydra 1.3 warns if the version is missing, and Hydra 1.4 warns if it is given."""
argument_parser = get_args_parser
"""Builds Hydra's parser of the command line."""


def run_hydra_app(task: Callable[[DictConfig], Any], *, config_name: str, arguments: Sequence[str]) -> None:
    """Run a Hydra app with these command-line arguments. Hydra calls the task once per job.

    While a task runs, sys.argv has the arguments that the user typed, even in a launcher's worker process.
    """
    typed = list(sys.argv)

    def run_job(config: DictConfig) -> Any:
        sys.argv[:] = typed
        return task(config)

    app = hydra.main(config_path=f"pkg://{PACKAGE}", config_name=config_name, **VERSION_BASE)(run_job)
    sys.argv[1:] = arguments  # Hydra's app reads them there
    try:
        app()
    finally:
        sys.argv[:] = typed


def print_hydra_information(config_name: str, arguments: Sequence[str]) -> None:
    """Let a Hydra app print what flags such as --info ask for. Such an app runs no job."""
    run_hydra_app(lambda _: None, config_name=config_name, arguments=arguments)


@contextmanager
def hide_hydra_app() -> Iterator[None]:
    """Hide a Hydra app that runs in this process from a `with` block: the Python API may be called from such an app."""
    before = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().hydra = HydraConfig.instance().cfg = None
    try:
        yield
    finally:  # Hydra replaces its instance with a copy
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = before


@contextmanager
def hydra_loader() -> Iterator[ConfigLoader]:
    """Yield Hydra's loader of configs, with which Hydra also composes configs inside the `with` block."""
    with hide_hydra_app(), initialize_config_module(config_module=PACKAGE, **VERSION_BASE):
        yield GlobalHydra.instance().config_loader()


def load_file(folder: Path, name: str) -> None:
    """Read one YAML file of a folder the way Hydra does, with its header comment and its defaults list.

    Raises:
        Exception: the file is faulty. The exception is not always Hydra's.
    """
    search_path = ConfigSearchPathImpl()
    search_path.append("ratinglab", f"file://{folder}")
    ConfigRepository(search_path).load_config(name)


def register_resolver(name: str, resolver: Callable[..., Any]) -> None:
    """Register `${NAME:…}` with OmegaConf. The function for it has another name in each version of OmegaConf."""
    register = getattr(OmegaConf, "register_new_resolver" if IS_1_3 else "register_resolver")
    register(name, resolver, replace=True)


def is_search(hydra: Any) -> bool:
    """Return whether the sweeper chooses jobs by the results of earlier jobs, which Hydra's own grid does not."""
    return not hydra.sweeper._target_.endswith(".BasicSweeper")
