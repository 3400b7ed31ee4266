"""The folder conf/: its groups and their choices, and what a command line makes of a primary config in it."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ratinglab.config.arguments import quoted
from ratinglab.config.hydra_api import config_loader, initialized
from ratinglab.errors import UserError
from ratinglab.files import user_path


class ChosenFile(NamedTuple):
    """A YAML file that a composed config was made from.

    Attributes:
        label: the file as a user chooses it, such as `recipe=biased_mf_als`.
        package: the key below which its keys stand; "" for the top level.
        path: the file.
    """

    label: str
    package: str
    path: Path

    def set_keys(self) -> set[str]:
        """The full names of the keys that it sets, with those that hold others."""
        content = OmegaConf.to_container(OmegaConf.load(self.path), resolve=False)
        return {f"{self.package}.{key}".lstrip(".") for key in flat_keys(content)}


class Conf:
    """A primary config in conf/, with the folder that --config-dir adds."""

    def __init__(self, folder: Path, config_name: str) -> None:
        """Take a folder, such as conf/, and the name of a primary config in it, such as `train`."""
        self.folder = folder.resolve()
        self.config_name = config_name
        self.extra_folder: Path | None = None
        self.composed: Sequence[str] = ()
        """The overrides that were composed last: those of a mistake that Hydra finds."""

    def add_folder(self, folder: str | None) -> None:
        """Search a folder of the user's own too, for YAML files and for the classes that their `_target_`s name.

        Raises:
            UserError: there is no such folder, or a choice in it has the name of a built-in one.
        """
        if folder is None:
            return
        self.extra_folder = user_path(folder, key="--config-dir").absolute()
        if not self.extra_folder.is_dir():
            raise UserError(f"--config-dir: there is no folder {folder}")
        for group in self.groups():
            for path in sorted((self.extra_folder / group).rglob("*.yaml")):
                name = path.relative_to(self.extra_folder)
                if (self.folder / name).is_file():  # Hydra would take the built-in one
                    raise UserError(f"--config-dir: {path} needs another name: {group}={path.stem} is built in")
        self.put_on_path()

    def put_on_path(self) -> None:
        """Let Python find the classes in the extra folder, in a worker process of a launcher too."""
        if self.extra_folder is not None and str(self.extra_folder) not in sys.path:
            sys.path.insert(0, str(self.extra_folder))

    def folders(self) -> list[Path]:
        """The folders that are searched, the first one first."""
        return [self.folder, *([self.extra_folder] if self.extra_folder is not None else [])]

    def groups(self) -> list[str]:
        """Names of the config groups."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir() and any(path.rglob("*.yaml")))

    def choices(self, group: str) -> dict[str, Path]:
        """Files of a group by the names of its choices, sorted."""
        found = {
            path.relative_to(folder / group).with_suffix("").as_posix(): path
            for folder in reversed(self.folders())
            for path in (folder / group).rglob("*.yaml")
        }
        return dict(sorted(found.items()))

    def initialized(self) -> AbstractContextManager[None]:
        """Context of the methods below; a job of Hydra's is one too."""
        return initialized(self.folder)

    def parsed(self, overrides: Sequence[str]) -> list[Override]:
        """The overrides as Hydra reads them; glob(*) stands for the choices of its group."""
        return OverridesParser.create(config_loader=config_loader()).parse_overrides(list(overrides))

    def compose(self, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
        """The config that the overrides make, and Hydra's own part of it."""
        self.composed = overrides
        config = compose(self.config_name, overrides=self._searching(overrides), return_hydra_config=True)
        hydra = config.hydra
        with read_write(config), open_dict(config):
            del config["hydra"]
        return config, hydra

    def chosen_files(self, overrides: Sequence[str]) -> list[ChosenFile]:
        """The files that a composed config is made from, the later ones overriding the earlier ones."""
        defaults = config_loader().compute_defaults_list(self.config_name, self._searching(overrides), RunMode.RUN)
        found = []
        for default in defaults.defaults:
            name = (default.config_path or "").removesuffix(".yaml").lstrip("/")
            group, _, choice = name.partition("/")
            paths = [folder / f"{name}.yaml" for folder in self.folders() if group != "hydra"]
            path = next((path for path in paths if path.is_file()), None)
            if path is not None:
                label = f"{group}={choice}" if choice else path.name
                found.append(ChosenFile(label, default.package or "", path))
        return found

    def _searching(self, overrides: Sequence[str]) -> list[str]:
        """The overrides, with the extra folder on Hydra's search path."""
        if self.extra_folder is None:
            return list(overrides)
        paths = [f"file://{self.extra_folder}"]
        for override in self.parsed(overrides):
            value = override.value()
            if override.key_or_group == "hydra.searchpath" and isinstance(value, list):
                paths += map(str, value)
        # Of several overrides of the search path the first one counts.
        return [f"hydra.searchpath=[{','.join(quoted(path) for path in paths)}]", *overrides]


def flat_keys(content: Any, prefix: str = "") -> Iterator[str]:
    """The full names of all keys, with those that hold others."""
    for key, value in content.items() if isinstance(content, dict) else ():
        yield f"{prefix}{key}"
        yield from flat_keys(value, f"{prefix}{key}.")
