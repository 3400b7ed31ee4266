"""Hydra's and omegaconf's exceptions, each as one line that names the key, the rule and the value."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from ratinglab.config.schema import VERSION_BASE
from ratinglab.errors import UserError, did_you_mean

TYPE_NAMES = {"Integer": "an integer", "Float": "a number", "Boolean": "true or false", "String": "a text"}


MAY_BE_NONE = ("experiment", "recipe")
"""Groups of which a run may have no choice: they set what other groups hold."""


def refuse_schema_bypass(overrides: Sequence[Override]) -> None:
    """Refuse `+key`, `++key` and `~key` outside Hydra's own settings: they would get round the typed schema.

    Raises:
        UserError: it names the argument.
    """
    for override in overrides:
        if override.is_hydra_override() or not (override.is_add() or override.is_force_add() or override.is_delete()):
            continue
        argument = override.input_line or ""
        if override.is_delete():
            raise UserError(f"{argument}: a key cannot be removed, only set, as in KEY=VALUE")
        raise UserError(f"{argument}: a key cannot be added, all keys are known; try {argument.lstrip('+')}")


def refuse_no_choice(overrides: Sequence[Override], config_folder: str) -> None:
    """Refuse `GROUP=null` and `GROUP=[…]`: each group has one choice; experiment and recipe may have none.

    Raises:
        UserError: it lists the choices that there are.
    """
    for override in overrides:
        group = Path(config_folder) / override.key_or_group
        if not group.is_dir() or override.is_sweep_override() or isinstance(override.value(), str):
            continue
        if override.value() is None and override.key_or_group in MAY_BE_NONE:
            continue
        listed = ", ".join(choices(group))
        raise UserError(f"{override.input_line}: {override.key_or_group} must be one of {listed}")


def choices(group: Path) -> list[str]:
    """The names of a group's files, with those in its folders."""
    return sorted(path.relative_to(group).with_suffix("").as_posix() for path in group.rglob("*.yaml"))


OURS = ("hydra.sweep.subdir", "hydra.output_subdir", "hydra.job.chdir", "hydra.mode")
"""Settings of Hydra's on which the folders of runs depend."""


def refuse_what_breaks_run_folders(overrides: Sequence[Override]) -> None:
    """Refuse Hydra's own settings with which two runs could share a folder, or a run lose its record.

    Raises:
        UserError: it names the argument.
    """
    for override in overrides:
        if override.key_or_group in OURS:
            hint = "use -m" if override.key_or_group == "hydra.mode" else "use hydra.run.dir or hydra.sweep.dir"
            raise UserError(f"{override.input_line}: {override.key_or_group} is not to be set; {hint}")


def explain(
    error: HydraException | OmegaConfBaseException,
    config_folder: str,
    config_name: str,
    overrides: Sequence[str],
) -> str:
    """One line for an exception of Hydra's or omegaconf's."""
    text = str(error)
    cause = error.__cause__
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        return f"{error.override} cannot be parsed: quote what is no plain word or number, as in \"{key}='{value}'\""
    if isinstance(error, MissingConfigException):
        return _missing_config(error, config_folder)
    misplaced = re.match(
        r"In '(?P<group>[^/']+)/(?P<name>[^']+)': ConfigKeyError .*full_key: (?P<key>\S+)", text, re.DOTALL
    )
    if misplaced:
        group, name, key = misplaced["group"], misplaced["name"], misplaced["key"]
        return f"{group}={name} sets {key}, which there is not with what was chosen for {key.split('.')[0]}"
    unknown = re.match(r"Could not override '(?P<key>[^']*)'", text)
    if unknown:
        key = unknown["key"]
        return f"there is no key {key}{did_you_mean(key, _keys(config_folder, config_name, overrides))}"
    ambiguous = re.match(r"\s*Ambiguous value for argument '(?P<argument>.*)'", text)
    if ambiguous:
        return f"{ambiguous['argument']}: several values are a sweep, which needs -m before them"
    merging = re.match(r"Error merging override (?P<argument>.*)", text)
    if merging and isinstance(cause, ValidationError):
        return _wrong_value(merging["argument"].split("=", 1), cause)
    return " ".join(text.split())


def _missing_config(error: MissingConfigException, config_folder: str) -> str:
    group, _, name = (error.missing_cfg_file or "").partition("/")
    if not name:
        return " ".join(str(error).split())
    options = choices(Path(config_folder) / group) or sorted(error.options or [])
    return f"there is no {group}={name}; there are {', '.join(options)}{did_you_mean(name, options)}"


def _wrong_value(argument: list[str], cause: ValidationError) -> str:
    key, value = argument[0], argument[-1]
    reason = str(cause.msg or cause)
    converted = re.search(r"could not be converted to (\w+)", reason)
    if converted and converted[1] in TYPE_NAMES:
        return f"{key} must be {TYPE_NAMES[converted[1]]}, got {value}"
    chosen = re.search(r"expected one of \[(.*)\]", reason)
    if chosen:
        names = chosen[1].split(", ")
        return f"{key} must be one of {', '.join(names)}, got {value}{did_you_mean(value, names)}"
    if "is not a valid bool" in reason:
        return f"{key} must be {TYPE_NAMES['Boolean']}, got {value}"
    if "is not Optional" in reason:
        return f"{key} must not be null"
    return f"{key}={value}: {reason.splitlines()[0]}"


def _keys(config_folder: str, config_name: str, overrides: Sequence[str]) -> list[str]:
    """All keys that can be set, with the groups that the overrides choose where they can be composed."""
    groups = [path.name for path in Path(config_folder).iterdir() if path.is_dir()]
    choices = [text for text in overrides if text.split("=", 1)[0] in groups]
    with initialize_config_dir(config_dir=config_folder, version_base=VERSION_BASE):
        for chosen in (choices, []):
            try:
                config = compose(config_name, overrides=chosen)
            except HydraException:
                continue
            return [*groups, *_flat_keys(OmegaConf.to_container(config, resolve=False))]
    return groups


def _flat_keys(content: Any, prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat_keys(value, f"{prefix}{key}.")
