"""Numbers, and mappings such as `{50: 5, "Toy Story (1995)": 4}`, written as text."""

import math
import re

import yaml

from ratinglab.errors import UserError

WHOLE_NUMBER = r"^([+-]?\d+)\.0*$"
"""An integer such as 42.0, as pandas writes it if its column had missing values."""


def parse_number(text: str, *, decimal: str) -> float:
    """Parse a number like pyarrow, including `nan`, `inf` and `1e400`. Raises ValueError for other texts."""
    # only Python accepts 1_000, digits of other scripts, and exotic white space around numbers
    if not text.isascii() or "_" in text or text.strip() != text.strip(" \t") or (decimal != "." and "." in text):
        raise ValueError
    return float(text.replace(decimal, "."))


def number_or_nan(text: str, *, decimal: str = ".") -> float:
    """Parse a number. Returns NaN if the text is not a finite number."""
    try:
        number = parse_number(text, decimal=decimal)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def is_number(text: str, *, decimal: str = ".") -> bool:
    """Return whether a text is a finite number."""
    return not math.isnan(number_or_nan(text, decimal=decimal))


def has_thousands_separator(text: str, *, decimal: str = ".") -> bool:
    """Return whether a text seems to be a number such as 1,350 or, with a decimal comma, 1.350."""
    separator = "," if decimal == "." else "."
    return re.fullmatch(rf"\s*[-+]?[1-9]\d{{0,2}}(\{separator}\d{{3}})+(\{decimal}\d*)?\s*", text) is not None


def is_inline_mapping(text: str) -> bool:
    """Return whether the value of an option is a mapping, not the name of a file."""
    return text.lstrip().startswith("{")


def parse_inline_mapping(text: str, *, key: str) -> list[tuple[str, str]]:
    """Parse a mapping in YAML. Names and values stay text, so 007 does not become 7.

    Raises:
        UserError: the text is not a mapping of single values; the message begins with the key.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it is not YAML"
        form = "'{NAME: VALUE, …}', in quotation marks"
        raise UserError(f"{key} must be a mapping such as {form}, got {text!r}: {problem}") from error
    assert isinstance(root, yaml.MappingNode), "the caller has checked for an opening brace"
    for name, value in root.value:
        if not (isinstance(name, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)):
            raise UserError(f"{key} must be a mapping of single values, got {text!r}")
    return [_pair(name, value) for name, value in root.value]


def _pair(name: yaml.ScalarNode, value: yaml.ScalarNode) -> tuple[str, str]:
    """Return a name and its value. Splits 50:5, which YAML reads as a name without a value."""
    if value.value == "" and name.style is None and ":" in name.value:
        before, _, after = name.value.rpartition(":")
        return before.strip(), after.strip()
    return name.value.strip(), value.value.strip()
