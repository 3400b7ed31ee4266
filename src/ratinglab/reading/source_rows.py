"""Files of a table, and the rows that are read from them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ratinglab.formats.detection import Format, format_of
from ratinglab.formats.faults import lines_of_rows
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import MATRIX, Layout, layout_of
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.table import Ratings, SourceFile
from ratinglab.reading.feature_tables import FeatureFile


@dataclass(frozen=True)
class TableFiles:
    """Files of ratings, of users and of items.

    Attributes:
        ratings: files in the dialect and with the columns that follow, in the order of the rows.
        timestamp_format: data.timestamp_format: a unit of Unix time or a strptime pattern; None: detected.
        num_ratings: numbers of ratings that a named data set can have; empty: any number.
        noise_floor: MSE of a perfect model, for generated data; else None.
    """

    name: str
    ratings: tuple[InputFile, ...]
    dialect: TextDialect
    columns: ColumnOptions
    users: FeatureFile
    items: FeatureFile
    timestamp_format: str | None = None
    num_ratings: tuple[int, ...] = ()
    noise_floor: float | None = None

    def layout_of(self, file: InputFile) -> Layout | None:
        """Find the layout of a file of ratings; None unless it is text."""
        if format_of(file) is not Format.TEXT:
            return None
        return layout_of(file, self.dialect, columns=self.columns, timestamp_format=self.timestamp_format)


@dataclass(frozen=True)
class Rows:
    """Rows of all files, before and during cleaning.

    Attributes:
        ratings: user and item index and rating.
        timestamp: (N,) int64 milliseconds, or None.
        user_ids: the id of each user index; likewise item_ids.
        files: each file and its layout, which is None unless the file is text.
        stops: for each file, the row after its last one, before cleaning.
        notes: one line each, on files, ids and dropped rows.
        number: (N,) int64, position of each row among all rows read; None: no row was dropped.
        merged_across_files: number of pairs of user and item merged from rows in several files.
    """

    ratings: Ratings
    timestamp: NDArray[np.int64] | None
    user_ids: IdMap
    item_ids: IdMap
    files: list[tuple[InputFile, Layout | None]]
    stops: NDArray[np.int64]
    notes: tuple[str, ...]
    number: NDArray[np.int64] | None = None
    merged_across_files: int = 0

    def take(self, rows: NDArray[np.int64]) -> "Rows":
        """Select rows by index, in the given order."""
        return replace(
            self,
            ratings=self.ratings.take(rows),
            timestamp=None if self.timestamp is None else self.timestamp[rows],
            number=rows if self.number is None else self.number[rows],
        )

    def noted(self, *notes: str) -> "Rows":
        """Append notes."""
        return replace(self, notes=(*self.notes, *notes))

    def places(self, rows: list[int]) -> list[str]:
        """Find the file and line of each row. Reads text files again."""
        number = np.array(rows) if self.number is None else self.number[rows]
        file_of_row = np.searchsorted(self.stops, number, side="right")
        row_in_file = number - np.concatenate([[0], self.stops])[file_of_row]
        places = [""] * len(rows)
        for index in np.unique(file_of_row):
            file, layout = self.files[index]
            inside = np.flatnonzero(file_of_row == index)
            of_file = row_in_file[inside].tolist()
            named = [row + 1 for row in of_file] if layout is None else lines_of_rows(file, layout, of_file)
            for position, count in zip(inside, named, strict=True):
                places[position] = f"{file}, {'row' if layout is None else 'line'} {count}"
        return places

    def matrix_hint(self) -> str | None:
        """Return advice on the first file that looks like a matrix; None if there is none."""
        hints = ((MATRIX.format(file=file), layout) for file, layout in self.files)
        return next((hint for hint, layout in hints if layout is not None and hint in layout.notes), None)

    def sources(self) -> tuple[SourceFile, ...]:
        """List the files, each with the row after its last remaining one."""
        stops = self.stops if self.number is None else np.searchsorted(self.number, self.stops)
        return tuple(SourceFile(str(file), int(stop)) for (file, _), stop in zip(self.files, stops, strict=True))
