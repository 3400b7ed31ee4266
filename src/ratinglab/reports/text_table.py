"""Tables of text: aligned for a terminal, or in Markdown."""

from collections.abc import Iterator, Sequence


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


def markdown(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Format rows of cells as a Markdown table whose head is the first row."""
    head, *body = rows
    for cells in (head, ["---"] * len(head), *body):
        yield f"| {' | '.join(cells)} |"
