"""The comments in a YAML file: at its top, and above its keys."""

from collections.abc import Iterator
from itertools import takewhile

import yaml

from ratinglab.runs.record import LOADER

KeyPath = tuple[str, ...]
"""Path of a nested key, such as ("columns", "user")."""


def read_file_comment(text: str) -> list[str]:
    """Return the lines of the comment at the top of a file, without a `@package` line."""
    lines = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return [line.removeprefix("#").removeprefix(" ") for line in lines if not line.startswith("# @")]


def find_key_comments(text: str) -> dict[KeyPath, str]:
    """Find the comment above each key, joined to one line. Returns "" if there is none."""
    lines = [line.strip() for line in text.splitlines()]
    comments = {}
    for path, number in find_key_lines(text).items():
        above = list(takewhile(lambda line: line.startswith("#"), reversed(lines[:number])))
        comments[path] = " ".join(line.removeprefix("#").strip() for line in reversed(above))
    return comments


def find_key_lines(text: str) -> dict[KeyPath, int]:
    """Find the line number of each key, from 0. Skips lists and the keys in them, except for a defaults list."""
    root = yaml.compose(text, Loader=LOADER)
    return dict(_key_lines(root, ())) if isinstance(root, yaml.MappingNode) else {}


def _key_lines(node: yaml.MappingNode, parent: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    for key, value in node.value:
        path = (*parent, str(key.value))
        yield path, key.start_mark.line
        if isinstance(value, yaml.MappingNode):
            yield from _key_lines(value, path)
        elif path == ("defaults",):
            for entry in value.value:
                if isinstance(entry, yaml.MappingNode):
                    yield from _key_lines(entry, path)
