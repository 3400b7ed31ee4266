"""Explain mistakes on the command line and in YAML files in one line that names the key, the rule and the value.

`check_overrides` refuses overrides before Hydra reads them. `translate_exceptions` explains the exceptions that Hydra,
OmegaConf and the YAML parser raise.
"""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError
from yaml import MarkedYAMLError, YAMLError

from ratinglab.config.arguments import jobs_to_check, swept_values
from ratinglab.config.primary_config import (
    MULTIPLE_CHOICE_GROUPS,
    OPTIONAL_GROUPS,
    OVERLAY_GROUPS,
    PrimaryConfig,
    flatten,
    format_choices,
)
from ratinglab.config.typed_options import TARGET, UnknownKeyError, did_you_mean_key, wrong_value
from ratinglab.errors import UserError, did_you_mean
from ratinglab.fitting.trainer_options import NOT_IN_TRAINER
from ratinglab.options import as_yaml

HINTS_ON_HYDRA_KEYS = {
    "hydra": "set one of its keys, such as hydra.run.dir",
    "hydra.sweep.subdir": "use hydra.run.dir or hydra.sweep.dir",
    "hydra.output_subdir": "use hydra.run.dir or hydra.sweep.dir",
    "hydra.job.chdir": "use hydra.run.dir or hydra.sweep.dir",
    "hydra.mode": "use -m",
    "hydra.sweeper": "hydra/sweeper=NAME chooses a sweeper",
    "hydra.launcher": "hydra/launcher=NAME chooses a launcher",
}
"""Advice on the keys of Hydra that cannot be set, because ratinglab sets them itself or a group has the key."""
COMMAND_LINE_KEYS = ("resume", "reproduces")
"""Keys that name an earlier run, which provides all other settings. Only the command line can set them."""
LIST_KEYS = ("data.path", "data.unrated", "model.user_features", "model.item_features")
"""Keys whose values are lists."""
GLOBAL_RULE = "must begin with the line `# @package _global_`, to set keys of other groups"
"""Rule for the files of OPTIONAL_GROUPS."""
ADVICE_ON_UNKNOWN_KEYS = {
    "n_trials": "hydra.sweeper.n_trials sets the number of a search's jobs",
    "callbacks.early_stopping.enabled": "callbacks.early_stopping.patience=null turns early stopping off",
    "hydra.sweeper.params": "add it, as in \"+hydra.sweeper.params={model.embedding_dim: 'choice(8,16)'}\"",
}
"""Advice on unknown keys that users expect."""
EXTRA_OF_PLUGIN = {
    "hydra/sweeper/optuna": "sweep",
    "hydra/launcher/joblib": "sweep",
    "hydra/launcher/submitit_local": "sweep",
    "hydra/launcher/submitit_slurm": "sweep",
    "hydra/launcher/ray": "ray",
}
"""Extra of ratinglab that installs the plugin, for each choice that a plugin adds to one of Hydra's groups."""


def check_overrides(overrides: Sequence[Override], conf: PrimaryConfig) -> None:
    """Refuse overrides that Hydra would accept.

    Raises:
        UserError: an override adds or removes a key, leaves a group without a choice, or sets one of
            HINTS_ON_HYDRA_KEYS: two runs could share a folder, or a run could lose its record.
        HydraException: an override adds a key that is unknown.
    """
    groups = conf.groups()
    for override in overrides:
        key = override.key_or_group
        typed = override.input_line or ""
        if key in HINTS_ON_HYDRA_KEYS:
            raise UserError(f"{typed}: {key} cannot be set; {HINTS_ON_HYDRA_KEYS[key]}")
        if not override.is_hydra_override():
            if override.is_delete():
                raise UserError(f"{typed}: a key cannot be removed, only set, as in KEY=VALUE")
            if override.is_add() or override.is_force_add():
                _refuse_added_key(override, overrides, conf)
        if key in groups and override.is_sweep_override():
            for listed in swept_values(override):
                _check_names(conf, key, listed.strip("[]").split(","), typed=typed)
        elif key in groups:
            value: Any = override.value()
            names = value if isinstance(value, list) and key in MULTIPLE_CHOICE_GROUPS else [value]
            if not names or not all(name and isinstance(name, str) for name in names):
                hint = "; to choose none, leave it out" if key in OPTIONAL_GROUPS else ""
                raise UserError(f"{typed}: {key} must be one of {', '.join(conf.choices(key))}{hint}")
            _check_names(conf, key, names, typed=typed)


def _check_names(conf: PrimaryConfig, group: str, names: Sequence[str], *, typed: str | None) -> None:
    """Raise UserError if a name is listed twice, or if its file in the user's folder is wrong."""
    if len(set(names)) < len(names):
        raise UserError(f"{typed}: {group} takes each name once")
    for name in names:
        _check_file(conf, group, name)


def _refuse_added_key(override: Override, overrides: Sequence[Override], conf: PrimaryConfig) -> NoReturn:
    """Raise UserError for `+KEY=VALUE` or, if the key is unknown, Hydra's own error about an unknown key."""
    names_of_runs = {"resume", "run"} if conf.config_name == "train" else set[str]()
    if not names_of_runs.intersection(other.key_or_group for other in overrides):  # an earlier run has its own choices
        choices = [other for other in overrides if other.key_or_group in conf.groups() and not other.is_delete()]
        first_job = next(jobs_to_check([*choices, override]))
        conf.compose([text.lstrip("+") for text in first_job])
    typed = override.input_line or ""
    raise UserError(f"{typed}: a key cannot be added; try {typed.lstrip('+')}")


def _check_file(conf: PrimaryConfig, group: str, name: str) -> None:
    """Raise UserError if a file in the user's folder is not a mapping, or sets what a file of its group cannot set.

    Ignores a file that is not YAML. Hydra will refuse it, and name the line.
    """
    path = None if conf.user_folder is None else conf.user_folder / group / f"{name}.yaml"
    if path is None or not path.is_file():
        return
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except YAMLError:
        content = None
    if content is None:
        return
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and their values, got {as_yaml(content)[:80]}")
    for key in COMMAND_LINE_KEYS:
        if content.get(key) is not None:
            raise UserError(f"{path} sets {key}, which only the command line can: {key}={content[key]}")
    if content and group in OPTIONAL_GROUPS and not re.match(r"\s*#\s*@", text):
        raise UserError(f"{path} {GLOBAL_RULE}")
    defaults = content.get("defaults") if group in OVERLAY_GROUPS else None
    for entry in defaults if isinstance(defaults, list) else ():
        for key, choice in entry.items() if isinstance(entry, dict) else ():
            chosen = re.sub(r"^(override )?/?", "", str(key))
            if chosen in conf.groups() and key != f"override /{chosen}":
                name = as_yaml(choice)
                raise UserError(f"{path}: write `- override /{chosen}: {name}` in place of `- {key}: {name}`")


def name_file_of_key(error: UnknownKeyError, conf: PrimaryConfig, overrides: Sequence[str]) -> UserError:
    """Return an error that also names the chosen file that sets the unknown key.

    If no file sets the key, returns the error unchanged.
    """
    files = conf.chosen_files(overrides)
    if error.key in OPTIONAL_GROUPS:
        path = next(file.path for file in files if file.package == error.key)
        return UserError(f"{path} {GLOBAL_RULE}")
    setting_file = next((file.label for file in reversed(files) if error.key in file.values()), None)
    if setting_file is None:
        return error
    group = error.key.split(".")[0]
    owner = next((file.label for file in reversed(files) if file.label.startswith(f"{group}=")), conf.config_name)
    if owner == setting_file:
        owner = "its options class"
    return UserError(f"{setting_file} sets {error.key}, which {owner} does not have{error.hint}")


@contextmanager
def translate_exceptions(conf: PrimaryConfig) -> Iterator[None]:
    """Raise UserError in place of the exceptions of Hydra, OmegaConf and the YAML parser.

    For some faulty files, Hydra raises an exception, such as AssertionError, that does not name the file. This function
    then searches the user's folder for a file with the same error.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(_explain(error, conf)) from error
    except UserError:
        raise
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        path = conf.faulty_file(error)
        if path is None:
            raise
        reason = re.sub(r"^In [^:]*: ", "", str(error))
        raise UserError(f"{path}: {reason}") from error


def _explain(error: HydraException | OmegaConfBaseException | YAMLError, conf: PrimaryConfig) -> str:
    """Explain an exception of Hydra, OmegaConf or the YAML parser in one line."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        return (
            f"{error.override} cannot be parsed: quote any value that is not a plain word or number, "
            f"as in \"{key}='{value}'\""
        )
    if isinstance(error, MissingConfigException):
        return _explain_missing_config(error, conf)
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem_mark.name}, line {error.problem_mark.line + 1}: {error.problem}"
    unknown = re.search(r"(Could not override|No earlier Group Default for) '(?P<key>[^'@]*)", text)
    if unknown:
        return _explain_unknown_key(unknown["key"], conf)
    ambiguous = re.match(r"\s*(Ambiguous value for argument|Sweep parameters) '(?P<argument>.*)'", text)
    if ambiguous:
        key, _, values = ambiguous["argument"].partition("=")
        is_list = key in (*MULTIPLE_CHOICE_GROUPS, *LIST_KEYS) and "(" not in values
        hint = f"; for several in one run, {key}='[{values}]'" if is_list else ""
        return f"{ambiguous['argument']}: several values need a sweep: {conf.sweep_hint}{hint}"
    merging = re.match(r"Error merging override (?P<key>[^=]*)=(?P<value>.*)", text)
    if merging and isinstance(error.__cause__, ValidationError):  # one of Hydra's settings: only these have types here
        return wrong_value(merging["key"], merging["value"], error.__cause__)
    return " ".join(text.split())


def _explain_missing_config(error: MissingConfigException, conf: PrimaryConfig) -> str:
    """List the choices of the group, or name the extra of ratinglab that adds the choice."""
    missing = error.missing_cfg_file or ""
    is_hydra = missing.startswith("hydra/")
    group, _, name = missing.rpartition("/") if is_hydra else missing.partition("/")
    if missing in EXTRA_OF_PLUGIN:
        return f"{group}={name} needs a plugin of Hydra: pip install 'ratinglab[{EXTRA_OF_PLUGIN[missing]}]'"
    plugins = [Path(choice).name for choice in EXTRA_OF_PLUGIN if choice.startswith(f"{group}/")]
    options = list(conf.choices(group)) or sorted({*(error.options or []), *plugins})
    if not (name and options):
        return " ".join(str(error).split())
    if group == "data" and os.path.exists(name):
        path = shlex.quote(f"data.path={name}")
        return f"unknown {group}={name}: for a file of your own, set data=csv {path}"
    suggestion = did_you_mean(name, options)
    message = f"unknown {group}={name}: choose from {', '.join(options)}{suggestion}"
    if is_hydra or conf.user_folder is not None:
        return message
    hint = f"{'config_dir=' if conf.in_python else '--config-dir '}FOLDER adds your own"
    return f"{message} ({hint})" if suggestion else f"{message}; {hint}"


def _explain_unknown_key(key: str, conf: PrimaryConfig) -> str:
    """Name the choice without the key and the choices with it. If no choice has it, suggest the nearest key."""
    group, _, name = key.partition(".")
    keys, choices = _keys_and_choices(conf)  # first, because `_choices_with_key` composes other choices
    if group == "trainer" and name in NOT_IN_TRAINER:
        return f"unknown key {key}: {NOT_IN_TRAINER[name]}"
    if key in ADVICE_ON_UNKNOWN_KEYS:
        return f"unknown key {key}: {ADVICE_ON_UNKNOWN_KEYS[key]}"
    choice = name.partition(".")[0]
    if group in MULTIPLE_CHOICE_GROUPS and choice in conf.choices(group) and choice not in choices[group]:
        needed = format_choices([*(name for name in choices[group] if name != "none"), choice])
        return f"unknown key {key} with {group}={format_choices(choices[group])}; it needs {group}={needed}"
    owners = _choices_with_key(key, conf) if group in conf.groups() else []
    if owners:
        advice = f"add {owners[0]}" if len(owners) == 1 else f"it belongs to {', '.join(owners)}"
        return f"unknown key {key} with {group}={format_choices(choices[group])}; {advice}"
    return f"unknown key {key}{_suggest_key(key, keys, choices, conf)}"


def _suggest_key(key: str, keys: Sequence[str], choices: Mapping[str, Sequence[str]], conf: PrimaryConfig) -> str:
    """Suggest the nearest key, or say which keys there are if none is near.

    If the user left out the group, as in `fold=1`, names the choices that have the key. Otherwise lists the keys of the
    group.
    """
    parent = key.rpartition(".")[0]
    if nearest := did_you_mean_key(key, keys if parent else [*conf.groups(), *keys]):
        return nearest
    for group in conf.groups() if not parent else ():
        choices_with_key = [
            f"{group}={choice}" for choice, path in conf.choices(group).items() if key in flatten(OmegaConf.load(path))
        ]
        if choices_with_key and group not in OVERLAY_GROUPS:
            return f"; {group}.{key} belongs to {', '.join(choices_with_key)}"
    siblings = [name.removeprefix(f"{parent}.") for name in keys if name.startswith(f"{parent}.")]
    if not siblings:
        return "; see --help"
    owner = f"{parent}={format_choices(choices[parent])}" if parent in choices else parent
    return f"; {owner} has {', '.join(siblings)}"


def _choices_with_key(key: str, conf: PrimaryConfig) -> list[str]:
    """List the choices of a key's group that have the key."""
    group = key.partition(".")[0]
    last = key.rpartition(".")[2]
    choices: list[str] = []
    files = (path for folder in conf.folders() for path in folder.rglob("*.yaml"))
    if not any(last in path.read_text(encoding="utf-8") for path in files):
        return choices  # composing every choice takes a second, which is wasted if the key is mistyped
    for name in conf.choices(group):
        with suppress(HydraException):
            config, _ = conf.compose([f"{group}={name}"])
            if key in flatten(config):
                choices.append(f"{group}={name}")
    return choices


def _keys_and_choices(conf: PrimaryConfig) -> tuple[list[str], dict[str, list[str]]]:
    """List all keys that have a value, and the names that are chosen in each group.

    Composes the choices among the overrides composed last or, if that fails, the default choices.
    """
    groups = conf.groups()
    choices = [text for text in conf.composed if text.split("=", 1)[0] in groups]
    for overrides in (choices, []):
        with suppress(HydraException):
            config, _ = conf.compose(overrides)
            keys = [key for key, value in flatten(config).items() if not isinstance(value, dict)]
            return [key for key in keys if not key.endswith(TARGET)], conf.chosen_names(overrides)
    return [], {}
