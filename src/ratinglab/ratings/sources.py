"""Options of the sources of ratings. Imports pandas and pyarrow only when a table is loaded."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

from ratinglab.errors import UserError, did_you_mean
from ratinglab.files import user_path
from ratinglab.options import at_least, seed_rule, within

if TYPE_CHECKING:
    from ratinglab.ratings.feature_tables import FeatureFile
    from ratinglab.ratings.loading import TableFiles
    from ratinglab.ratings.side_information import Origin
    from ratinglab.ratings.table import RatingTable

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "double_colon": "::", "spaces": "spaces"}
"""Separators by name, because Hydra cannot parse `data.separator=,`."""
MOVIELENS = tuple(f"movielens_{size}" for size in ("100k", "latest_small", "1m", "10m", "20m", "25m", "32m"))
"""The named data sets."""


class Duplicates(Enum):
    """Treatment of rows that repeat a pair of user and item."""

    error = "error"
    last = "last"
    mean = "mean"


@dataclass
class DataOptions(ABC):
    """Base class of the sources of ratings."""

    duplicates: Duplicates
    """Treatment of rows that repeat a pair of user and item. error: stop with an error; last: keep the last; mean: keep
    the last, with the mean rating."""
    min_ratings_per_user: int = field(metadata=at_least(0))
    """Minimum number of ratings per user. Drops users with fewer, repeatedly, until all have enough; 0: keep all."""
    min_ratings_per_item: int = field(metadata=at_least(0))
    """Minimum number of ratings per item. Drops items with fewer, repeatedly, until all have enough; 0: keep all."""
    cache: str | None
    """Folder for generated, downloaded and converted data; null: keep nothing. Defaults to $RATINGLAB_DATA, or the
    user's cache folder."""
    batch_size: int = field(metadata=within(1, 2**31 - 1))
    """Number of ratings per training step. Larger batches run faster and may need a larger optimizer.lr."""

    @abstractmethod
    def load(self) -> RatingTable:
        """Read and check the ratings.

        Raises:
            UserError: a file, column, row or cell is invalid; the message names it.
        """

    def _load(self, files: TableFiles, *, lowest: float | None = None, highest: float | None = None) -> RatingTable:
        """Read the files, or load the table from the cache. A bound of None comes from the ratings."""
        from ratinglab.ratings.cleaning import Cleaning
        from ratinglab.ratings.loading import load_table

        cleaning = Cleaning(
            duplicates=self.duplicates.value,
            min_ratings_per_user=self.min_ratings_per_user,
            min_ratings_per_item=self.min_ratings_per_item,
            lowest=lowest,
            highest=highest,
        )
        # all options that affect how files are read
        options = json.dumps(asdict(self) | {"duplicates": self.duplicates.value, "batch_size": None, "cache": None})
        return load_table(files, cleaning=cleaning, cache=self._cache_folder(), options=options)

    def _cache_folder(self) -> Path | None:
        return None if self.cache is None else user_path(self.cache, key="data.cache")


@dataclass
class ColumnOptions:
    """Columns by role: names from the header or, without a header, positions counted from 1."""

    user: str
    """Column of the user ids: integers or text. A name, or a position from 1 if data.header is false."""
    item: str
    """Column of the item ids: integers or text. A name, or a position from 1 if data.header is false."""
    rating: str
    """Column of the ratings: finite numbers, higher is better."""
    timestamp: str | None
    """Column of the times: Unix time (s, ms, µs, ns) or ISO dates; null: no times. Splits by time and timesvdpp require
    it."""


@dataclass
class ScaleOptions:
    """Lowest and highest possible rating, for data that does not contain them."""

    lowest: float | None
    """Lowest possible rating; null: the lowest one in the data. A rating below it is an error."""
    highest: float | None
    """Highest possible rating; null: the highest one in the data. A rating above it is an error."""

    def check_together(self) -> None:
        for name, bound in vars(self).items():
            if bound is not None and not math.isfinite(bound):
                raise UserError(f"data.scale.{name} must be finite, got {bound}")
        if self.lowest is not None and self.highest is not None and self.lowest >= self.highest:
            raise UserError(f"data.scale.highest must be above data.scale.lowest, got {self.highest} and {self.lowest}")


@dataclass
class UserOptions:
    """Optional table of users with a header. Each column besides the ids is a feature."""

    path: str | None
    """File with one row per user; null: no user features."""
    separator: str
    """Separator of that file's columns, as in data.separator."""
    encoding: str
    """Encoding of that file, as in data.encoding."""
    user: str
    """That file's column of user ids."""
    numeric: list[str]
    """That file's columns of numbers, such as [age]. All others hold categories, several joined by |."""


@dataclass
class TitleOptions:
    """Optional table of items with a header. Each column besides ids and titles is a feature."""

    path: str | None
    """File with one row per item; null: no item features, and recommendations show only ids."""
    separator: str
    """Separator of that file's columns, as in data.separator."""
    encoding: str
    """Encoding of that file, as in data.encoding."""
    item: str
    """That file's column of item ids."""
    title: str
    """That file's column of titles."""
    numeric: list[str]
    """That file's columns of numbers, such as [year]. All others hold categories, several joined by |."""


@dataclass
class CsvOptions(DataOptions):
    """Ratings from Parquet or delimited text, plain or compressed (.gz, .zip, .bz2, .xz, .zst), one rating per row."""

    name: ClassVar[str] = "csv"

    path: str
    """File of ratings, or a pattern such as ratings-*.csv for several files, read in the order of their names."""
    separator: str
    """Separator of the columns: comma, tab, semicolon, pipe, double_colon, spaces, or the text itself."""
    header: bool
    """Whether the first line names the columns. If false, data.columns are positions counted from 1."""
    encoding: str
    """Encoding of the text: utf-8, latin-1, utf-16 or any other encoding that Python knows."""
    columns: ColumnOptions
    """Columns of user, item, rating and time. All others are ignored."""
    scale: ScaleOptions
    """Rating scale, used to clip predictions. Set it if the data lacks the lowest or the highest rating."""
    users: UserOptions
    """Table of users, with a header; optional. Its columns are features for model.user_features."""
    titles: TitleOptions
    """Table of items, with a header; optional. Its columns are features for model.item_features."""

    def check_together(self) -> None:
        """Raise UserError for an unknown separator or encoding."""
        for prefix, options in (("data", self), ("data.users", self.users), ("data.titles", self.titles)):
            separator_text(options.separator, key=f"{prefix}.separator")
            check_encoding(options.encoding, key=f"{prefix}.encoding")

    def load(self) -> RatingTable:
        """Read the files, with users and titles if given, or load the table from the cache."""
        from ratinglab.ratings.inputs import Columns, TextForm
        from ratinglab.ratings.loading import TableFiles
        from ratinglab.ratings.reading import RatingFiles, existing_files

        ratings = RatingFiles(
            files=existing_files(self.path, key="data.path"),
            form=TextForm(separator_text(self.separator, key="data.separator"), self.encoding),
            header=self.header,
            columns=Columns(**vars(self.columns)),
        )
        name = ratings.files[0].path.name if len(ratings.files) == 1 else Path(self.path).name
        users, user_origin = _feature_file("user", self.users, id_column=self.users.user, title=None)
        items, item_origin = _feature_file("item", self.titles, id_column=self.titles.item, title=self.titles.title)
        return self._load(TableFiles(name, ratings, users, items, (user_origin, item_origin)), **vars(self.scale))


def _feature_file(
    noun: str, options: UserOptions | TitleOptions, *, id_column: str, title: str | None
) -> tuple[FeatureFile | None, Origin]:
    """Find the file of users or items, if given, and its origin."""
    from ratinglab.ratings.feature_tables import FeatureFile, FeatureLayout
    from ratinglab.ratings.inputs import TextForm
    from ratinglab.ratings.reading import existing_file
    from ratinglab.ratings.side_information import KEYS, Origin

    key = KEYS[noun]
    origin = Origin(noun, place=f"{key}.path", advice=f"name it as {key}.path")
    if options.path is None:
        return None, origin
    form = TextForm(separator_text(options.separator, key=f"{key}.separator"), options.encoding)
    layout = FeatureLayout(form, id=id_column, title=title, numeric=tuple(options.numeric))
    return FeatureFile(existing_file(options.path, key=f"{key}.path"), layout, origin), origin


@dataclass
class DemoOptions(DataOptions):
    """About 100,000 generated ratings, written once and then read like any file."""

    name: ClassVar[str] = "demo"

    seed: int = field(metadata=seed_rule())
    """Seed of the generated table. The training has its own, `seed`."""

    def load(self) -> RatingTable:
        """Generate the files if missing, and read them. Without a cache folder they are temporary.

        Raises:
            UserError: the cache folder cannot be written, or a file in it is missing.
        """
        from ratinglab.ratings.demo import demo_files

        cache = self._cache_folder()
        if cache is None:
            with TemporaryDirectory() as folder:
                return self._load(demo_files(Path(folder), seed=self.seed))
        try:
            return self._load(demo_files(cache, seed=self.seed))
        except OSError as error:
            raise UserError(f"data.cache: {error.filename or cache}: {error.strerror}") from error


@dataclass
class MovieLensOptions(DataOptions):
    """A MovieLens data set, downloaded once into the cache folder."""

    name: str
    """Name of the data set, such as movielens_100k."""
    root: str | None
    """Folder or zip archive that already holds the data set; null: download it once into the cache folder."""
    address: str
    """Web folder that holds the archive: the publisher's, or a mirror."""

    def check_together(self) -> None:
        """Raise UserError for an unknown data set."""
        if self.name not in MOVIELENS:
            hint = did_you_mean(self.name, MOVIELENS)
            raise UserError(f"data.name must be one of {', '.join(MOVIELENS)}, got {self.name}{hint}")

    def load(self) -> RatingTable:
        """Find or download the files and read them, or load the table from the cache.

        Raises:
            UserError: the data set is missing and cannot be downloaded, or its files are invalid.
        """
        from ratinglab.ratings.movielens import locate

        root = None if self.root is None else user_path(self.root, key="data.root")
        return self._load(locate(self.name, root=root, cache=self._cache_folder(), address=self.address))


def separator_text(text: str, *, key: str) -> str:
    """Resolve a separator, given by name or literally; "spaces" is a run of blanks.

    Raises:
        UserError: it is neither a known name nor usable as a separator.
    """
    if text in SEPARATORS:
        return SEPARATORS[text]
    if not text or any(character.isalnum() or character in "\"'\r\n" for character in text):
        names = ", ".join(SEPARATORS)
        hint = did_you_mean(text, SEPARATORS)
        raise UserError(f"{key} must be one of {names}, or the characters themselves, got {text!r}{hint}")
    return text


def check_encoding(name: str, *, key: str) -> None:
    """Raise UserError for an unknown encoding."""
    try:
        if "ratings 1".encode(name).decode(name) != "ratings 1":
            raise LookupError
    except (LookupError, UnicodeError):
        raise UserError(f"{key}: there is no encoding {name!r}") from None
