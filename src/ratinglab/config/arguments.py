"""The arguments of a command, before Hydra sees them."""

import argparse
import re
import sys
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from ratinglab.config.hydra_api import argument_parser
from ratinglab.errors import UserError


def parse_arguments() -> argparse.Namespace:
    """Parse the command line; `flags` are the arguments besides the overrides.

    Flags may follow overrides, which Hydra 1.3's own parsing rejects. Outside a sweep, a value that Hydra cannot parse,
    or would parse as a sweep although a file has that name, is taken literally: `run=a b/c=d,e`. An unknown flag raises
    UserError.
    """
    parser = argument_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")

    parser.error = refuse  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args()
    arguments.flags = [argument for argument in sys.argv[1:] if argument not in arguments.overrides]
    if not arguments.multirun:
        arguments.overrides = [_as_typed(argument) for argument in arguments.overrides]
    return arguments


def quoted(text: str) -> str:
    """Quote a text so that Hydra's grammar takes it back whole."""
    return QuotedString(text, Quote.single).with_quotes()


def _as_typed(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not (equals and re.fullmatch(r"[\w./@]+", key)):
        return argument
    try:
        is_text = OverridesParser.create().parse_override(argument).is_sweep_override() and Path(value).exists()
    except HydraException:
        is_text = True
    except OSError:  # too long for a path
        is_text = False
    return f"{key}={quoted(value)}" if is_text else argument
