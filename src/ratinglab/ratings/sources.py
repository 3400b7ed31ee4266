"""Where ratings come from: the options. pandas and pyarrow are imported when a table is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from ratinglab.errors import UserError
from ratinglab.files import user_path
from ratinglab.options import seed_rule, within

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable


class Separator(Enum):
    """What stands between two columns; by name, since Hydra cannot parse `data.separator=,`."""

    comma = ","
    tab = "\t"
    semicolon = ";"
    pipe = "|"


@dataclass
class ColumnOptions:
    """Which columns hold what: names from the header or, without a header, positions counted from 1."""

    user: str
    """Column of the user ids: integers or text."""
    item: str
    """Column of the item ids: integers or text."""
    rating: str
    """Column of the ratings: finite numbers, higher is better."""


@dataclass
class TitleOptions:
    """An optional table of items; it has a header."""

    path: str | None
    """File with one row an item; null: recommendations show ids alone."""
    separator: Separator
    """What stands between two columns of that file."""
    item: str
    """Its column of item ids."""
    title: str
    """Its column of titles."""


@dataclass
class CsvOptions:
    """Ratings from a delimited text file in UTF-8, one rating a row."""

    name: ClassVar[str] = "csv"

    path: str
    """The file of ratings."""
    separator: Separator
    """What stands between two columns."""
    header: bool
    """Whether the first line names the columns."""
    columns: ColumnOptions
    """Which columns hold user, item and rating; all others are ignored."""
    titles: TitleOptions
    """The optional table of items."""
    batch_size: int = field(metadata=within(1, 2**31 - 1))
    """Ratings in one training step."""

    def load(self) -> RatingTable:
        """Read the file, and the titles where there are any.

        Raises:
            UserError: a file, column, row or cell is wrong; the message names it.
        """
        from ratinglab.ratings.reading import Columns, TitleFile, existing_file, read_table

        path, titles = existing_file(self.path, key="data.path"), None
        if self.titles.path is not None:
            titles = TitleFile(
                path=existing_file(self.titles.path, key="data.titles.path"),
                separator=self.titles.separator.value,
                item=self.titles.item,
                title=self.titles.title,
            )
        return read_table(
            path,
            separator=self.separator.value,
            header=self.header,
            columns=Columns(user=self.columns.user, item=self.columns.item, rating=self.columns.rating),
            titles=titles,
            name=path.name,
            noise_floor=None,
        )


@dataclass
class DemoOptions:
    """About 100,000 generated ratings, written once and then read as any file."""

    name: ClassVar[str] = "demo"

    root: str
    """The cache folder in which the table is written."""
    seed: int = field(metadata=seed_rule())
    """Seed of the generated table, not of the training."""
    batch_size: int = field(metadata=within(1, 2**31 - 1))
    """Ratings in one training step."""

    def load(self) -> RatingTable:
        """Write the files where they are not there yet, and read them.

        Raises:
            UserError: the cache folder cannot be written, or a file in it is missing.
        """
        from ratinglab.ratings.demo import load_demo

        root = user_path(self.root, key="data.root")
        try:
            return load_demo(root, seed=self.seed)
        except OSError as error:
            raise UserError(f"data.root: {error.filename or root}: {error.strerror}") from error
