"""Text of --help: the choices of each group, and all keys with their comments in the chosen YAML files.

Hydra's own help shows no comments, and takes twice as long, because it also lists Hydra's own groups.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ratinglab.config.primary_config import FOLDER, PrimaryConfig
from ratinglab.config.typed_options import TARGET
from ratinglab.options import as_yaml
from ratinglab.process.program import shell_command
from ratinglab.runs.hydra_files import LOADER

KeyPath = tuple[str, ...]
"""Path of a nested key, such as ("columns", "user")."""
DESCRIPTION_COLUMN = 36
"""Column at which descriptions begin. A name that is too long for the space before it gets a line of its own."""
HOW_TO = """\
GROUP=NAME makes a choice, KEY=VALUE sets a key. `*` marks what is chosen. To see the keys of another choice, name it:
python scripts/{script}.py {group}={choice} --help"""
FLAGS = {
    "-m": "sweep: run once for each combination of KEY=VALUE,VALUE,…",
    "--config-dir FOLDER": "also use your own YAML files and classes, such as FOLDER/model/mine.yaml",
    "--cfg job": "print the configuration and run nothing",
    "--hydra-help": "Hydra's own flags and groups",
}


def format_help(conf: PrimaryConfig, overrides: Sequence[str]) -> str:
    """Format the help of a primary config with these overrides."""
    config, _ = conf.compose(overrides)
    chosen = conf.chosen_names(overrides)
    primary = (FOLDER / f"{conf.config_name}.yaml").read_text(encoding="utf-8")
    comments = _comments(conf, overrides)
    names = conf.groups()
    purposes = {path[-1]: comment for path, comment in find_key_comments(primary).items() if path[0] == "defaults"}
    groups = {name: purpose for name, purpose in purposes.items() if name in names}
    lines = read_file_comment(primary)
    if groups:
        group = next(iter(groups))
        choice = next(iter(conf.choices(group)))
        lines += ["", *textwrap.wrap(HOW_TO.format(script=conf.config_name, group=group, choice=choice), _width())]
    for group, purpose in groups.items():
        lines += ["", *textwrap.wrap(f"{group}: {purpose}", _width())]
        for name, path in conf.choices(group).items():
            description = read_file_comment(path.read_text(encoding="utf-8"))
            mark = "*" if name in chosen[group] else " "
            lines += _entry(name, description[0] if description else "", mark=mark)
        if group in config and (keys := list(_key_lines(config[group], comments, prefix=f"{group}."))):
            lines += ["", *keys]
    ungrouped = OmegaConf.masked_copy(config, [str(key) for key in config if key not in groups])
    lines += ["", "Keys of the run:" if groups else "Keys (KEY=VALUE):", *_key_lines(ungrouped, comments)]
    flags = {flag: text for flag, text in FLAGS.items() if flag != "-m" or conf.config_name == "train"}
    lines += ["", "Flags:", *(line for flag, text in flags.items() for line in _entry(flag, text))]
    return adapt_commands("\n".join(lines))


def adapt_commands(text: str) -> str:
    """Replace each `python scripts/NAME.py` in a text by `shell_command`, which fits how this process was started."""
    return re.sub(r"python scripts/(\w+)\.py", lambda match: shell_command(match[1]), text)


def _comments(conf: PrimaryConfig, overrides: Sequence[str]) -> dict[str, str]:
    """Return the comment above each key in the chosen files, by the full name of the key."""
    comments: dict[str, str] = {}
    for file in conf.chosen_files(overrides):
        for path, comment in find_key_comments(file.path.read_text(encoding="utf-8")).items():
            key = ".".join([file.package, *path]).lstrip(".")
            comments[key] = comment or comments.get(key, "")
    return comments


def _key_lines(config: DictConfig, comments: Mapping[str, str], prefix: str = "") -> Iterator[str]:
    """Yield one or more lines for each key that can be set: KEY=VALUE and its comment."""
    for name in map(str, config):
        key = f"{prefix}{name}"
        value = "${…}"
        with suppress(OmegaConfBaseException):  # some interpolations can be resolved only in a run
            value = "???" if OmegaConf.is_missing(config, name) else config[name]
        if name == TARGET or (isinstance(value, DictConfig) and set(value) == {TARGET}):
            continue
        if isinstance(value, DictConfig) and any(comments.get(f"{key}.{inner}") for inner in map(str, value)):
            yield from _key_lines(value, comments, f"{key}.")
        else:
            hint = " Must be given." if value == "???" else ""
            yield from _entry(f"{key}={_format_value(value)}", comments.get(key, "") + hint)


def _format_value(value: Any) -> str:
    """Format a value as in YAML. A value with nested keys becomes `…`."""
    if OmegaConf.is_config(value):
        plain: Any = OmegaConf.to_container(value, resolve=False)
        return "…" if any(isinstance(entry, dict) for entry in (plain, *plain)) else as_yaml(plain)
    return as_yaml(value)


def _entry(name: str, text: str, *, mark: str = " ") -> list[str]:
    """Format a name and its description side by side, in one or more lines."""
    head = f"  {mark} {name}"
    indent = " " * DESCRIPTION_COLUMN
    above = [head] if len(head) > DESCRIPTION_COLUMN - 2 or not text else []
    first = indent if above else head.ljust(DESCRIPTION_COLUMN)
    beside = textwrap.wrap(text, _width(), initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
    return [*above, *beside]


def _width() -> int:
    return max(72, min(120, shutil.get_terminal_size((100, 24)).columns))


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
    return dict(_lines_of_keys(root, ())) if isinstance(root, yaml.MappingNode) else {}


def _lines_of_keys(node: yaml.MappingNode, parent: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    for key, value in node.value:
        path = (*parent, str(key.value))
        yield path, key.start_mark.line
        if isinstance(value, yaml.MappingNode):
            yield from _lines_of_keys(value, path)
        elif path == ("defaults",):
            for entry in value.value:
                if isinstance(entry, yaml.MappingNode):
                    yield from _lines_of_keys(entry, path)
