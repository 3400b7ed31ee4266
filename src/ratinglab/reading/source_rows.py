"""Files of a data set, and the rows that are read from them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ratinglab.formats.detection import Format, detect_format
from ratinglab.formats.faults import find_line_numbers
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import MATRIX_NOTE, Layout, detect_layout
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.table import Ratings, SourceFile
from ratinglab.reading.feature_tables import FeatureFile


@dataclass(frozen=True)
class DataFiles:
    """Files of ratings, users and items.

    Attributes:
        ratings: ratings files, in the order of their rows. All have this dialect and these columns.
        timestamp_format: data.timestamp_format: a unit of Unix time or a strptime pattern. None if it is detected.
        num_ratings: numbers of ratings that a named data set can have. Empty if it can have any.
        noise_floor: MSE of a perfect model if the data are synthetic. None for real data.
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

    def detect_layout(self, file: InputFile) -> Layout | None:
        """Detect the layout of a ratings file. Returns None if it is not text."""
        if detect_format(file) is not Format.TEXT:
            return None
        return detect_layout(file, self.dialect, columns=self.columns, timestamp_format=self.timestamp_format)


@dataclass(frozen=True)
class SourceRows:
    """Rows of all files, before and during cleaning.

    Attributes:
        ratings: user and item index and rating.
        timestamp: (N,) int64 milliseconds, or None.
        user_ids, item_ids: the ids by index.
        files: each file and its layout, which is None unless the file is text.
        stops: for each file, the row after its last row, before cleaning.
        notes: one line each, on files, ids and dropped rows.
        source_row: (N,) int64, position of each row among all rows before cleaning. None if no row was dropped.
        merged_across_files: number of user-item pairs merged from rows in several files.
    """

    ratings: Ratings
    timestamp: NDArray[np.int64] | None
    user_ids: IdMap
    item_ids: IdMap
    files: list[tuple[InputFile, Layout | None]]
    stops: NDArray[np.int64]
    notes: tuple[str, ...]
    source_row: NDArray[np.int64] | None = None
    merged_across_files: int = 0

    def take(self, rows: NDArray[np.int64]) -> "SourceRows":
        """Select rows by position, in the given order."""
        return replace(
            self,
            ratings=self.ratings.take(rows),
            timestamp=None if self.timestamp is None else self.timestamp[rows],
            source_row=rows if self.source_row is None else self.source_row[rows],
        )

    def with_notes(self, *notes: str) -> "SourceRows":
        """Return the rows with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    def places(self, rows: list[int]) -> list[str]:
        """Return the file and line of each row, for messages. Reads text files again."""
        source_row = np.array(rows) if self.source_row is None else self.source_row[rows]
        file_index = np.searchsorted(self.stops, source_row, side="right")
        row_in_file = source_row - np.concatenate([[0], self.stops])[file_index]
        places = [""] * len(rows)
        for index in np.unique(file_index):
            file, layout = self.files[index]
            positions = np.flatnonzero(file_index == index)
            file_rows = row_in_file[positions].tolist()
            if layout is None:
                places_in_file = [file.place_of_row(row) for row in file_rows]
            else:
                places_in_file = [f"{file}, line {line}" for line in find_line_numbers(file, layout, file_rows)]
            for position, place in zip(positions, places_in_file, strict=True):
                places[position] = place
        return places

    def matrix_note(self) -> str | None:
        """Return the note on the first file that looks like a matrix, or None."""
        notes = ((MATRIX_NOTE.format(file=file), layout) for file, layout in self.files)
        return next((note for note, layout in notes if layout is not None and note in layout.notes), None)

    def sources(self) -> tuple[SourceFile, ...]:
        """List the files, each with the row after its last remaining row."""
        stops = self.stops if self.source_row is None else np.searchsorted(self.source_row, self.stops)
        return tuple(SourceFile(str(file), int(stop)) for (file, _), stop in zip(self.files, stops, strict=True))
