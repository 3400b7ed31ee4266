"""Options dataclasses: the ranges of their fields, and their values as JSON, YAML and Hydra overrides.

    @dataclass
    class Options:
        embedding_dim: int = field(metadata=at_least(1))

Options are plain dataclasses without defaults: conf/*.yaml holds all default values.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_type_hints

from ratinglab.errors import ConflictError, UserError

GRAMMAR_WORDS = ("null", "true", "false", "nan", "inf")
"""Words that Hydra reads as values, not as text."""


@dataclass(frozen=True)
class Rule:
    """A range, whose text completes the sentence `KEY must be …`."""

    text: str
    holds: Callable[[float], bool]


def finite() -> dict[str, Rule]:
    """Make field metadata that allows any number except infinity and NaN."""
    return {"rule": Rule("finite", lambda _: True)}


def at_least(lowest: float, *, below: float = math.inf) -> dict[str, Rule]:
    """Make field metadata that requires lowest ≤ value < below."""
    limit = "" if below == math.inf else f" and below {below}"
    return {"rule": Rule(f"at least {lowest}{limit}", lambda value: lowest <= value < below)}


def above(bound: float, *, at_most: float = math.inf) -> dict[str, Rule]:
    """Make field metadata that requires bound < value ≤ at_most."""
    limit = "" if at_most == math.inf else f" and at most {at_most}"
    return {"rule": Rule(f"above {bound}{limit}", lambda value: bound < value <= at_most)}


def within(lowest: float, highest: float) -> dict[str, Rule]:
    """Make field metadata that requires lowest ≤ value ≤ highest."""
    return {"rule": Rule(f"from {lowest} to {highest}", lambda value: lowest <= value <= highest)}


def valid_seed() -> dict[str, Rule]:
    """Make field metadata of a seed: the range that the random generators of numpy and torch accept."""
    return within(0, 2**32 - 1)


def field_key(name: str) -> str:
    """Return the key of a field: its name, or a word that Python reserves, such as `from` for the field `from_`."""
    return name.removesuffix("_")


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Shorten each key to its last word, unless another key shares it."""
    last = {key: re.split("[./@]", key.lstrip("+"))[-1] for key in keys}
    return {key: word if list(last.values()).count(word) == 1 else key for key, word in last.items()}


def short_number(value: str) -> str:
    """Round a number longer than eight characters to four digits. Returns integers and texts unchanged."""
    try:
        is_long = len(value) > 8 and not re.fullmatch(r"[+-]?\d+", value)
        return (f"{float(value):.4g}" if is_long else value).replace("e+", "e")
    except ValueError:
        return value


def check_options(options: Any, prefix: str = "") -> None:
    """Check every field of an options dataclass, and of nested ones, against its rule, and then `check_together`.

    Accepts None, because the field's type decides whether it may be None. A class whose fields depend on each other has
    the method `check_together`.

    Raises:
        UserError: `PREFIXfield must be RULE, got VALUE`, for the first field outside its range.
        ConflictError: `check_together` has raised UserError. Other jobs of a sweep may be valid.
    """
    for field in fields(options):
        key, value = f"{prefix}{field.name}", getattr(options, field.name)
        if is_dataclass(value):
            check_options(value, prefix=f"{key}.")
        elif isinstance(value, dict):
            for name, entry in value.items():
                if is_dataclass(entry):
                    check_options(entry, prefix=f"{key}.{name}.")
        elif "rule" in field.metadata and value is not None:
            rule: Rule = field.metadata["rule"]
            if not (math.isfinite(value) and rule.holds(value)):
                raise UserError(f"{key} must be {rule.text}, got {value}")
    if hasattr(options, "check_together"):
        try:
            options.check_together()
        except UserError as error:
            raise ConflictError(str(error)) from error


def to_plain(options: Any) -> dict[str, Any]:
    """Convert an options object to JSON values. An Enum becomes its name."""
    return {key: value.name if isinstance(value, Enum) else value for key, value in vars(options).items()}


def group_to_plain(group: str, options: Any) -> dict[str, Any]:
    """Convert the options chosen in a group to JSON values by full key. The first entry is the group with the name."""
    return {group: options.name} | {f"{group}.{key}": value for key, value in to_plain(options).items()}


def from_plain(plain: Mapping[str, Any], cls: type) -> Any:
    """Convert values from `to_plain` back to an options object.

    Raises:
        UserError: the run does not have an option of the class, or has one that the class does not have.
        KeyError: an Enum has no such member.
    """
    values = dict(plain)
    if unknown := sorted(values.keys() - {field.name for field in fields(cls)}):
        raise UserError(f"{cls.__name__} has no option {unknown[0]}, which the run has")
    for field in fields(cls):
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{cls.__name__} has the option {field.name}, which the run does not have")
    for name, hint in get_type_hints(cls).items():
        for kind in get_args(hint) or [hint]:
            if isinstance(kind, type) and issubclass(kind, Enum) and values.get(name) is not None:
                values[name] = kind[values[name]]
    return cls(**values)


def as_override(key: str, value: Any, *, interpolates: bool = False) -> str:
    """Format a Hydra override, with strings in quotes where Hydra's grammar requires them.

    `${` in a string stands for itself. With `interpolates`, it begins an interpolation, as in a YAML file.
    """

    def format_value(value: Any) -> str:
        if isinstance(value, list):
            return f"[{','.join(map(format_value, value))}]"
        if isinstance(value, str):
            value = value if interpolates else escape_interpolations(value)
            is_plain = re.fullmatch(r"(?!\.\d)[A-Za-z_./][\w./-]*|\d+", value, flags=re.ASCII)
            return value if is_plain and value.lower() not in GRAMMAR_WORDS else quote_for_hydra(value)
        return value.name if isinstance(value, Enum) else as_yaml(value)

    return f"{key}={format_value(value)}"


def escape_interpolations(text: str) -> str:
    """Escape each `${`, and double the backslashes before it, so that OmegaConf resolves the result to `text`."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def quote_for_hydra(text: str) -> str:
    """Quote a text for Hydra's grammar, with backslashes before a quote doubled."""
    return "'" + re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text) + "'"


def as_yaml(value: Any) -> str:
    """Format a value as in YAML or on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(as_yaml(entry) for entry in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {as_yaml(entry)}' for key, entry in value.items())}}}"
    return "null" if value is None else str(value) or "''"
