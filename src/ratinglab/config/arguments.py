"""The arguments of a command, before Hydra sees them."""

import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from ratinglab.errors import UserError


def parse_arguments() -> Any:
    """Hydra's arguments, and sys.argv as Hydra is to read it.

    Flags may stand behind overrides, where Hydra's own parser would stumble. Outside a sweep, a value that Hydra cannot
    read, or reads as several where a file has that very name, is taken as it was typed: `run=a b/c=d,e`.

    Raises:
        UserError: an unknown flag.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")

    parser.error = refuse  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args()
    flags = [argument for argument in sys.argv[1:] if argument not in arguments.overrides]
    if not arguments.multirun:
        arguments.overrides = [_as_typed(argument) for argument in arguments.overrides]
    sys.argv[1:] = [*flags, *arguments.overrides]
    return arguments


def asks_for_information(arguments: Any) -> bool:
    """Whether the command is to tell something of itself and run nothing."""
    return bool(arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion)


def quoted(text: str) -> str:
    """A text as Hydra's grammar takes it back whole, whatever is in it."""
    return QuotedString(text, Quote.single).with_quotes()


def _as_typed(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not (equals and re.fullmatch(r"[\w./@]+", key)):
        return argument
    try:
        is_text = OverridesParser.create().parse_override(argument).is_sweep_override() and Path(value).exists()
    except HydraException:
        is_text = True
    except OSError:  # no path could be as long
        is_text = False
    return f"{key}={quoted(value)}" if is_text else argument
