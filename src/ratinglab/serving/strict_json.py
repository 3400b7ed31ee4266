"""Strict JSON: no NaN, no key twice, no deep nesting, UTF-8 only."""

import json
from typing import Any

from pydantic_core import from_json

from ratinglab.errors import UserError


def check_json(body: bytes) -> None:
    """Refuse JSON that Python's parser accepts against the standard or cannot parse.

    Raises:
        UserError: the body is not JSON in UTF-8, holds NaN or Infinity, half of a surrogate pair or an endless number,
            is nested too deeply, or has a key twice.
    """
    try:
        from_json(body, allow_inf_nan=False)
        json.loads(body.decode(), object_pairs_hook=_distinct)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"the body is not valid JSON: {str(error).splitlines()[0]}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    """Refuse repeated keys, for which Python would keep the last value."""
    seen = set[str]()
    for key, _ in pairs:
        if key in seen:
            raise UserError(f"the body has the key {key[:60]!r} twice")
        seen.add(key)
