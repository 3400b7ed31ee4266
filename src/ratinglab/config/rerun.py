"""Resume or reproduce an earlier run with its own configuration."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from ratinglab.config.conf import MULTIPLE_CHOICE_GROUPS, OPTIONAL_GROUPS, Conf, flat, one_or_several
from ratinglab.config.conversion import TARGET
from ratinglab.errors import UserError
from ratinglab.files import RUN_FORMAT, RUN_RECORD, did_you_mean_beside, user_path
from ratinglab.options import quoted
from ratinglab.process.program import shell_command
from ratinglab.runs.digests import check_file
from ratinglab.runs.hydra_files import HYDRA_FOLDER, read_config_dir, read_hydra_text

LIMIT_KEYS = ("trainer.max_epochs", "trainer.max_time")
"""Keys that extend a resumed run: more epochs of the same experiment."""
DEVICE_KEYS = ("trainer.devices", "trainer.num_nodes", "trainer.strategy")
"""Keys of devices. They can change on resume, since they do not affect the batches."""
PATH_KEY = re.compile(r"data\.(\w+\.)*(path|root|cache)")
"""Keys of paths of files. They can change on resume: the contents are compared with the run's."""


@dataclass(frozen=True)
class Rerun:
    """An earlier run to resume in its folder or to reproduce in a new one.

    Attributes:
        folder: folder of the run.
        key: the argument that names it: "resume" or "run".
        settings: overrides of the run's own configuration.
        overrides: overrides for Hydra, which only choose the folder to write to.
    """

    folder: Path
    key: str
    settings: list[str]
    overrides: list[str]

    def config_dir(self) -> str | None:
        """Return the folder of --config-dir that the run was started with, if it is still there."""
        found = read_config_dir(self.folder)
        return found if found is not None and Path(found).is_dir() else None

    def as_typed(self) -> list[str]:
        """List the overrides that the run was started with, and the new settings."""
        settings = [text for text in self.settings if not PATH_KEY.fullmatch(text.partition("=")[0])]
        keys = tuple(f"{text.partition('=')[0]}=" for text in self.settings)
        return [*(text for text in map(str, self._saved("overrides.yaml")) if not text.startswith(keys)), *settings]

    def compose(self, conf: Conf) -> tuple[DictConfig, DictConfig]:
        """Restore the run's own configuration, and compose Hydra's part; call it inside `initialized`.

        Does not read the YAML files that the run was composed from: they may have changed. Options added to ratinglab
        since then get today's defaults.

        Raises:
            UserError: the file is damaged, or the run has an option that no longer exists.
        """
        saved = self._saved("config.yaml")
        config, hydra = self._todays_defaults(conf, saved)
        self._locate(saved)
        limits = self._limits(saved)
        try:
            config.merge_with(saved, {"trainer": limits}, self._links(saved, is_extended=bool(limits)))
        except ConfigKeyError as error:
            raise UserError(
                f"{self.key}: {self.folder} has the option {error.full_key}, which no longer exists, so the run "
                "cannot be resumed or reproduced"
            ) from error
        self._apply_settings(conf, config)
        return config, hydra

    def _todays_defaults(self, conf: Conf, saved: DictConfig) -> tuple[DictConfig, DictConfig]:
        """Compose today's config of the run's choices, and Hydra's part.

        A group with a choice that no longer exists is taken from the run. For all others, removes the name of the class
        from `saved`, since the class may have moved.
        """
        chosen = self._choices(saved)
        groups = [group for group in conf.groups() if group not in OPTIONAL_GROUPS and (not chosen or group in chosen)]
        if not set(groups) <= set(saved):
            path = self.folder / HYDRA_FOLDER / "config.yaml"
            raise UserError(f"{self.key}: {path} is damaged: it lacks groups of options")
        kept = {group: chosen[group] for group in groups if set(chosen.get(group, [""])) <= set(conf.choices(group))}
        choices = [f"{group}={one_or_several(names)}" for group, names in kept.items()]
        config, hydra = conf.compose([*choices, *self.overrides])
        OmegaConf.set_struct(config, True)
        for group in groups:
            if group in kept:
                for choice in saved[group].values() if group in MULTIPLE_CHOICE_GROUPS else [saved[group]]:
                    choice.pop(TARGET, None)
            else:
                OmegaConf.update(config, group, saved[group], merge=False, force_add=True)
        return config, hydra

    def _apply_settings(self, conf: Conf, config: DictConfig) -> None:
        """Set the new settings in the restored config."""
        keys = flat(OmegaConf.to_container(config))
        for setting in conf.parsed(self.settings):
            key = str(setting.key_or_group)
            value = setting.value()
            if key not in keys:
                raise UserError(f"{setting.input_line}: the run has no key {key}")
            if PATH_KEY.fullmatch(key) and value is not None and not _text(setting).startswith("~"):
                value = str(Path.cwd() / _text(setting))  # a reproduction may be resumed elsewhere
            OmegaConf.update(config, key, value)

    def save(self, folder: Path, config: DictConfig) -> None:
        """Store the restored configuration in a new run's folder, where Hydra has stored its own arguments."""
        OmegaConf.save(config, folder / HYDRA_FOLDER / "config.yaml")
        OmegaConf.save(OmegaConf.create(self.as_typed()), folder / HYDRA_FOLDER / "overrides.yaml")
        OmegaConf.save(self._saved("hydra.yaml"), folder / HYDRA_FOLDER / "hydra.yaml")

    def _links(self, saved: DictConfig, *, is_extended: bool) -> dict[str, str | None]:
        """Return the values of the keys that name an earlier run. An extended run reproduces no other."""
        if self.key == "run":
            return {"resume": None, "reproduces": str(self.folder)}
        is_extended = is_extended or any(text.startswith(LIMIT_KEYS) for text in self.settings)
        reproduces = None if is_extended else OmegaConf.select(saved, "reproduces")
        return {"resume": str(self.folder), "reproduces": reproduces}

    def _choices(self, saved: Any) -> dict[str, list[str]]:
        """Return the choices of each group. Hydra's record lacks lists: those are the keys of the configuration."""
        recorded = OmegaConf.select(self._saved("hydra.yaml"), "hydra.runtime.choices") or {}
        chosen = {str(group): [str(name)] for group, name in recorded.items()}
        for group in MULTIPLE_CHOICE_GROUPS if chosen and isinstance(saved, DictConfig) else ():
            if group in saved:
                chosen[group] = list(map(str, saved[group] or {})) or ["none"]
        return chosen

    def _saved(self, name: str) -> Any:
        """Load one of Hydra's files as OmegaConf's object, an empty one if it is missing.

        Raises:
            UserError: it is damaged.
        """
        text = read_hydra_text(self.folder, name)
        is_list = name == "overrides.yaml"
        try:
            found: Any = OmegaConf.create(("[]" if is_list else "{}") if text is None else text)
            OmegaConf.to_container(found)  # raises if a node is faulty
            if OmegaConf.is_list(found) != is_list:
                raise ValueError("its content has the wrong type")
        except (OmegaConfBaseException, YAMLError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.key}: {self.folder / HYDRA_FOLDER / name} is damaged: {reason}") from error
        return found

    def _locate(self, saved: DictConfig) -> None:
        """Make relative paths absolute, from the folder in which the run was started, if they exist there."""
        started_in = Path(OmegaConf.select(self._saved("hydra.yaml"), "hydra.runtime.cwd") or ".")
        keys = [key for key in flat(OmegaConf.to_container(saved)) if key == "from" or PATH_KEY.fullmatch(key)]
        for key in keys:
            path = OmegaConf.select(saved, key)
            if isinstance(path, str) and not path.startswith("~") and not Path(path).is_absolute():
                first = (*Path(path).parts, ".")[0]  # the others may be a pattern, or a file in an archive
                if (started_in / first).exists() or glob(first, root_dir=started_in):
                    OmegaConf.update(saved, key, str(started_in / path))

    def _limits(self, saved: DictConfig) -> dict[str, Any]:
        """Return the trainer keys that have extended the run since it was started."""
        record = _read_record(self.folder)
        changed = {}
        for key in LIMIT_KEYS:
            name = key.removeprefix("trainer.")
            before = OmegaConf.select(saved, key)
            if record.get(name, before) != before:
                changed[name] = record[name]
        return changed


def resumed_run(overrides: Sequence[str], *, multirun: bool) -> Rerun | None:
    """Return the run that `resume=` names; None if no run is resumed.

    Raises:
        UserError: there is no such run, or a key is set that would make it another experiment.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    if any(override.key_or_group == "reproduces" for override in parsed):
        raise UserError(f"reproduces cannot be set: use {shell_command('reproduce', 'run=FOLDER')}")
    resume = next((override for override in parsed if override.key_or_group == "resume"), None)
    if resume is None or resume.value() is None:
        return None
    if multirun:
        raise UserError("resume continues a single run: leave out -m")
    _check_single_values(parsed)
    settings = []
    for override in parsed:
        key = str(override.key_or_group)
        if key in (*LIMIT_KEYS, *DEVICE_KEYS) or PATH_KEY.fullmatch(key):
            settings.append(override.input_line or "")
        elif override is not resume:
            raise UserError(
                f"{override.input_line} cannot be set with resume, which continues the run with its own configuration: "
                f"only {', '.join((*LIMIT_KEYS, *DEVICE_KEYS))} and the paths of the data can; from={_text(resume)} "
                "starts a new run from its weights"
            )
    folder = _existing(user_path(_text(resume), key="resume"), key="resume")
    path = quoted(str(folder))
    return _checked(Rerun(folder, "resume", settings, [f"hydra.run.dir={path}", "hydra.output_subdir=null"]))


def reproduced_run(overrides: Sequence[str], *, multirun: bool) -> Rerun:
    """Return the run that `run=` names, to be retrained in a new folder.

    Raises:
        UserError: there is no such run, or another key is set.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    _check_single_values(parsed)
    run = [override for override in parsed if override.key_or_group == "run"]
    settings = [override for override in parsed if PATH_KEY.fullmatch(str(override.key_or_group))]
    if multirun or len(run) != 1 or len(parsed) != 1 + len(settings):
        raise UserError("reproduce takes run=FOLDER and, if the data have moved, their path, as in data.path=FILE")
    from ratinglab.runs.finished_runs import find_named_run  # torch takes a second: keep --help fast

    named = find_named_run(_text(run[0]))
    if named.note is not None:
        print(named.note)
    folder = _existing(named.folder, key="run")
    typed = [override.input_line or "" for override in settings]
    return _checked(Rerun(folder, "run", typed, []))


def _check_single_values(overrides: Sequence[Override]) -> None:
    """Refuse a key with several values, or one that is given twice."""
    keys = [override.key_or_group for override in overrides]
    for override, key in zip(overrides, keys, strict=True):
        if override.is_sweep_override() or keys.count(key) > 1:
            raise UserError(f"{override.input_line}: {key} takes one value")


def _checked(rerun: Rerun) -> Rerun:
    """Check that the folder is a run of the current format."""
    version = _read_record(rerun.folder).get("format_version")
    if version not in (None, RUN_FORMAT):
        raise UserError(
            f"{rerun.key}: {rerun.folder} has format {version}; this version of ratinglab reads format {RUN_FORMAT}"
        )
    for name in ("overrides.yaml", "config.yaml"):
        if read_hydra_text(rerun.folder, name) is None:
            raise UserError(f"{rerun.key}: {rerun.folder} is not the folder of a run: it has no {HYDRA_FOLDER}/{name}")
    return rerun


def _read_record(folder: Path) -> dict[str, Any]:
    """Read run.json; return {} if it is missing: a run may have been stopped before it wrote it."""
    path = folder / RUN_RECORD
    check_file(path)
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _existing(folder: Path, *, key: str) -> Path:
    """Return the absolute path of the folder that `key` names."""
    if not folder.is_dir():
        raise UserError(f"{key}: there is no folder {folder}{did_you_mean_beside(folder)}")
    return folder.absolute()


def _text(override: Override) -> str:
    """Return the value as typed, even if Hydra parses it as a number."""
    value = override.value()
    assert override.input_line is not None
    return value if isinstance(value, str) else override.input_line.split("=", 1)[1]
