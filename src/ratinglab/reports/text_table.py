"""Tables of text for a terminal."""

from collections.abc import Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> Iterator[str]:
    """Rows of cells as lines, each column as wide as its widest cell.

    Args:
        rows: all with the same number of cells.
        right: columns of numbers, which end at the same place.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        shown = [
            cell.rjust(width) if number in right else cell.ljust(width) for number, (cell, width) in enumerate(cells)
        ]
        yield "  ".join(shown).rstrip()
