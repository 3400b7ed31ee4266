"""Allowed ranges for the fields of options dataclasses, declared beside each field, and their check.

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
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from ratinglab.errors import ConflictError, UserError

GRAMMAR_WORDS = ("null", "true", "false", "nan", "inf")
"""Words that Hydra's grammar does not treat as text."""


@dataclass(frozen=True)
class Rule:
    """A range, whose text completes the sentence `KEY must be …`."""

    text: str
    holds: Callable[[float], bool]


def finite() -> dict[str, Rule]:
    """Make field metadata: any number but infinity and NaN."""
    return {"rule": Rule("finite", lambda _: True)}


def at_least(bound: float) -> dict[str, Rule]:
    """Make field metadata: value ≥ bound."""
    return {"rule": Rule(f"at least {bound}", lambda value: value >= bound)}


def within(lowest: float, highest: float) -> dict[str, Rule]:
    """Make field metadata: lowest ≤ value ≤ highest."""
    return {"rule": Rule(f"from {lowest} to {highest}", lambda value: lowest <= value <= highest)}


def seed_rule() -> dict[str, Rule]:
    """Make field metadata of a seed: the range that the generators of both numpy and torch accept."""
    return within(0, 2**32 - 1)


def above(bound: float) -> dict[str, Rule]:
    """Make field metadata: value > bound."""
    return {"rule": Rule(f"above {bound}", lambda value: value > bound)}


def from_zero_below(bound: float) -> dict[str, Rule]:
    """Make field metadata: 0 ≤ value < bound."""
    return {"rule": Rule(f"at least 0 and below {bound}", lambda value: 0 <= value < bound)}


def above_zero_to(bound: float) -> dict[str, Rule]:
    """Make field metadata: 0 < value ≤ bound."""
    return {"rule": Rule(f"above 0 and at most {bound}", lambda value: 0 < value <= bound)}


def added_later(before: Any) -> dict[str, Any]:
    """Make field metadata of an option added to an equation later: its value in older runs."""
    return {"before": before}


def field_key(name: str) -> str:
    """Return the key of a field: its name, or a word that Python reserves, such as `from` for the field `from_`."""
    return name.removesuffix("_")


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Shorten each key to its last word, unless another key shares it."""
    last = {key: re.split("[./@]", key.lstrip("+"))[-1] for key in keys}
    return {key: word if list(last.values()).count(word) == 1 else key for key, word in last.items()}


def short_number(value: str) -> str:
    """Round a number longer than eight characters to four digits; return integers and other text unchanged."""
    try:
        is_long = len(value) > 8 and not re.fullmatch(r"[+-]?\d+", value)
        return (f"{float(value):.4g}" if is_long else value).replace("e+", "e")
    except ValueError:
        return value


def check_options(options: Any, prefix: str = "") -> None:
    """Check every field of an options dataclass, and of nested ones, against its rule.

    None passes: the field's type decides whether it may be None. A class with rules between fields has a method
    check_together, which runs after all fields passed their own rules.

    Raises:
        UserError: `PREFIXfield must be RULE, got VALUE`, for the first field outside its range.
        ConflictError: fields conflict.
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


def check_types(options: Any, prefix: str = "") -> None:
    """Check the type of every field of a dataclass that was read from JSON.

    Raises:
        UserError: `PREFIXfield must be TYPE, got VALUE`, for the first field of another type.
    """
    hints = get_type_hints(type(options))
    for name, hint in ((field.name, hints[field.name]) for field in fields(options)):
        if not is_of_type(getattr(options, name), hint):
            raise UserError(f"{prefix}{name} must be {type_text(hint)}, got {str(getattr(options, name))[:80]!r}")


def type_text(hint: Any) -> str:
    """Return a type as it is written in code."""
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def is_of_type(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type, such as `int`, `str | None`, `list[str]` or `tuple[float, float]`.

    Accepts an int as a float, but not a bool as an int, and lists in place of tuples, which JSON lacks.
    """
    if hint is Any:
        return True
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(is_of_type(entry, arguments[0]) for entry in value)
    if origin is tuple:
        return (
            isinstance(value, list | tuple) and len(value) == len(arguments) and all(map(is_of_type, value, arguments))
        )
    if origin is dict:
        return isinstance(value, dict) and all(is_of_type(entry, arguments[1]) for entry in value.values())
    if arguments:  # a union
        return any(is_of_type(value, alternative) for alternative in arguments)
    if hint in (None, NoneType):
        return value is None
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def to_plain(options: Any) -> dict[str, Any]:
    """Convert an options object to JSON values; an Enum becomes its name."""
    return {key: value.name if isinstance(value, Enum) else value for key, value in vars(options).items()}


def group_to_plain(group: str, options: Any) -> dict[str, Any]:
    """Convert the options of a choice in a group to JSON values by full key, the name of the choice first."""
    return {group: options.name} | {f"{group}.{key}": value for key, value in to_plain(options).items()}


def from_plain(plain: Mapping[str, Any], cls: type) -> Any:
    """Convert values from `to_plain` back to an options object. Options added later get their value for older runs.

    Raises:
        UserError: the run lacks an option of the class, or has one that the class lacks.
        KeyError: an Enum has no such member.
    """
    before = {field.name: field.metadata["before"] for field in fields(cls) if "before" in field.metadata}
    values = before | dict(plain)
    if unknown := sorted(values.keys() - {field.name for field in fields(cls)}):
        raise UserError(f"{cls.__name__} has no option {unknown[0]}, which the run has")
    for field in fields(cls):
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(
                f"{cls.__name__} has an option that the run lacks: give {field.name} "
                "metadata=added_later(VALUE), with the value for older runs"
            )
    for name, hint in get_type_hints(cls).items():
        for kind in get_args(hint) or [hint]:
            if isinstance(kind, type) and issubclass(kind, Enum) and values.get(name) is not None:
                values[name] = kind[values[name]]
    return cls(**values)


def loggable(values: Mapping[str, Any]) -> dict[str, int | float | str]:
    """Format all values except numbers and texts as in YAML, for loggers."""
    return {key: value if isinstance(value, int | float | str) else as_yaml(value) for key, value in values.items()}


def as_override(key: str, value: Any) -> str:
    """Format a Hydra override, with strings in quotes where its grammar requires them."""

    def formatted(value: Any) -> str:
        if isinstance(value, list):
            return f"[{','.join(map(formatted, value))}]"
        if isinstance(value, str):
            is_plain = re.fullmatch(r"[A-Za-z_./][\w./-]*|\d+", value, flags=re.ASCII)
            return value if is_plain and value.lower() not in GRAMMAR_WORDS else quoted(value)
        return value.name if isinstance(value, Enum) else as_yaml(value)

    return f"{key}={formatted(value)}"


def quoted(text: str) -> str:
    """Quote a text for Hydra's grammar, with backslashes before a quote doubled."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


def named_subclasses(base: type[Any]) -> list[Any]:
    """List the subclasses of `base` that have their own name, as in optimizer=NAME."""
    classes = [base]
    for cls in classes:
        classes += cls.__subclasses__()
    return [cls for cls in dict.fromkeys(classes) if "name" in vars(cls)]


def as_yaml(value: Any) -> str:
    """Format a value as in YAML or on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(as_yaml(entry) for entry in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {as_yaml(entry)}' for key, entry in value.items())}}}"
    return "null" if value is None else str(value)
