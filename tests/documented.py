"""Composed configs of conf/, and the comments that their keys must have: the docstrings of their fields.

python tests/documented.py      rewrite the comments of all files from the docstrings

Overlays (protocols, recipes, searches, experiments) leave the comment of a key to the file that defines the key.
"""

import ast
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig

from ratinglab.config.help_text import KeyPath, find_key_comments, find_key_lines, read_file_comment
from ratinglab.config.job import OPTIONS_CLASSES
from ratinglab.config.primary_config import MULTIPLE_CHOICE_GROUPS, PrimaryConfig
from ratinglab.config.typed_options import to_options
from ratinglab.options import field_key
from ratinglab.targets import target_class

CONF = Path(__file__).parents[1] / "conf"
HAS_OPTUNA = find_spec("optuna") is not None
FILES = sorted(
    path
    for path in CONF.rglob("*.yaml")
    if HAS_OPTUNA or not re.search("/optuna|sweeper: optuna", path.read_text(encoding="utf-8"))
)
"""Files that can be composed: searches by Optuna need the extra `sweep`."""
FRAGMENTS = {
    "table": ["train", "data=movielens_100k"],
    "movielens": ["train", "data=movielens_100k"],
    "text": ["train", "data=csv"],
    "protocol_keys": ["train", "protocol=movielens_u1"],
    "movielens_100k_digests": ["train", "protocol=movielens_u1"],
    "optuna": ["train", "search=fast"],
}
"""Files that others include, each with a primary config and, where a choice includes it, that choice."""
WIDTH = 120


@functools.cache
def composed(root: str, *overrides: str) -> tuple[DictConfig, DictConfig]:
    """Compose a primary config of conf/ with overrides, and Hydra's own config; callers must not change them."""
    return PrimaryConfig(root).compose(overrides)


def options_of(root: str, *overrides: str) -> Any:
    """Convert a primary config with overrides to options."""
    return to_options(composed(root, *overrides)[0], OPTIONS_CLASSES[root])


@functools.cache
def field_docstrings(cls: type) -> dict[str, str]:
    """Collect the docstrings of the fields of a dataclass and its bases, each in one line."""
    docstrings = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
            for field, text in itertools.pairwise(body):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    docstrings[field_key(field.target.id)] = " ".join(text.value.value.split())
    return docstrings


def expected_comments(path: Path) -> dict[KeyPath, str]:
    """Find the comments that the keys of a file in conf/ must have: their docstrings, unless the file is an overlay."""
    return {} if _is_overlay(path) else key_docstrings(path)


def key_docstrings(path: Path) -> dict[KeyPath, str]:
    """Find the docstrings of the keys of a file in conf/; Hydra's own keys and keys in a dictionary have none."""
    root, classes, package = _classes(path)
    docstrings = {}
    for key in find_key_lines(path.read_text(encoding="utf-8")):
        names = [*package, *key] if key[0] != "defaults" else list(key[1:])
        docstring = _docstring(names, root, classes) if names else None
        if docstring is not None:
            docstrings[key] = docstring
    return docstrings


def _is_overlay(path: Path) -> bool:
    return path.read_text(encoding="utf-8").startswith("# @package _global_")


def _classes(path: Path) -> tuple[type, dict[str, type], list[str]]:
    """Find the root's class, the classes of the chosen groups, and the group that the file's keys belong to."""
    group, name = path.parent.relative_to(CONF).as_posix(), path.stem
    is_primary = name in OPTIONS_CLASSES and group == "."
    chosen = [name] if is_primary else FRAGMENTS[name] if group == "." else ["train", f"{group}={name}"]
    root, (config, _) = OPTIONS_CLASSES[chosen[0]], composed(*chosen)
    hints = {field_key(name): hint for name, hint in get_type_hints(root).items()}
    classes = {
        key: target_class(config[key]["_target_"], base=hints[key], key=key)
        for key in config
        if is_dataclass(hints[key]) and "_target_" in config[key]
    }
    for key in MULTIPLE_CHOICE_GROUPS:
        for choice, values in config.get(key, {}).items():
            classes[f"{key}.{choice}"] = target_class(values["_target_"], base=object, key=key)
    package = [] if is_primary or _is_overlay(path) else [chosen[1].partition("=")[0]]
    return root, classes, package


def _docstring(key: list[str], root: type, classes: dict[str, type]) -> str | None:
    cls, docstring = root, None
    for depth, name in enumerate(key):
        full = ".".join(key[: depth + 1])
        if full in classes and "." in full:  # a choice in a group of several
            cls, docstring = classes[full], None
            continue
        if not (is_dataclass(cls) and name in field_docstrings(cls)):
            return None
        docstring = field_docstrings(cls)[name]
        hints = {field_key(field): hint for field, hint in get_type_hints(cls).items()}
        cls = classes.get(full, hints[name])
    return docstring


def rewritten(path: Path) -> str:
    """Replace the comments of the keys that a file defines with the expected ones, and remove those of other keys.

    Keeps comments above keys of others that are not their docstrings, since they say why the file sets the value.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    places = find_key_lines(text)
    comments = find_key_comments(text)
    expected = expected_comments(path)
    repeated = [key for key, docstring in key_docstrings(path).items() if comments[key] == docstring]
    above = {places[key]: expected.get(key, "") for key in (*repeated, *expected)}
    header = next((number for number, line in enumerate(lines) if not line.startswith("#")), 0)
    output: list[str] = []
    for number, line in enumerate(lines):
        if number in above:
            while output and output[-1].lstrip().startswith("#") and len(output) > header:
                output.pop()
            if number == header:
                output.append("")
            output += _comment(above[number], indent=len(line) - len(line.lstrip()))
        output.append(line)
    return "\n".join(output) + "\n"


def _comment(text: str, *, indent: int) -> Iterator[str]:
    for line in textwrap.wrap(text, WIDTH - indent - 2, break_on_hyphens=False, break_long_words=False):
        yield f"{' ' * indent}# {line}"


if __name__ == "__main__":
    for path in FILES:
        assert read_file_comment(path.read_text(encoding="utf-8")), f"{path} does not say what it is"
        path.write_text(rewritten(path), encoding="utf-8")
