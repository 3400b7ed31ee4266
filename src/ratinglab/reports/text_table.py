"""Tables of text: aligned for a terminal, in Markdown, or in LaTeX."""

import re
from collections.abc import Iterator, Sequence

import pandas as pd

DECIMALS = {"prediction": 2, "similarity": 2, "score": 3, "standard_deviation": 2}
"""Decimal places of the columns that `print_rows` rounds."""

LATEX = {each: f"\\{each}" for each in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}
"""Characters that LaTeX reads as commands, with what prints them."""


def aligned(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> Iterator[str]:
    """Format rows of cells as lines, each column as wide as its widest cell.

    Args:
        rows: rows with equal numbers of cells.
        right: indices of right-aligned columns.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        shown = [
            cell.rjust(width) if number in right else cell.ljust(width) for number, (cell, width) in enumerate(cells)
        ]
        yield "  ".join(shown).rstrip()


def print_rows(rows: pd.DataFrame) -> None:
    """Print rows with their predictions, scores or similarities, and say what the standard deviations in ± are of."""
    cells = rows.copy()
    for name, decimals in DECIMALS.items():
        if name in rows and pd.api.types.is_float_dtype(rows[name]):  # not a user's own column of text
            cells[name] = rows[name].map(f"{{:.{decimals}f}}".format).where(rows[name].notna(), "")
    cells = cells.rename(columns={"standard_deviation": "±"}).astype(str)
    print(*aligned([list(cells.columns), *cells.to_numpy().tolist()]), sep="\n")
    if "±" in cells and (cells["±"] != "").any():
        quantity = "similarity over the samples" if "similarity" in cells else "rating around its prediction"
        print(f"±: standard deviation of the {quantity}")


def markdown(rows: Sequence[Sequence[str]], *, bold: int | None = None) -> Iterator[str]:
    """Format rows of cells as a Markdown table whose header is the first row; `bold` is the index of a row in bold."""
    for number, cells in enumerate(rows):
        text = [cell.replace("|", "\\|") for cell in cells]
        shown = [f"**{cell}**" if number == bold and cell else cell for cell in text]
        yield f"| {' | '.join(shown)} |"
        if number == 0:
            yield f"| {' | '.join(['---'] * len(cells))} |"


def latex(rows: Sequence[Sequence[str]], *, bold: int | None = None) -> Iterator[str]:
    """Format rows of cells as a LaTeX tabular whose header is the first row; `bold` is the index of a row in bold."""
    yield f"\\begin{{tabular}}{{{'l' * len(rows[0])}}}"
    for number, cells in enumerate(rows):
        text = [re.sub(r"[&%$#_{}~^\\]", lambda found: LATEX[found[0]], cell).replace("±", "$\\pm$") for cell in cells]
        shown = [f"\\textbf{{{cell}}}" if number == bold and cell else cell for cell in text]
        yield " & ".join(shown) + r" \\" + (r" \hline" if number == 0 else "")
    yield "\\end{tabular}"
