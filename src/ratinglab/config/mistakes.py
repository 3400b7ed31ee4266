"""Mistakes on the command line and in YAML files, each as one line that names the key, the rule and the value."""

import re
from collections.abc import Sequence

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError
from yaml import MarkedYAMLError, YAMLError

from ratinglab.config.conf import Conf, flat_keys
from ratinglab.config.conversion import UnknownKeyError, wrong_value
from ratinglab.errors import UserError, did_you_mean

MAY_BE_NONE = ("recipe", "search", "experiment")
"""Groups of which a run may have no choice: they set what other groups hold."""
OURS = ("hydra.sweep.subdir", "hydra.output_subdir", "hydra.job.chdir", "hydra.mode")
"""Settings of Hydra's on which the folders of runs depend."""


def refuse_schema_bypass(overrides: Sequence[Override]) -> None:
    """Refuse `+key`, `++key` and `~key` outside Hydra's own settings: all keys are known, and none may be missing.

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


def refuse_no_choice(overrides: Sequence[Override], conf: Conf) -> None:
    """Refuse `GROUP=null` and `GROUP=[…]`: Hydra takes none, and each group has one choice.

    Raises:
        UserError: it lists the choices that there are.
    """
    groups = conf.groups()
    for override in overrides:
        group = override.key_or_group
        if group not in groups or override.is_sweep_override() or isinstance(override.value(), str):
            continue
        hint = "; leave it out for none" if group in MAY_BE_NONE else ""
        raise UserError(f"{override.input_line}: {group} must be one of {', '.join(conf.choices(group))}{hint}")


def refuse_what_breaks_run_folders(overrides: Sequence[Override]) -> None:
    """Refuse Hydra's own settings with which two runs could share a folder, or a run lose its record.

    Raises:
        UserError: it names the argument.
    """
    for override in overrides:
        if override.key_or_group in OURS:
            hint = "use -m" if override.key_or_group == "hydra.mode" else "use hydra.run.dir or hydra.sweep.dir"
            raise UserError(f"{override.input_line}: {override.key_or_group} cannot be set; {hint}")


def refuse_interval_in_grid(overrides: Sequence[Override], *, sweeper: str) -> None:
    """Refuse an interval where the sweeper goes through a grid.

    Raises:
        UserError: it names the argument.
    """
    for override in overrides:
        if override.is_sweep_override() and not override.is_discrete_sweep() and sweeper.endswith(".BasicSweeper"):
            raise UserError(
                f"{override.input_line}: an interval needs hydra/sweeper=optuna; a grid takes VALUE,VALUE,…"
            )


def with_file(error: UnknownKeyError, conf: Conf, overrides: Sequence[str]) -> UserError:
    """The same mistake, with the name of the chosen file that sets the key, inside of `conf.initialized`."""
    files = conf.chosen_files(overrides)
    setting = next((file.label for file in reversed(files) if error.key in file.set_keys()), None)
    if setting is None:
        return error
    group = error.key.split(".")[0]
    chosen = next((file.label for file in reversed(files) if file.label.startswith(f"{group}=")), None)
    if chosen is None:
        lacking = f"{conf.config_name} does not have"
    elif chosen == setting:
        lacking = "its options class does not have"
    else:
        lacking = f"{chosen} does not have"
    return UserError(f"{setting} sets {error.key}, which {lacking}{error.hint}")


def explain(error: HydraException | OmegaConfBaseException | YAMLError, conf: Conf) -> str:
    """One line for an exception of Hydra's, OmegaConf's or the YAML parser's."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        return f"{error.override} cannot be parsed: quote what is no plain word or number, as in \"{key}='{value}'\""
    if isinstance(error, MissingConfigException):
        return _missing_config(error, conf)
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem_mark.name}, line {error.problem_mark.line + 1}: {error.problem}"
    unknown = re.search(r"(Could not override|No earlier Group Default for) '(?P<key>[^'@]*)", text)
    if unknown:
        key = unknown["key"]
        return f"there is no key {key}{did_you_mean(key, _keys(conf))}"
    ambiguous = re.match(r"\s*Ambiguous value for argument '(?P<argument>.*)'", text)
    if ambiguous:
        return f"{ambiguous['argument']}: several values are a sweep, which needs -m before them"
    merging = re.match(r"Error merging override (?P<key>[^=]*)=(?P<value>.*)", text)
    if merging and isinstance(error.__cause__, ValidationError):  # of a setting of Hydra's, which alone are typed here
        return wrong_value(merging["key"], merging["value"], error.__cause__)
    return " ".join(text.split())


def _missing_config(error: MissingConfigException, conf: Conf) -> str:
    group, _, name = (error.missing_cfg_file or "").partition("/")
    options = list(conf.choices(group)) or sorted(error.options or [])
    if not (name and options):
        return " ".join(str(error).split())
    return f"there is no {group}={name}; there are {', '.join(options)}{did_you_mean(name, options)}"


def _keys(conf: Conf) -> list[str]:
    """All keys that can be set, with the groups that were chosen last where they can be composed."""
    groups = conf.groups()
    choices = [text for text in conf.composed if text.split("=", 1)[0] in groups]
    with conf.initialized():
        for chosen in (choices, []):
            try:
                config, _ = conf.compose(chosen)
            except HydraException:
                continue
            content = OmegaConf.to_container(config, resolve=False)
            return [*groups, *(key for key in flat_keys(content) if not key.endswith("_target_"))]
    return groups
