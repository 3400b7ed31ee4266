"""Tables of ratings, scores and similarities on the screen."""

import pandas as pd

from ratinglab.reports.text_table import aligned

DIGITS = {"rating": 2, "prediction": 2, "similarity": 2, "score": 3, "standard_deviation": 2}
"""Decimal places of each column."""


def print_table(rows: pd.DataFrame) -> None:
    """Print a table, with standard deviations in the column ±, and say below it what these are."""
    shown = rows.copy()
    for name in shown.columns.intersection(list(DIGITS)):
        shown[name] = rows[name].map(f"{{:.{DIGITS[name]}f}}".format).where(rows[name].notna(), "")
    shown = shown.rename(columns={"standard_deviation": "±"}).astype(str)
    print(*aligned([list(shown.columns), *shown.to_numpy().tolist()]), sep="\n")
    if "±" in shown and (shown["±"] != "").any():
        of = "similarity over the samples" if "similarity" in shown else "rating around its prediction"
        print(f"±: standard deviation of the {of}")
