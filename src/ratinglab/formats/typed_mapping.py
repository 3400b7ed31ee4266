"""Mappings typed as the value of a key, such as `{50: 5, "Toy Story (1995)": 4}`."""

import yaml

from ratinglab.errors import UserError


def is_mapping(text: str) -> bool:
    """Return whether a value is a mapping instead of the name of a file."""
    return text.lstrip().startswith("{")


def typed_pairs(text: str, *, key: str) -> list[tuple[str, str]]:
    """Parse a mapping in YAML. Keeps names and values as typed, so that 007 is not 7.

    Raises:
        UserError: the text is not a mapping of single values; the message begins with the key.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise UserError(f"{key} must be a mapping such as {{NAME: VALUE, …}}, got {text!r}: {problem}") from error
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
