"""Arguments of an earlier run, to resume it in its own folder or to train it again in a new one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError

from ratinglab.config.arguments import quoted
from ratinglab.errors import UserError
from ratinglab.files import RUN_FORMAT, RUN_RECORD, user_path

EXTENDS = "trainer.max_epochs"
"""The only key that may be set with resume: more epochs of the same experiment."""


class Rerun(NamedTuple):
    """Arguments of Hydra for an earlier run.

    Attributes:
        overrides: the run's own, and those for its folder.
        config_dir: the folder of --config-dir, if it was given.
    """

    overrides: list[str]
    config_dir: str | None


def resumed_arguments(overrides: Sequence[str], *, multirun: bool) -> Rerun | None:
    """Return the arguments that resume the run of `resume=`; None if no run is resumed.

    Raises:
        UserError: there is no such run, or a key is set that would make it another experiment.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    if any(override.key_or_group == "reproduces" for override in parsed):
        raise UserError("reproduces cannot be set: use reproduce.py run=FOLDER")
    resume = next((override for override in parsed if override.key_or_group == "resume"), None)
    if resume is None or resume.value() is None:
        return None
    if multirun:
        raise UserError("resume continues a single run: leave out -m")
    folder = _folder(resume)
    path = quoted(str(folder))
    added = [f"resume={path}", f"hydra.run.dir={path}", "hydra.output_subdir=null"]
    for override in parsed:
        if override.key_or_group == EXTENDS:
            added.append(override.input_line or "")
        elif override is not resume:
            raise UserError(
                f"{override.input_line} cannot be set with resume, which continues the run with its own configuration; "
                f"only {EXTENDS} can"
            )
    return _rerun(folder, added, key="resume")


def reproduced_arguments(overrides: Sequence[str], *, multirun: bool) -> Rerun:
    """Return the arguments that train the run of `run=` again, in a new folder.

    Raises:
        UserError: there is no such run, or another key is set.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    keys = [override.key_or_group for override in parsed]
    if multirun or keys != ["run"]:
        raise UserError("reproduce takes run=FOLDER and nothing else")
    folder = _folder(parsed[0])
    return _rerun(folder, [f"reproduces={quoted(str(folder))}"], key="run")


def with_saved_values(config: DictConfig) -> None:
    """Restore the values that a run was started with, even if a default in conf/ has changed since.

    Raises:
        UserError: the run has an option that ratinglab no longer has.
    """
    key, folder = ("resume", config.resume) if config.resume else ("run", config.reproduces)
    saved = OmegaConf.load(Path(folder) / ".hydra" / "config.yaml")
    for group in saved.values():
        if isinstance(group, DictConfig):
            group.pop("_target_", None)  # the class may have moved since
    now = {"resume": config.resume, "reproduces": config.reproduces}
    try:
        config.merge_with(saved, {**now, "trainer": {"max_epochs": config.trainer.max_epochs}})
    except ConfigKeyError as error:
        raise UserError(
            f"{key}: {folder} has the option {error.full_key}, which ratinglab no longer has: "
            "it can be neither resumed nor reproduced"
        ) from error


def _rerun(folder: Path, added: Sequence[str], *, key: str) -> Rerun:
    """Add overrides to those of the run in the folder that `key` names. Runs of older formats are refused."""
    record = _read_record(folder)
    version = record.get("format_version")
    if version not in (None, RUN_FORMAT):
        raise UserError(
            f"{key}: {folder} has format {version}: it predicts, but only runs of format {RUN_FORMAT} can be resumed "
            "or reproduced"
        )
    path = folder / ".hydra" / "overrides.yaml"
    if not path.is_file():
        raise UserError(f"{key}: {folder} is not the folder of a run: it has no .hydra/overrides.yaml")
    first = [str(text) for text in OmegaConf.load(path) if not str(text).startswith(f"{EXTENDS}=")]
    max_epochs = record.get("max_epochs")  # when the run was started or last extended
    if max_epochs is None:
        max_epochs = OmegaConf.select(OmegaConf.load(folder / ".hydra" / "config.yaml"), EXTENDS)
    return Rerun([*first, f"{EXTENDS}={max_epochs}", *added], _config_dir(folder))


def _config_dir(folder: Path) -> str | None:
    path = folder / ".hydra" / "hydra.yaml"
    sources = OmegaConf.select(OmegaConf.load(path), "hydra.runtime.config_sources") if path.is_file() else None
    return next((source.path for source in sources or [] if source.provider == "command-line"), None)


def _read_record(folder: Path) -> dict[str, Any]:
    """Read run.json; return {} if it is missing or damaged, which a later check reports."""
    try:
        return dict(json.loads((folder / RUN_RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _folder(override: Override) -> Path:
    """Return the folder that `resume=` or `run=` names."""
    value, key = override.value(), override.key_or_group
    assert override.input_line is not None
    # the text as typed, even if Hydra parses it as a number
    text = value if isinstance(value, str) else override.input_line.split("=", 1)[1]
    folder = user_path(text, key=key)
    if not folder.is_dir():
        raise UserError(f"{key}: there is no folder {folder}")
    return folder.absolute()
