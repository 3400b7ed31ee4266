"""Options of the commands. Imports nothing slow: the command line reads this module first."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ratinglab.datasets.sources import DataOptions
from ratinglab.errors import UserError, require
from ratinglab.evaluation.list_options import OrderOptions, RankingOptions, UnknownUsers
from ratinglab.formats.text_options import TextOptions, check_timestamp_format
from ratinglab.options import at_least


@dataclass
class RunOptions:
    """Options of commands that use a run."""

    run: str
    """Folder of the run, or its name. latest is the run below outputs/ that finished last. best is the run with the
    best validation metric among the runs with the data, split and monitor of the latest one. FOLDER/latest searches
    another folder."""


@dataclass
class EvaluateOptions(RunOptions):
    """Options of evaluation: the run, and the lists to measure."""

    ranking: RankingOptions
    """Recommendation lists to measure, and to compare with lists of the most popular items."""


@dataclass
class InspectOptions:
    """Options for describing a table of ratings."""

    data: DataOptions
    """Ratings to describe."""
    figure: str | None
    """File for a figure of the data: .png, .pdf or .svg. With null, none is drawn."""


@dataclass
class FoldInOptions(TextOptions):
    """Options of commands that fold in users, items and ratings."""

    ratings: str | None
    """Ratings that the run was not trained on: {ITEM: RATING, …} for one user, with ids or titles as ITEM, or a file
    with one rating per row. Users and items that the run does not know are folded in without training. Ratings of known
    users are added to their training ratings, and replace those of the same items. With null, there are none."""
    user_features: str | None
    """Features of new users that the model uses: {NAME: VALUE, …} for one user, or a file with one user per row. With
    null, there are none."""
    item_features: str | None
    """File with the features and the titles of new items. With null, there are none."""

    @property
    def folds_in(self) -> bool:
        """Whether there is anything to fold in."""
        return any(file is not None for file in (self.ratings, self.user_features, self.item_features))


@dataclass
class RatingColumns:
    """Names of the columns of user ids, item ids and ratings."""

    user: str | None
    """Column of user ids. With null, it is user_id or, failing that, the column in the run's own data."""
    item: str | None
    """Column of item ids. With null, it is item_id or, failing that, the column in the run's own data."""
    rating: str | None
    """Column of the ratings in the file `ratings`. With null, it is rating or, failing that, the column in the run's
    own data."""

    def by_role(self) -> dict[str, str | None]:
        """Return the names of the columns, by role."""
        return {"user": self.user, "item": self.item, "rating": self.rating}


@dataclass
class ItemColumns:
    """Name of the genre column."""

    genres: str
    """Column of genres, or of other categories, in the data's table of items."""


@dataclass
class RecommendColumns(ItemColumns, RatingColumns):
    """Names of the columns of user ids, item ids, ratings and genres."""


@dataclass
class RecommendOptions(RunOptions, FoldInOptions):
    """Options for recommending items."""

    user: str | None
    """User id, as in the data. With null, the lists are for the users in `ratings` or in the file `users`, if one of
    them is given, and otherwise for all users."""
    users: str | None
    """File with one user per row: text, JSON Lines, Parquet, Arrow or ORC. With null, see `user`; all users are then
    the users with training ratings or, with unknown=baseline, every user in the data."""
    items: str | None
    """File with one candidate item per row. With null, all items are candidates. Only items that have training ratings
    or are folded in are recommended."""
    genres: list[str]
    """Recommend only items with at least one of these genres, such as [Comedy,Drama]. [] allows all items."""
    exclude_seen: bool
    """Whether to leave out items that the user has rated."""
    unknown: UnknownUsers
    """How to treat users without training ratings. error stops with an error or, when recommending to all users, skips
    them. baseline gives all of them the same list: the bias baseline's or, with a ranking model, the most popular
    items."""
    output: str | None
    """File to write, one recommendation per row. With null, the list of one user is printed. The extension
    decides the format: .csv, .tsv, .jsonl, .parquet, .arrow or .feather. Any other extension gives CSV. Add .gz, .bz2,
    .xz or .zst to compress text or JSON Lines."""
    k: int = field(metadata=at_least(1))
    """Number of items to recommend per user."""
    ranking: OrderOptions
    """Order of the lists."""
    why: bool
    """Whether to show the ratings of the user that most raised or lowered each item's prediction."""
    columns: RecommendColumns
    """Columns of the files."""

    def check_together(self) -> None:
        """Raise UserError for an unknown separator or encoding, or if options conflict."""
        self.check_text()
        if self.user is not None and not self.user.strip():
            raise UserError("user must not be blank")
        if self.user is not None and self.users is not None:
            raise UserError("set user=ID or users=FILE, not both")
        if self.users is not None and self.users.isalnum() and not Path(self.users).exists():
            raise UserError(f"users: there is no file {self.users}; user={self.users} names one user")
        if self.users is not None and self.folds_in:
            raise UserError("leave out users: with ratings or features, their users get the lists")
        names_users = any(value is not None for value in (self.user, self.users, self.ratings, self.user_features))
        if self.output is None and not names_users:
            raise UserError("set output=FILE to recommend to all users, or user=ID for one; got neither")


@dataclass
class SimilarOptions(RunOptions):
    """Options for finding similar items."""

    item: str
    """Id or title of the item. In a title, case is ignored, the article may come first or last, and the year may be
    left out: the matrix finds Matrix, The (1999)."""
    genres: list[str]
    """Find only items with at least one of these genres, such as [Comedy,Drama]. [] allows all items."""
    output: str | None
    """File to write, one item per row. With null, the list is only printed. The extension decides the format:
    .csv, .tsv, .jsonl, .parquet, .arrow or .feather. Any other extension gives CSV. Add .gz, .bz2, .xz or .zst to
    compress text or JSON Lines."""
    k: int = field(metadata=at_least(1))
    """Number of items to find."""
    columns: ItemColumns
    """Columns of item features."""

    def check_together(self) -> None:
        """Raise UserError if the item is blank."""
        if not self.item.strip():
            raise UserError("item must not be blank")


@dataclass
class PairColumns(RatingColumns):
    """Names of the columns in the files of pairs and of ratings."""

    timestamp: str | None
    """Column of the timestamps, for a model that uses days. With null, it is the column in the run's own data. If the
    file does not have that column, or ratings or features are folded in, predictions are for each user's last day in
    training."""


@dataclass
class PredictOptions(RunOptions, FoldInOptions):
    """Options for predicting the ratings of the pairs in a file."""

    input: str
    """File with one user-item pair per row: text, JSON Lines, Parquet, Arrow or ORC. It can be larger than memory. In a
    text file, the separator is detected if the header contains only one candidate besides spaces. The user column may
    be missing if `ratings` belong to a single new user."""
    output: str | None
    """File to write: the rows of the input, with the columns `prediction`, `standard_deviation` (for a run of
    optimizer=gibbs, or if anything is folded in) and `basis`: known, user_unknown, item_unknown, both_unknown or
    folded_in. With null, the first 20 rows are printed. The extension decides the format: .csv, .tsv, .jsonl, .parquet,
    .arrow or .feather. Any other extension, or the extension of a text input, gives text with the input's separator and
    encoding, or CSV if the input is not text. Add .gz, .bz2, .xz or .zst to compress text or JSON Lines."""
    timestamp_format: str | None
    """Format of the timestamps, as in data.timestamp_format. With null, it is the format in the run's own data if the
    column has the same name. Otherwise it is detected."""
    columns: PairColumns
    """Columns of the input."""

    def check_together(self) -> None:
        """Raise UserError for an unknown separator, encoding or timestamp format, or if options conflict."""
        self.check_text()
        check_timestamp_format(self.timestamp_format, key="timestamp_format")
        if self.folds_in and self.columns.timestamp is not None:
            raise UserError("columns.timestamp must be null with ratings: users folded in are the same on all days")


class ExportFormat(Enum):
    """Formats of an exported run."""

    torch = "torch"
    onnx = "onnx"
    numpy = "numpy"
    parquet = "parquet"


ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""Packages of the extra `export`."""


@dataclass
class ExportOptions(RunOptions):
    """Options for exporting a run."""

    format: ExportFormat
    """Format. torch (a torch.export program) and onnx hold the whole model. numpy (.npz) and parquet hold the factors
    and biases of a model that has factors."""
    output: str | None
    """Folder to write, new or empty. With null, it is RUN-FORMAT, next to the run."""

    def check_together(self) -> None:
        """Raise UserError if a package is missing."""
        if self.format is ExportFormat.onnx:
            require(*ONNX_PACKAGES, extra="export", needed_by="format=onnx")
