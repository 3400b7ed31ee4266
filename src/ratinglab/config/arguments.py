"""Parse the command line before Hydra does, to accept more forms and to report each mistake in one line.

Also lists the jobs of a sweep that are checked before the first one starts.
"""

import argparse
import itertools
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from ratinglab.config.hydra_api import argument_parser
from ratinglab.errors import UserError, refuse_arguments
from ratinglab.formats.literals import is_inline_mapping
from ratinglab.options import quote_for_hydra
from ratinglab.process.program import shell_command

MAPPING_KEYS = ("ratings", "user_features")
"""Keys whose values are mappings. They are passed to Hydra as text, because Hydra would not accept quoted names, and
would keep only the last of repeated names."""
KEY = r"[\w$-]+([./][\w$-]+)*"
"""Pattern of a key or a group."""
ID_KEYS = ("item", "user")
"""Keys whose values are ids or titles. A comma is part of such a value, and never separates the values of a sweep."""
MAX_CHECKED_JOBS = 24
"""A sweep of at most this many jobs checks all of them, at 0.1 s per job. A larger sweep checks each value once."""


class CommandLine(NamedTuple):
    """A parsed command line.

    Attributes:
        overrides: the arguments KEY=VALUE.
        flags: all other arguments, which Hydra's parser reads again.
        values: the values of the flags by name, such as `multirun` and `config_dir`.
    """

    overrides: list[str]
    flags: list[str]
    values: argparse.Namespace


def parse_arguments(*, positional: Sequence[str]) -> CommandLine:
    """Parse the command line in sys.argv. Flags may follow overrides, which Hydra 1.3 rejects.

    An argument without a key sets the next key in `positional` that is not set by name, as in `predict.py FOLDER FILE`.

    Outside sweeps, a value is taken literally if Hydra cannot parse it, or if Hydra would parse it as a sweep although
    it names a file, an id or a title: `run=a b/c=d,e`, `item=Matrix, The`.

    Raises:
        UserError: a flag is unknown, or an argument is not an override.
    """
    parser = argument_parser()
    parser.error = refuse_arguments  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args()
    if arguments.config_path or arguments.config_name or arguments.experimental_rerun:
        refused = "--experimental-rerun" if arguments.experimental_rerun else "--config-path and --config-name"
        raise UserError(
            f"{refused} cannot be set: {shell_command('reproduce', 'run=FOLDER')} trains a run "
            "again, and --config-dir FOLDER adds your own YAML files"
        )
    if (arguments.resolve or arguments.package) and not (arguments.cfg or arguments.help):
        flag = "--resolve" if arguments.resolve else f"--package {arguments.package}"
        raise UserError(f"{flag} works only with --cfg, as in --cfg job {flag}")
    if arguments.cfg and arguments.multirun:
        raise UserError("--cfg shows the configuration of one run: leave out -m")
    flags = [argument for argument in sys.argv[1:] if argument not in arguments.overrides]
    overrides = _add_keys(arguments.overrides, positional)
    _check_form(overrides, positional=positional)
    if arguments.hydra_help:  # which composes only Hydra's own part of a config
        overrides = [text for text in overrides if text.lstrip("+~").startswith("hydra")]
    if not arguments.multirun:
        overrides = [_quote_text(argument) for argument in overrides]
    return CommandLine(overrides, flags, arguments)


def _add_keys(arguments: Sequence[str], positional: Sequence[str]) -> list[str]:
    """Add the next key in `positional` that no argument sets to each argument without a key."""
    given_keys = {text.partition("=")[0] for text in arguments if not _is_bare(text)}
    keys = iter([key for key in positional if key not in given_keys])
    return [f"{key}={text}" if _is_bare(text) and (key := next(keys, None)) else text for text in arguments]


def quote_texts(arguments: Sequence[str]) -> list[str]:
    """Check that all arguments are overrides, and quote texts that Hydra would parse as something else."""
    _check_form(arguments)
    return [_quote_text(argument) for argument in arguments]


def _check_form(overrides: Sequence[str], *, positional: Sequence[str] = ()) -> None:
    """Refuse `KEY = VALUE`, arguments that are not overrides, and keys that Hydra's grammar allows but no group has."""
    for before, argument in itertools.pairwise(["", *overrides]):
        if argument.startswith("=") or (before.endswith("=") and "=" not in argument):
            raise UserError(f"{before} {argument}: leave out the spaces around =".lstrip())
        key = argument.partition("=")[0].lstrip("+~")
        if not (_is_bare(argument) or re.fullmatch(KEY, key)):
            raise UserError(f"{argument}: {key} is not a key, such as model or model.embedding_dim; see --help")
    for argument in filter(_is_bare, overrides):
        keys = " and ".join(f"{key}=" for key in positional)
        hint = f", since {keys} {'is' if len(positional) == 1 else 'are'} given" if positional else ""
        if not positional and Path(argument).exists():
            key = "resume" if Path(argument).is_dir() else "data=csv data.path"
            hint = f", such as {key}={argument}"
        raise UserError(f"{argument}: an argument must be KEY=VALUE{hint}; see --help")


def _is_bare(argument: str) -> bool:
    """Return whether an argument has no key."""
    return "=" not in argument and not argument.startswith("~")


def _quote_text(argument: str) -> str:
    """Quote the value of an override if it is a text that Hydra would not read as one."""
    key, equals, value = argument.partition("=")
    if not (equals and re.fullmatch(KEY, key)):
        return argument
    if key in MAPPING_KEYS and is_inline_mapping(value):
        return f"{key}={quote_for_hydra(value)}"
    try:
        is_sweep = OverridesParser.create().parse_override(argument).is_sweep_override()
        is_text = is_sweep and (key in ID_KEYS or Path(value).exists())
    except HydraException:
        is_text = True
    except OSError:  # too long for a path
        is_text = False
    return f"{key}={quote_for_hydra(value)}" if is_text else argument


def jobs_to_check(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """Yield the overrides of every job of a sweep. If a key is given twice, the last one counts.

    With more than MAX_CHECKED_JOBS jobs, yields only the first one and those that differ from it in one key.
    """
    values = {override.get_key_element(): swept_values(override) for override in overrides}
    grids = [values]
    if math.prod(map(len, values.values())) > MAX_CHECKED_JOBS:
        first_job = {key: choices[:1] for key, choices in values.items()}
        grids = [first_job, *(first_job | {key: choices[1:]} for key, choices in values.items())]
    for grid in grids:
        for combination in itertools.product(*grid.values()):
            yield [f"{key}={value}" for key, value in zip(grid, combination, strict=True)]


def swept_values(override: Override) -> list[str]:
    """List the value of an override, or all values that it sweeps. For an interval, returns its two ends.

    Raises:
        UserError: the override sweeps no values, as range(3,1) does.
    """
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_discrete_sweep():
        values = list(override.sweep_string_iterator())
        if not values:
            raise UserError(f"{override.input_line} has no values")
        return values
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    return [str(interval.start), str(interval.end)]
