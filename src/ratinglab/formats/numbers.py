"""Numbers written as text."""

import math


def parsed_number(text: str, *, decimal: str) -> float:
    """Parse a number as pyarrow does; `nan`, `inf` and `1e400` are not finite. Raises ValueError for other texts."""
    # only Python accepts 1_000, digits of other scripts, and exotic white space around numbers
    if not text.isascii() or "_" in text or text.strip() != text.strip(" \t") or (decimal != "." and "." in text):
        raise ValueError
    return float(text.replace(decimal, "."))


def finite_number(text: str, *, decimal: str = ".") -> float:
    """Parse a finite number; NaN for any other text."""
    try:
        number = parsed_number(text, decimal=decimal)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def is_number(text: str, *, decimal: str = ".") -> bool:
    """Return whether a text is a finite number."""
    return not math.isnan(finite_number(text, decimal=decimal))
