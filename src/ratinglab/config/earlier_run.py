"""Find the run to resume or to reproduce, and restore its configuration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from ratinglab.config.hydra_api import is_search
from ratinglab.config.primary_config import (
    MULTIPLE_CHOICE_GROUPS,
    OPTIONAL_GROUPS,
    PrimaryConfig,
    flatten,
    format_choices,
)
from ratinglab.config.typed_options import TARGET
from ratinglab.datasets.sources import FRAME
from ratinglab.errors import UserError
from ratinglab.files import suggest_sibling, user_path
from ratinglab.options import escape_interpolations
from ratinglab.process.program import shell_command
from ratinglab.runs.finished_runs import find_named_run
from ratinglab.runs.hydra_files import parse_hydra_file, read_hydra
from ratinglab.runs.record import read_run_json
from ratinglab.runs.run_files import HYDRA_FOLDER

LIMIT_KEYS = ("trainer.max_epochs", "trainer.max_time")
"""Keys that can change on resume, to give a run more epochs."""
DEVICE_KEYS = ("trainer.devices", "trainer.num_nodes", "trainer.strategy")
"""Keys that can change on resume because the batches do not depend on the devices."""
PATH_KEY = re.compile(r"data\.(\w+\.)*(path|root|cache)")
"""Pattern of the keys of paths. They can change on resume because the files are then compared with the run's data."""


@dataclass(frozen=True)
class EarlierRun:
    """An earlier run to resume in its folder or to reproduce in a new one.

    Attributes:
        folder: folder of the earlier run.
        is_resumed: whether the run continues in its folder. A reproduction has a new folder.
        settings: overrides that replace values of the run's own configuration, such as trainer.max_epochs=50.
    """

    folder: Path
    is_resumed: bool
    settings: list[Override]

    @property
    def key(self) -> str:
        """Key of the argument that names the folder."""
        return "resume" if self.is_resumed else "run"

    def arguments(self) -> list[str]:
        """List the overrides that the run was started with, with the new settings in place of the old ones.

        Leaves out new paths, because `compose` makes them absolute.
        """
        keys = tuple(f"{_key(setting)}=" for setting in self.settings)
        saved = map(str, parse_hydra_file(self.folder, "overrides.yaml", key=self.key))
        new = [setting.input_line or "" for setting in self.settings if not PATH_KEY.fullmatch(_key(setting))]
        return [*(text for text in saved if not text.startswith(keys)), *new]

    def compose(self, conf: PrimaryConfig) -> tuple[DictConfig, DictConfig]:
        """Restore the run's own configuration, and compose Hydra's part.

        The run keeps the values that it was started with, even if the YAML files have changed. Options that were added
        to ratinglab since then get today's default values.

        Raises:
            UserError: the file is damaged, or the run has an option that no longer exists.
        """
        try:
            saved = OmegaConf.create(parse_hydra_file(self.folder, "config.yaml", key=self.key))
        except OmegaConfBaseException as error:  # for example, an interpolation without its end
            path, reason = self.folder / HYDRA_FOLDER / "config.yaml", " ".join(str(error).split())
            raise UserError(f"{self.key}: {path} is damaged: {reason}") from error
        config, hydra = self._compose_todays_defaults(conf, saved)
        self._make_paths_absolute(saved)
        if OmegaConf.is_interpolation(saved, "test") and self._was_in_search():
            saved.test = False  # `unless_search` would see that no search is running now
        limits = self._changed_limits(saved)
        try:
            config.merge_with(saved, {"trainer": limits}, self._links(saved, is_extended=bool(limits)))
        except ConfigKeyError as error:
            raise UserError(
                f"{self.key}: {self.folder} has the option {error.full_key}, which no longer exists, so the run "
                "cannot be resumed or reproduced"
            ) from error
        self._apply_settings(config)
        return config, hydra

    def _was_in_search(self) -> bool:
        """Return whether the run was a job of a search."""
        hydra = OmegaConf.create(read_hydra(self.folder))
        return hydra.get("mode") == RunMode.MULTIRUN.name and is_search(hydra)

    def _compose_todays_defaults(self, conf: PrimaryConfig, saved: DictConfig) -> tuple[DictConfig, DictConfig]:
        """Compose today's config of the run's choices, and Hydra's part.

        If a choice of the run no longer exists, takes the whole group from `saved`. Removes the names of the classes
        from all other groups of `saved`, because a class may have moved.
        """
        choices = self._choices(saved)
        groups = [group for group in conf.groups() if group not in OPTIONAL_GROUPS]
        groups = [group for group in groups if not choices or group in choices]
        if not set(groups) <= set(saved):
            path = self.folder / HYDRA_FOLDER / "config.yaml"
            raise UserError(f"{self.key}: {path} is damaged: groups of options are missing")
        existing = {
            group: choices[group] for group in groups if set(choices.get(group, [""])) <= set(conf.choices(group))
        }
        overrides = [f"{group}={format_choices(names)}" for group, names in existing.items()]
        config, hydra = conf.compose(overrides)
        OmegaConf.set_struct(config, True)
        for group in groups:
            if group in existing:
                for choice in saved[group].values() if group in MULTIPLE_CHOICE_GROUPS else [saved[group]]:
                    choice.pop(TARGET, None)
            else:
                OmegaConf.update(config, group, saved[group], merge=False, force_add=True)
        return config, hydra

    def _apply_settings(self, config: DictConfig) -> None:
        """Set the new settings in the restored config.

        If users or items were read from the ratings file, they are read from its new path too.
        """
        keys, changed = flatten(config), set(map(_key, self.settings))
        in_ratings = [
            key
            for key in ("data.users.path", "data.items.path")
            if "data.path" in changed and key in keys and key not in changed and keys[key] == keys["data.path"] != FRAME
        ]
        for setting in self.settings:
            key, value = _key(setting), setting.value()
            if key not in keys:
                raise UserError(f"{setting.input_line}: the run has no key {key}")
            if PATH_KEY.fullmatch(key) and value not in (None, FRAME) and not _text(setting).startswith("~"):
                # absolute, because a reproduction may be resumed elsewhere
                value = str(Path(escape_interpolations(str(Path.cwd()))) / _text(setting))
            OmegaConf.update(config, key, value)
        for key in in_ratings:
            OmegaConf.update(config, key, OmegaConf.select(config, "data.path"))

    def _links(self, saved: DictConfig, *, is_extended: bool) -> dict[str, str | None]:
        """Return the values of the keys `resume` and `reproduces`.

        A reproduction that is resumed for more epochs no longer reproduces the original.
        """
        folder = escape_interpolations(str(self.folder))
        if not self.is_resumed:
            return {"resume": None, "reproduces": folder}
        is_extended = is_extended or any(_key(setting) in LIMIT_KEYS for setting in self.settings)
        reproduces = None if is_extended else OmegaConf.select(saved, "reproduces")
        return {"resume": folder, "reproduces": reproduces}

    def _choices(self, saved: DictConfig) -> dict[str, list[str]]:
        """Return the choices of each group in the earlier run.

        Hydra does not record the choices of a group with several choices. They are the keys of the group in `saved`.
        """
        recorded = (read_hydra(self.folder).get("runtime") or {}).get("choices", {})
        choices = {str(group): [str(name)] for group, name in recorded.items()}
        for group in MULTIPLE_CHOICE_GROUPS if choices else ():
            if group in saved:
                choices[group] = list(map(str, saved[group] or {})) or ["none"]
        return choices

    def _make_paths_absolute(self, saved: DictConfig) -> None:
        """Make relative paths in `saved` absolute if they exist in the folder in which the run was started."""
        start_folder = Path((read_hydra(self.folder).get("runtime") or {}).get("cwd", "."))
        keys = [key for key in flatten(saved) if key == "from" or PATH_KEY.fullmatch(key)]
        for key in keys:
            path = OmegaConf.select(saved, key)
            if isinstance(path, str) and not path.startswith("~") and not Path(path).is_absolute():
                first = (*Path(path).parts, ".")[0]  # the other parts can be a pattern, or a file in an archive
                if (start_folder / first).exists() or glob(first, root_dir=start_folder):
                    OmegaConf.update(saved, key, escape_interpolations(str(start_folder / path)))

    def _changed_limits(self, saved: DictConfig) -> dict[str, Any]:
        """Return the options of LIMIT_KEYS, by their names in trainer, that earlier resumes have changed."""
        record = read_run_json(self.folder) or {}
        names = [key.removeprefix("trainer.") for key in LIMIT_KEYS]
        return {name: record[name] for name in names if name in record and record[name] != saved.trainer.get(name)}


def find_resumed_run(overrides: Sequence[Override]) -> EarlierRun | None:
    """Return the run that `resume=` names, or None if no run is resumed.

    Raises:
        UserError: there is no such run, or a key is set that would make it another experiment.
    """
    if any(override.key_or_group == "reproduces" for override in overrides):
        raise UserError(f"reproduces cannot be set: use {shell_command('reproduce', 'run=FOLDER')}")
    resume = next((override for override in overrides if override.key_or_group == "resume"), None)
    if resume is None or resume.value() is None:
        return None
    _check_single_values(overrides)
    settings = []
    for override in overrides:
        if _key(override) in (*LIMIT_KEYS, *DEVICE_KEYS) or PATH_KEY.fullmatch(_key(override)):
            settings.append(override)
        elif override is not resume:
            raise UserError(
                f"{override.input_line} cannot be set with resume, which continues the run with its own configuration: "
                f"only {', '.join((*LIMIT_KEYS, *DEVICE_KEYS))} and the paths of the data can; from={_text(resume)} "
                "starts a new run from its weights"
            )
    folder = _run_folder(user_path(_text(resume), key="resume"), key="resume")
    return EarlierRun(folder, is_resumed=True, settings=settings)


def find_reproduced_run(overrides: Sequence[Override]) -> EarlierRun:
    """Return the run that `run=` names, which will be trained again in a new folder.

    Raises:
        UserError: there is no such run, or another key is set.
    """
    _check_single_values(overrides)
    run = [override for override in overrides if override.key_or_group == "run"]
    settings = [override for override in overrides if PATH_KEY.fullmatch(_key(override))]
    if len(run) != 1 or len(overrides) != 1 + len(settings):
        raise UserError(
            "reproduce takes run=FOLDER and, if the data have been moved, their new path, as in data.path=FILE"
        )
    folder, notes = find_named_run(_text(run[0]))
    for note in notes:
        print(note)
    return EarlierRun(_run_folder(folder, key="run"), is_resumed=False, settings=settings)


def _check_single_values(overrides: Sequence[Override]) -> None:
    """Refuse a key with several values, and a key that is given twice."""
    keys = [override.key_or_group for override in overrides]
    for override, key in zip(overrides, keys, strict=True):
        if override.is_sweep_override() or keys.count(key) > 1:
            raise UserError(f"{override.input_line}: {key} takes one value")


def _run_folder(folder: Path, *, key: str) -> Path:
    """Check that a folder holds a run of the current format, and return its absolute path."""
    if not folder.is_dir():
        raise UserError(f"{key}: there is no folder {folder}{suggest_sibling(folder)}")
    folder = folder.absolute()
    read_run_json(folder)
    for name in ("overrides.yaml", "config.yaml"):
        if parse_hydra_file(folder, name, key=key) is None:
            raise UserError(f"{key}: {folder} is not the folder of a run: it has no {HYDRA_FOLDER}/{name}")
    return folder


def _key(override: Override) -> str:
    return str(override.key_or_group)


def _text(override: Override) -> str:
    """Return the value of an override as the user typed it, even if Hydra parses it as a number."""
    value = override.value()
    assert override.input_line is not None
    return value if isinstance(value, str) else override.input_line.split("=", 1)[1]
