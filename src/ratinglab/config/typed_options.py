"""Convert a composed config to an options object, with types and ranges checked, and suggest the nearest key.

Hydra composes a config without types, so that a mistyped key is reported before anything slow is imported. `to_options`
imports the options class that each group's `_target_` names, and merges the group's values into it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, InterpolationResolutionError, OmegaConfBaseException

from ratinglab.config.primary_config import flatten
from ratinglab.errors import UserError, did_you_mean
from ratinglab.options import as_yaml, check_options, field_key
from ratinglab.targets import target_class

TARGET = "_target_"
"""Key of a group's YAML that names its options class."""
TYPE_NAMES = {"Integer": "an integer", "Float": "a number", "Boolean": "true or false", "String": "text"}
"""Names of OmegaConf's types in messages."""
KEYS_BY_PEER_NAME = {
    "learning_rate": "optimizer.lr",
    "lr_all": "optimizer.lr",
    "n_epochs": "trainer.max_epochs",
    "n_iterations": "trainer.max_epochs",
    "max_iter": "trainer.max_epochs",
    "n_factors": "model.embedding_dim",
    "num_factors": "model.embedding_dim",
    "rank": "model.embedding_dim",
    "reg_all": "model.regularization",
    "lambda_reg": "model.regularization",
    "test_size": "split.test",
    "n_splits": "split.folds",
    "random_state": "seed",
    "gpus": "trainer.devices",
}
"""Our key for each option name of Surprise, Cornac, Spark, scikit-learn and Lightning."""


class UnknownKeyError(UserError):
    """A key that the chosen options do not have.

    Attributes:
        key: full name of the key.
        hint: `; did you mean KEY?` with the nearest valid key, or "" if no key is near.
    """

    def __init__(self, key: str, siblings: Sequence[str]) -> None:
        """Suggest the nearest of the siblings, the names that are valid in place of the key's last part."""
        parent = key.removesuffix(key.rpartition(".")[2])
        self.hint = did_you_mean_key(key, [f"{parent}{name}" for name in siblings])
        self.key = key
        super().__init__(f"unknown key {key}{self.hint}")


def to_options(config: DictConfig, root: type, overrides: Sequence[Override] = ()) -> Any:
    """Convert a composed config to an options object, and check every type and range.

    If an option is text, and Hydra has parsed its value as a number, as in user=1e5 or data.path=2024, the option gets
    the text that the user typed in `overrides`.

    Raises:
        UserError: a key is unknown, or a value is missing, of the wrong type, or out of range.
    """
    typed = OmegaConf.structured(root)
    content = OmegaConf.to_container(config, resolve=False)
    assert isinstance(content, dict)
    for key in _entry_classes(root):
        typed[key] = {}
        content.setdefault(key, {})  # an empty list of choices
    for key, cls in _chosen_classes(content, root):
        try:
            OmegaConf.update(typed, key, OmegaConf.structured(cls), merge=False, force_add=True)
        except OmegaConfBaseException as error:
            raise UserError(f"{key}.{TARGET}: {cls.__name__}: {_first_line(error)}") from error
    _merge(typed, content, texts=_texts_of_numbers(overrides))
    try:
        missing = sorted(map(field_key, OmegaConf.missing_keys(typed)))
        if missing and missing[0] in flatten(content):
            value = "latest" if missing[0] == "run" else "VALUE"
            raise UserError(f"{missing[0]} must be given, as in {missing[0]}={value}")
        if missing:
            group = missing[0].split(".")[0]
            raise UserError(f"{missing[0]} has no value: set it in the YAML file of {group}")
        options = OmegaConf.to_object(typed)
    except InterpolationResolutionError as error:
        raise UserError(f"{error.full_key}: {_first_line(error)}") from error
    except OmegaConfBaseException as error:  # the value of an interpolation
        raise UserError(wrong_value(error.full_key or "", error.value, error)) from error
    check_options(options)
    return options


def _chosen_classes(content: dict[Any, Any], root: type) -> Iterator[tuple[str, type]]:
    """Yield the options class of each group among the fields of the root. Removes `_target_` from `content`."""
    for key, base in get_type_hints(root).items():
        if isinstance(base, type) and is_dataclass(base) and key in content:
            yield key, _chosen_class(content[key], base=base, key=key)
    for key, base in _entry_classes(root).items():
        yield from _choice_classes(content[key], base=base, key=key)


def _choice_classes(choices: Any, *, base: type, key: str) -> Iterator[tuple[str, type]]:
    """Yield the options class of each choice in a group with several choices."""
    if not isinstance(choices, dict):
        raise UserError(f"{key} has keys of its own, got {as_yaml(choices)}")
    names = [name for name, choice in choices.items() if isinstance(choice, dict) and TARGET in choice]
    for name, choice in choices.items():
        if not isinstance(choice, dict):
            raise UserError(f"{key}.{name} has keys of its own, got {as_yaml(choice)}")
        if name not in names:  # an overlay sets keys of a file that is not chosen
            raise UnknownKeyError(f"{key}.{name}", names)
        yield f"{key}.{name}", _chosen_class(choice, base=base, key=f"{key}.{name}")


def _chosen_class(group: Any, *, base: type, key: str) -> type:
    """Import the class that a group's `_target_` names, and remove `_target_`. Returns `base` if there is none."""
    if isinstance(group, dict) and TARGET in group:
        return target_class(group.pop(TARGET), base=base, key=f"{key}.{TARGET}")
    if "name" in get_type_hints(base) and not hasattr(base, "name"):
        raise UserError(f"{key}.{TARGET} must be given: the dotted path of a class derived from {base.__name__}")
    return base


def _entry_classes(root: type) -> dict[str, type]:
    """Find the fields that hold any number of options objects by name, such as dict[str, LoggerOptions]."""
    hints = {key: get_args(hint) for key, hint in get_type_hints(root).items() if get_origin(hint) is dict}
    return {key: entry for key, (_, entry) in hints.items() if isinstance(entry, type) and is_dataclass(entry)}


def _merge(typed: DictConfig, content: Any, *, texts: Mapping[str, str], parent: str = "") -> None:
    """Set values in a typed config, one by one, so that a message can name the key and the value.

    `texts` has the typed text, by full key, of each value that Hydra parses as a number or boolean. `parent` is the key
    of the config itself.
    """
    cls = OmegaConf.get_type(typed)
    assert cls is not None
    hints = get_type_hints(cls)
    names = {field_key(field.name): field.name for field in fields(cls)}
    if not isinstance(content, dict):
        raise UserError(f"{parent} has keys of its own ({', '.join(names)}), got {as_yaml(content)}")
    entries = _entry_classes(cls)
    for last_part, value in content.items():
        key = f"{parent}.{last_part}".lstrip(".")
        if last_part not in names:
            raise UnknownKeyError(key, list(names))
        name = names[last_part]
        hint = hints[name]
        if name in entries:
            for entry, values in value.items():
                _merge(typed[name][entry], values, texts=texts, parent=f"{key}.{entry}")
            continue
        if is_dataclass(hint):
            if OmegaConf.is_missing(typed, name):
                typed[name] = OmegaConf.structured(hint)
            _merge(typed[name], value, texts=texts, parent=key)
            continue
        if key in texts and set(get_args(hint) or [hint]) <= {str, type(None)}:  # a field of text or of texts
            value = texts[key]
        if get_origin(hint) is list and isinstance(value, str | int | float) and value != "???":
            value = [value]  # one value is a list of one
        try:
            OmegaConf.update(typed, name, value)  # converts the value; an assignment would require the exact type
        except (ConfigKeyError, ConfigAttributeError) as error:  # in an entry of a list
            raise UnknownKeyError(f"{key}.{error.key}", []) from error
        except OmegaConfBaseException as error:
            raise UserError(wrong_value(key, value, error)) from error
        except TypeError as error:  # a list or a dictionary inside a list
            raise UserError(f"{key} must be a list of plain values, got {as_yaml(value)}") from error


def _texts_of_numbers(overrides: Sequence[Override]) -> dict[str, str]:
    """Find, by key, the typed text of each value that Hydra parses as a number or boolean."""
    return {
        override.key_or_group: override.input_line.split("=", 1)[1]
        for override in overrides
        if override.input_line and not override.is_sweep_override() and isinstance(override.value(), bool | int | float)
    }


def wrong_value(key: str, value: Any, error: OmegaConfBaseException) -> str:
    """Explain in one line why OmegaConf refuses a value."""
    reason = _first_line(error)
    text = as_yaml(value)
    conversion = re.search(r"(?:could not be converted|Cannot convert '\w+') to (\w+)", reason)
    if conversion and (name := conversion[1].capitalize()) in TYPE_NAMES:
        return f"{key} must be {TYPE_NAMES[name]}, got {text}"
    if enumeration := re.search(r"expected one of \[(.*)\]", reason):
        names = enumeration[1].split(", ")
        return f"{key} must be one of {', '.join(names)}, got {text}{did_you_mean(text, names)}"
    if "is not a valid bool" in reason:
        return f"{key} must be {TYPE_NAMES['Boolean']}, got {text}"
    if "is not a subclass of" in reason or "Cannot assign" in reason:
        return f"{key} has keys of its own, got {text}"
    if "not Optional" in reason:
        return f"{key} must not be null"
    if "is not a ListConfig" in reason:
        return f"{key} must be a list, as in {key}=[{text}], got {text}"
    return f"{key}={text}: {reason}"


def _first_line(error: OmegaConfBaseException) -> str:
    return str(error.msg or error).splitlines()[0]


def did_you_mean_key(key: str, valid: Sequence[str]) -> str:
    """Return `; did you mean KEY?` for the nearest valid key, such as optimizer.lr, or "" if none is close.

    A key with the same last part is nearest. Otherwise, compares the last parts of the keys. A key of another group
    must be more similar than a key of the same group. A key is also close if its last part contains the typed word, or
    begins with it. A typed group within a group, such as callbacks.early_stopping, is taken as meant if it exists: only
    its own keys are then suggested.
    """
    group, _, name = key.rpartition(".")
    if "." in group and (siblings := [candidate for candidate in valid if candidate.startswith(f"{group}.")]):
        valid = siblings
    if KEYS_BY_PEER_NAME.get(name) in valid:
        return f"; did you mean {KEYS_BY_PEER_NAME[name]}?"
    if same_name := [candidate for candidate in valid if candidate.rpartition(".")[2] == name]:
        return f"; did you mean {max(same_name, key=lambda candidate: SequenceMatcher(None, key, candidate).ratio())}?"

    def rank(candidate: str) -> tuple[float, bool]:
        """Return the similarity of a key, from 0 to 1, and whether it is in the same group."""
        parent, _, last = candidate.rpartition(".")
        is_part = len(name) >= 3 and (name in last.split("_") or last.startswith(name))
        return 0.9 if is_part else SequenceMatcher(None, name, last).ratio(), parent == group

    ranks = {candidate: rank(candidate) for candidate in valid}
    close = [key for key, (similarity, is_sibling) in ranks.items() if similarity >= (0.6 if is_sibling else 0.75)]
    return f"; did you mean {max(close, key=ranks.__getitem__)}?" if close else ""
