"""Tables of text: aligned for a terminal, in Markdown, or in LaTeX."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from ratinglab.errors import CONTROL_CHARACTERS

METRIC_DECIMALS = 4
"""Decimal places of a metric."""
COLUMN_DECIMALS = {"prediction": 2, "similarity": 2, "score": 3, "standard_deviation": 2}
"""Decimal places of the columns that `print_rows` rounds."""

LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$"}
)
"""The LaTeX command for each character that LaTeX would interpret, and for ±; for `str.translate`."""


def format_metric(value: float | None) -> str:
    """Format a metric, without a minus sign if it is rounded to 0. Returns "" for None and NaN."""
    return "" if value is None or math.isnan(value) else f"{value:z.{METRIC_DECIMALS}f}"


def align(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> Iterator[str]:
    """Format rows of cells as lines, each column as wide as its widest cell.

    All rows have the same number of cells. `right` holds the indices of right-aligned columns.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(padded).rstrip()


def drop_empty_columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Drop the columns whose cells are all empty below the header."""
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return [list(row) for row in zip(*kept, strict=True)]


def print_rows(rows: pd.DataFrame) -> None:
    """Print rows with their predictions, scores or similarities.

    Explains the column of standard deviations, ±, or leaves it out if no row has one.
    """
    if "standard_deviation" in rows and rows["standard_deviation"].isna().all():
        rows = rows.drop(columns="standard_deviation")
    cells = rows.copy()
    for name, decimals in COLUMN_DECIMALS.items():
        if name in rows and pd.api.types.is_float_dtype(rows[name]):  # not a user's own column of text
            cells[name] = rows[name].map(f"{{:z.{decimals}f}}".format).where(rows[name].notna(), "")
    cells = cells.rename(columns={"standard_deviation": "±"}).astype(str)
    cells = cells.map(lambda text: text.translate(CONTROL_CHARACTERS))
    print(*align([list(cells.columns), *cells.to_numpy().tolist()]), sep="\n")
    if "±" in cells:
        quantity = "similarity over the samples" if "similarity" in cells else "rating around its prediction"
        print(f"±: standard deviation of the {quantity}")


def format_markdown(rows: Sequence[Sequence[str]], *, bold: int | None = None) -> Iterator[str]:
    """Format rows of cells as a Markdown table whose header is the first row; `bold` is the index of a row in bold."""
    for number, cells in enumerate(rows):
        escaped = [cell.replace("|", "\\|") for cell in cells]
        formatted = [f"**{cell}**" if number == bold and cell else cell for cell in escaped]
        yield f"| {' | '.join(formatted)} |"
        if number == 0:
            yield f"| {' | '.join(['---'] * len(cells))} |"


def format_latex(rows: Sequence[Sequence[str]], *, bold: int | None = None) -> Iterator[str]:
    """Format rows of cells as a LaTeX tabular whose header is the first row; `bold` is the index of a row in bold."""
    yield f"\\begin{{tabular}}{{{'l' * len(rows[0])}}}"
    for number, cells in enumerate(rows):
        escaped = [cell.translate(LATEX) for cell in cells]
        formatted = [f"\\textbf{{{cell}}}" if number == bold and cell else cell for cell in escaped]
        yield " & ".join(formatted) + r" \\" + (r" \hline" if number == 0 else "")
    yield "\\end{tabular}"
