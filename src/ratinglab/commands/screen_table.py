"""Tables of ratings, scores and similarities on the screen."""

import pandas as pd

from ratinglab.reports.text_table import aligned

DIGITS = {"prediction": 2, "similarity": 2, "score": 3, "standard_deviation": 2}
"""Decimal places of each column; a file of pairs can have a column of text with such a name."""


def print_table(rows: pd.DataFrame) -> None:
    """Print a table, with standard deviations in the column ±, and say below it what these are."""
    shown = rows.copy()
    for name in (name for name in DIGITS if name in rows and pd.api.types.is_float_dtype(rows[name])):
        shown[name] = rows[name].map(f"{{:.{DIGITS[name]}f}}".format).where(rows[name].notna(), "")
    shown = shown.rename(columns={"standard_deviation": "±"}).astype(str)
    print(*aligned([list(shown.columns), *shown.to_numpy().tolist()]), sep="\n")
    if "±" in shown and (shown["±"] != "").any():
        of = "similarity over the samples" if "similarity" in shown else "rating around its prediction"
        print(f"±: standard deviation of the {of}")
