"""The YAML files of the package ratinglab.conf and of the user's folder, and how Hydra composes them.

A primary config, such as train.yaml, is composed from one or more files of each group. In `model=mf`, the group is
model, the choice is mf, and the file is model/mf.yaml.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ratinglab.config.hydra_api import hydra_loader, load_file
from ratinglab.config.resolvers import register_resolvers
from ratinglab.errors import UserError
from ratinglab.files import user_path
from ratinglab.options import as_override, quote_for_hydra

FOLDER = (Path(__file__).parents[1] / "conf").resolve()
"""Folder of the configs: conf/ in a checkout."""
OPTIONAL_GROUPS = ("recipe", "search", "experiment")
"""Groups without a default choice."""
OVERLAY_GROUPS = ("protocol", *OPTIONAL_GROUPS)
"""Groups of overlays: files that set keys of other groups."""
MULTIPLE_CHOICE_GROUPS = ("logger",)
"""Groups with several choices per run, as in logger=[tensorboard,csv]. The keys of each choice are below its name."""


class ChosenFile(NamedTuple):
    """A YAML file that is a part of a composed config.

    Attributes:
        label: the file as a user chooses it, such as `recipe=biased_mf_als`.
        package: the key below which Hydra puts the keys of the file, or "" for the top level.
        path: the file.
        is_included: whether the file was not chosen itself, but another file of its group includes it.
    """

    label: str
    package: str
    path: Path
    is_included: bool = False

    def values(self) -> dict[str, Any]:
        """Map the full names of the keys that the file sets to their values, parent keys included."""
        values = flatten(OmegaConf.load(self.path))
        return {f"{self.package}.{key}".lstrip("."): value for key, value in values.items()}


class PrimaryConfig:
    """A primary config in conf/, such as train.yaml, with the user's folder of --config-dir.

    Attributes:
        config_name: name of the primary config, such as `train`.
        in_python: whether a call from Python asks, so that messages name its keywords and not the flags.
        user_folder: the user's folder, or None.
        composed: the overrides composed last, which Hydra's errors are about.
    """

    def __init__(self, config_name: str, *, in_python: bool = False) -> None:
        """Start without a user's folder, which `add_folder` adds. Registers the resolvers that the files use."""
        register_resolvers()
        self.config_name = config_name
        self.in_python = in_python
        self.user_folder: Path | None = None
        self._overrides_of_choices: dict[tuple[str, ...], list[str]] = {}
        self.composed: Sequence[str] = ()

    @property
    def sweep_hint(self) -> str:
        """How to run a sweep, for messages."""
        return "sweeps run from the command line, with ratinglab train -m" if self.in_python else "add -m"

    def add_folder(self, folder: str | os.PathLike[str] | None) -> None:
        """Add a user's folder, with YAML files and the classes that their `_target_` keys name.

        Raises:
            UserError: the folder does not exist, or a choice in it has the name of a built-in one.
        """
        if folder is None:
            return
        key = "config_dir" if self.in_python else "--config-dir"
        path = user_path(os.fspath(folder), key=key)
        self.user_folder = Path(os.path.abspath(path))  # without `..` in messages
        if not self.user_folder.is_dir():
            raise UserError(f"{key}: there is no folder {folder}")
        for group in self.groups():
            for path in sorted((self.user_folder / group).rglob("*.yaml")):
                name = path.relative_to(self.user_folder)
                if (FOLDER / name).is_file():  # Hydra would take the built-in one
                    raise UserError(f"{key}: {path} needs another name: {group}={path.stem} is built in")
        self.put_on_path()

    def put_on_path(self) -> None:
        """Let Python find the classes in the user's folder, even in a launcher's worker process."""
        if self.user_folder is not None and str(self.user_folder) not in sys.path:
            sys.path.insert(0, str(self.user_folder))

    def folders(self) -> list[Path]:
        """List the folders of the YAML files, in the order in which they are searched."""
        return [FOLDER, *([self.user_folder] if self.user_folder is not None else [])]

    def groups(self) -> list[str]:
        """List the names of the config groups.

        Raises:
            UserError: the folder of the package is missing.
        """
        if not FOLDER.is_dir():
            raise UserError(f"there is no folder {FOLDER}: restore it, or install ratinglab again")
        return sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and any(path.rglob("*.yaml")))

    def choices(self, group: str) -> dict[str, Path]:
        """Return the file of each choice of a group, sorted by the name of the choice."""
        paths = {
            path.relative_to(folder / group).with_suffix("").as_posix(): path
            for folder in reversed(self.folders())
            for path in (folder / group).rglob("*.yaml")
        }
        return dict(sorted(paths.items()))

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """Parse the overrides as Hydra does. Expands glob(*) to the choices of the group."""
        with hydra_loader() as loader:
            return OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))

    def compose(self, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
        """Compose the config of these overrides. Returns the config and Hydra's own part, separately."""
        self.composed = overrides
        overrides = self._with_search_path(overrides)
        with hydra_loader():
            config = compose(self.config_name, overrides=overrides, return_hydra_config=True)
        hydra = config.hydra
        with read_write(config), open_dict(config):
            del config["hydra"]
        return config, hydra

    def faulty_file(self, error: Exception) -> Path | None:
        """Find the file in the user's folder that raises the same error when Hydra reads only this file."""
        folder = self.user_folder
        if folder is None:
            return None
        for path in sorted(path for group in self.groups() for path in (folder / group).rglob("*.yaml")):
            try:
                load_file(folder, path.relative_to(folder).with_suffix("").as_posix())
            except Exception as again:
                if type(again) is type(error) and str(again) == str(error):
                    return path
        return None

    def chosen_files(self, overrides: Sequence[str]) -> list[ChosenFile]:
        """List the files that make up a composed config. Later files override earlier ones."""
        overrides = self._with_search_path(overrides)
        with hydra_loader() as loader:
            defaults = loader.compute_defaults_list(self.config_name, overrides, RunMode.RUN)
        files = []
        for default in defaults.defaults:
            name = (default.config_path or "").removesuffix(".yaml").lstrip("/")
            group, _, choice = name.partition("/")
            paths = [folder / f"{name}.yaml" for folder in self.folders() if group != "hydra"]
            path = next((path for path in paths if path.is_file()), None)
            if path is not None:
                label = f"{group}={choice}" if choice else path.name
                is_included = (default.parent or "").startswith(f"{group}/")
                files.append(ChosenFile(label, default.package or "", path, is_included))
        return files

    def chosen_names(self, overrides: Sequence[str]) -> dict[str, list[str]]:
        """Return the names that are chosen in each group, or [] for a group that is left out."""
        labels = [file.label.partition("=") for file in self.chosen_files(overrides) if not file.is_included]
        return {group: [name for other, _, name in labels if other == group] for group in self.groups()}

    def keep_typed_choices(self, overrides: Sequence[str]) -> list[str]:
        """Prepend overrides so that the files that the user chose keep their values.

        Hydra reads overlays, such as recipes and experiments, after the files of the groups. With trainer=debug and an
        experiment, the experiment's trainer.max_epochs would win. An overlay that makes the same choice as the user
        keeps its values.
        """
        groups = self.groups()
        choices = tuple(
            text
            for text in overrides
            if text.partition("=")[0] in groups or text.startswith(("hydra/", "hydra.searchpath"))
        )
        if choices not in self._overrides_of_choices:  # most jobs of a sweep make the same choices
            self._overrides_of_choices[choices] = self._find_overrides_of_choices(choices)
        return [*self._overrides_of_choices[choices], *overrides]

    def _find_overrides_of_choices(self, overrides: Sequence[str]) -> list[str]:
        if not set(OVERLAY_GROUPS).intersection(text.partition("=")[0] for text in overrides):
            return []
        kept_values: list[str] = []
        files = self.chosen_files(overrides)
        for index, file in enumerate(files):
            if file.label not in overrides or file.package == "":
                continue
            replaced = set[str]().union(*(other.values() for other in files[index + 1 :] if other.package == ""))
            values = [
                as_override(key, value, interpolates=True)
                for key, value in file.values().items()
                if key in replaced and value != "???" and not isinstance(value, dict)
            ]
            group, _, name = file.label.partition("=")
            without_choice = [text for text in overrides if not text.startswith(f"{group}=")]
            if values and name not in self.chosen_names(without_choice)[group]:
                kept_values += values
        return kept_values

    def _with_search_path(self, overrides: Sequence[str]) -> list[str]:
        """Return the overrides, with one that adds the user's folder to Hydra's search path."""
        if self.user_folder is None:
            return list(overrides)
        paths = [f"file://{self.user_folder}"]
        for override in self.parse(overrides):
            value = override.value()
            if override.key_or_group == "hydra.searchpath" and isinstance(value, list):
                paths += map(str, value)
        # If several overrides set the search path, Hydra takes the first.
        return [f"hydra.searchpath=[{','.join(quote_for_hydra(path) for path in paths)}]", *overrides]


def format_choices(names: Sequence[str]) -> str:
    """Format the choices of a group as an override's value."""
    return names[0] if len(names) == 1 else f"[{','.join(names)}]"


def flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    """Map the full names of all keys in a config or a dictionary to their values, parent keys included."""
    values: dict[str, Any] = {}
    if OmegaConf.is_config(content):
        content = OmegaConf.to_container(content, resolve=False)
    for key, value in content.items() if isinstance(content, dict) else ():
        values |= {f"{prefix}{key}": value} | flatten(value, f"{prefix}{key}.")
    return values
