"""Options of the sources of ratings. Imports pandas and pyarrow only when a table is loaded."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar, cast

from ratinglab.errors import UserError, did_you_mean
from ratinglab.files import user_path
from ratinglab.formats.text_options import ColumnOptions, TextOptions, check_timestamp_format
from ratinglab.options import as_yaml, finite, valid_seed, within
from ratinglab.reading.cleaning_options import CleaningOptions, Duplicates
from ratinglab.sides import SideName

if TYPE_CHECKING:
    from ratinglab.formats.frames import Frames
    from ratinglab.formats.inputs import InputFile
    from ratinglab.ratings.table import ConfiguredScale, RatingTable
    from ratinglab.reading.feature_tables import FeatureFile
    from ratinglab.reading.source_rows import DataFiles

FRAME = "<data frame>"
"""Value of a path option for a data frame passed from Python."""
MOVIELENS = tuple(f"movielens_{size}" for size in ("100k", "latest_small", "1m", "10m", "20m", "25m", "32m"))
"""The named data sets."""


@dataclass
class DataOptions(CleaningOptions, ABC):
    """Base class of the sources of ratings."""

    cache: str | None
    """Folder for synthetic, downloaded and converted data. With null, nothing is kept. Defaults to $RATINGLAB_DATA, or
    the user's cache folder."""
    batch_size: int = field(metadata=within(1, 2**31 - 1))
    """Number of ratings per training step. Larger batches run faster and may need a larger optimizer.lr."""

    def column_names(self) -> dict[str, str]:
        """Return the names of columns by role, such as user. Files that are read later take them as defaults."""
        return {}

    @property
    def default_timestamp_format(self) -> str | None:
        """Format of the timestamps in files that are read later, or None to detect it."""
        return getattr(self, "timestamp_format", None)

    @property
    def keeps_rows_on_disk(self) -> bool:
        """Whether the rows stay in files that are mapped into memory."""
        return False

    @abstractmethod
    def load(self) -> RatingTable:
        """Read and check the ratings.

        Raises:
            UserError: a file, column, row or cell is invalid; the message names it.
        """

    def _load(
        self,
        files: DataFiles,
        *,
        scale: ConfiguredScale = (None, None),
        unrated: tuple[float, ...] = (),
    ) -> RatingTable:
        """Read the files, or load the table from the cache. The ratings provide a bound of the scale that is None."""
        from ratinglab.reading.rating_files import read_table
        from ratinglab.reading.table_cache import load_table

        read = partial(read_table, files, cleaning=self, scale=scale, unrated=unrated)
        # all options that affect how files are read
        values = asdict(self) | {"batch_size": None, "cache": None}
        if self.keeps_rows_on_disk:  # resume=FOLDER makes paths absolute: the files' fingerprints tell them apart
            values |= {"path": None}
        options = json.dumps(values, default=lambda value: value.name)
        folder = self._cache_folder()
        return load_table(files, read, folder=folder, options=options, on_disk=self.keeps_rows_on_disk)

    def _cache_folder(self) -> Path | None:
        return None if self.cache is None else user_path(self.cache, key="data.cache")


@dataclass
class ScaleOptions:
    """Lowest and highest possible rating, for data that do not contain them."""

    lowest: float | None = field(metadata=finite())
    """Minimum of the rating scale. Lower ratings are an error. With null, it is the minimum of all ratings outside the
    test rows."""
    highest: float | None = field(metadata=finite())
    """Maximum of the rating scale. Higher ratings are an error. With null, it is the maximum of all ratings outside the
    test rows."""

    def check_together(self) -> None:
        if self.lowest is not None and self.highest is not None and self.lowest >= self.highest:
            raise UserError(f"data.scale.highest must be above data.scale.lowest, got {self.highest} and {self.lowest}")


@dataclass
class UserOptions(TextOptions):
    """Optional table of users. Each column besides the ids is a feature."""

    key_prefix: ClassVar[str] = "data.users."

    path: str | None
    """File that describes the users. Rows that repeat a user must be identical. It may be the ratings file itself. If
    null, there are no user features."""
    user: str
    """Column of user ids in that file."""
    numeric: list[str]
    """Columns of numbers in that file, such as [age]. All other columns hold categories, several of which can be joined
    by |."""


@dataclass
class ItemOptions(TextOptions):
    """Optional table of items. Each column besides ids and titles is a feature."""

    key_prefix: ClassVar[str] = "data.items."

    path: str | None
    """File that describes the items. Rows that repeat an item must be identical. It may be the ratings file itself. If
    null, there are no item features, and recommendations show only ids."""
    item: str
    """Column of item ids in that file."""
    title: str | None
    """Column of titles in that file. With null, the items have no titles."""
    numeric: list[str]
    """Columns of numbers in that file, such as [year]. All other columns hold categories; | joins several of them."""


@dataclass
class CsvOptions(TextOptions, DataOptions):
    """Your own ratings, one per row: a CSV or other text file, JSON Lines, Parquet, Arrow or ORC, plain or compressed.

    The format is detected from the content of the file. The options of text do not apply to other formats.
    """

    name: ClassVar[str] = "csv"
    key_prefix: ClassVar[str] = "data."

    path: list[str]
    """Ratings file. For several files, give '[a.csv,b.csv]', a pattern such as ratings-*.csv, or a folder of part
    files."""
    columns: ColumnOptions
    """Columns of user, item, rating and timestamp. All other columns are ignored."""
    timestamp_format: str | None
    """Format of the timestamps: a unit of Unix time (s, ms, us, ns), or a pattern such as '%d.%m.%Y %H:%M'. With null,
    Unix time, ISO dates and integers such as 20060131 are detected."""
    unrated: list[float]
    """Values that mean unrated, such as [0,-1] or [99]. Their rows are dropped and counted."""
    scale: ScaleOptions
    """Rating scale, used to clip predictions. Set it if the lowest or the highest rating does not occur in the data."""
    users: UserOptions
    """Optional table of users. Its columns are features for model.user_features."""
    items: ItemOptions
    """Optional table of items. Its columns are features for model.item_features."""
    on_disk: bool
    """Whether the rows stay on disk, in files of data.cache that are mapped into memory, for tables larger than memory.
    They take 12 bytes of disk per row, and 20 more while a run trains. Requires optimizer=block_sgd, als or spark_als,
    and no timestamps."""

    frames = cast("Frames | None", None)
    """Data frames to read instead of files, set by `with_frames`. It has no annotation, so it is not an option."""

    def check_together(self) -> None:
        """Raise UserError for an invalid dialect, timestamp format or unrated value."""
        for options in (self, self.users, self.items):
            options.check_text()
        check_timestamp_format(self.timestamp_format, key="data.timestamp_format")
        for value in self.unrated:
            if not math.isfinite(value):
                raise UserError(f"data.unrated must hold finite numbers, got {value}")
        if self.on_disk:
            self._check_on_disk()

    def _check_on_disk(self) -> None:
        """Raise UserError for an option that needs all rows in memory."""
        actual_and_required: dict[str, tuple[object, object]] = {
            "columns.timestamp": (self.columns.timestamp, None),
            "duplicates": (self.duplicates.name, Duplicates.error.name),
            "min_ratings_per_user": (self.min_ratings_per_user, 0),
            "min_ratings_per_item": (self.min_ratings_per_item, 0),
            "min_rating": (self.min_rating, None),
            "unrated": (self.unrated, []),
        }
        for key, (value, required) in actual_and_required.items():
            if value != required:
                raise UserError(f"data.{key} must be {as_yaml(required)} with data.on_disk=true, got {as_yaml(value)}")
        if self.cache is None:
            raise UserError("data.cache must be a folder with data.on_disk=true, got null")

    def column_names(self) -> dict[str, str]:
        """Return the names of columns by role or, without a header, their positions."""
        return self.columns.by_role()

    @property
    def keeps_rows_on_disk(self) -> bool:
        return self.on_disk

    def with_frames(self, frames: Frames) -> CsvOptions:
        """Return these options with data frames instead of files."""
        if self.on_disk:
            raise UserError("data.on_disk must be false for data frames, which are in memory")
        options = replace(self)
        options.frames = frames
        return options

    def load(self) -> RatingTable:
        """Read the files of ratings, users and items, or load the table from the cache."""
        from ratinglab.reading.source_rows import DataFiles

        ratings = self._files()
        more = f" and {len(self.path) - 1} more" if len(self.path) > 1 else ""
        name = "data frame" if self.path == [FRAME] else f"{Path(self.path[0]).name}{more}"
        files = DataFiles(
            name=name,
            ratings=ratings,
            dialect=self.dialect(),
            columns=self.columns,
            users=self._feature_file("user", self.users, ratings),
            items=self._feature_file("item", self.items, ratings),
            timestamp_format=self.timestamp_format,
        )
        scale = self.scale.lowest, self.scale.highest
        return self._load(files, scale=scale, unrated=tuple(self.unrated))

    def _files(self) -> tuple[InputFile, ...]:
        """Find the ratings files, or convert the data frame."""
        from ratinglab.formats.frames import frame_file
        from ratinglab.formats.inputs import find_rating_files

        if self.frames is not None and self.frames.ratings is not None:
            return (frame_file(self.frames.ratings, name="ratings", columns=self.columns.by_role().values()),)
        if self.path == [FRAME]:
            raise _lost_frame("data.path", keyword="ratings")
        return find_rating_files(self.path)

    def _feature_file(
        self, side: SideName, options: UserOptions | ItemOptions, ratings: tuple[InputFile, ...]
    ) -> FeatureFile:
        """Find the file of users or items, or convert the data frame, if there is one."""
        from ratinglab.formats.frames import Frames, frame_file
        from ratinglab.formats.inputs import find_file
        from ratinglab.ratings.side_information import Origin
        from ratinglab.reading.feature_tables import FeatureFile, FeatureLayout

        key = f"{options.key_prefix}path"
        advice = f"set {key} to its file" if self.frames is None else f"pass it as {side}s="
        origin = Origin(side, place=key, advice=advice)
        if options.path is None:
            return FeatureFile(origin)
        frames = self.frames or Frames()
        frame = frames.users if side == "user" else frames.items
        if frame is None and options.path == FRAME:
            raise _lost_frame(key, keyword=f"{side}s")
        if frame is None:
            file = find_file(options.path, key=key)
            holds_ratings = any(file.is_same(other) for other in ratings)
        else:
            file = frame_file(frame, name=f"{side}s")
            holds_ratings = frame is frames.ratings
        layout = FeatureLayout(
            options.dialect(),
            id=getattr(options, side),
            title=options.title if isinstance(options, ItemOptions) else None,
            numeric=tuple(options.numeric),
            rating_columns=tuple(self.columns.by_role().values()) if holds_ratings else (),
        )
        return FeatureFile(origin, file, layout)

    def _cache_folder(self) -> Path | None:
        return None if self.frames is not None else super()._cache_folder()


def _lost_frame(key: str, *, keyword: str) -> UserError:
    """Make the error for resuming a run without its data frame, which is passed as the argument `keyword`."""
    frames = ", ".join(f"{name}=frame" for name in dict.fromkeys(("ratings", keyword)))
    return UserError(
        f"{key}: the run was trained on a data frame: resume it from Python, with "
        f"ratinglab.train('resume=FOLDER', {frames})"
    )


@dataclass
class DemoOptions(DataOptions):
    """100,000 synthetic ratings, written once and then read like any file."""

    name: ClassVar[str] = "demo"

    seed: int = field(metadata=valid_seed())
    """Seed of the synthetic table, independent of the training `seed`."""

    def load(self) -> RatingTable:
        """Generate the files if they are missing, and read them. Without a cache folder the files are temporary.

        Raises:
            UserError: the cache folder cannot be written, or a file in it is missing.
        """
        from ratinglab.datasets.demo import make_demo_files

        cache = self._cache_folder()
        if cache is None:
            with TemporaryDirectory() as folder:
                return self._load(make_demo_files(Path(folder), seed=self.seed))
        try:
            return self._load(make_demo_files(cache, seed=self.seed))
        except OSError as error:
            raise UserError(f"data.cache: {error.filename or cache}: {error.strerror}") from error


@dataclass
class MovieLensOptions(DataOptions):
    """A MovieLens data set, downloaded once into the cache folder."""

    name: str
    """Name of the data set, such as movielens_100k."""
    root: str | None
    """Folder or zip archive with the data set. With null, it is downloaded once into the cache folder."""
    address: str
    """Web folder of the archive, at the publisher or a mirror."""

    def check_together(self) -> None:
        """Raise UserError for an unknown data set."""
        if self.name not in MOVIELENS:
            hint = did_you_mean(self.name, MOVIELENS)
            raise UserError(f"data.name must be one of {', '.join(MOVIELENS)}, got {self.name}{hint}")

    def column_names(self) -> dict[str, str]:
        """Return the names of columns by role, {} for a data set whose files have no header."""
        from ratinglab.datasets.movielens import DATA_SETS

        data_set = DATA_SETS[self.name]
        return data_set.columns.by_role() if data_set.dialect.has_header else {}

    def load(self) -> RatingTable:
        """Find or download the files and read them, or load the table from the cache.

        Raises:
            UserError: the data set is missing and cannot be downloaded, or its files are invalid.
        """
        from ratinglab.datasets.movielens import find_data_files

        root = None if self.root is None else user_path(self.root, key="data.root")
        return self._load(find_data_files(self.name, root=root, cache=self._cache_folder(), address=self.address))
