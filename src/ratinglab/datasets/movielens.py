"""The MovieLens data sets: their archives, and the files in them.

F. M. Harper, J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from ratinglab.datasets.download import download
from ratinglab.errors import UserError
from ratinglab.formats.inputs import DAMAGED, InputFile
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.ratings.side_information import Origin
from ratinglab.reading.feature_tables import FeatureFile, FeatureLayout
from ratinglab.reading.source_rows import DataFiles
from ratinglab.sides import SideName

GENRES_100K = tuple(
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western".split()
)
"""The last columns of u.item, in order."""
MAX_MEMBER_BYTES = 4 << 30
"""Maximum decompressed bytes of a member of an archive: four times the largest known member."""
COMMA = TextDialect(",", "utf-8")
"""Dialect of CSV files with a header."""
NAMED_COLUMNS = ColumnOptions(user="userId", item="movieId", rating="rating", timestamp="timestamp")
"""Columns of ratings.csv."""
NUMBERED_COLUMNS = ColumnOptions(user="1", item="2", rating="3", timestamp="4")
"""Columns of ratings files without a header."""


@dataclass(frozen=True)
class DataSet:
    """A MovieLens data set. By default its files are CSV.

    Attributes:
        archive: name of the zip archive.
        sha256: SHA-256 of the archive, or None if the publisher provides an MD5.
        folder: folder in the archive.
        num_ratings: number of ratings of each edition, to recognize other data sets in the same dialect.
        ratings: name of the ratings file; `dialect` and `columns` describe it.
        items: layouts of the possible files of titles and genres, by name. The first file that exists is read.
        users: layouts of the possible files of users, by name.
    """

    archive: str
    sha256: str | None
    folder: str
    num_ratings: tuple[int, ...]
    ratings: str = "ratings.csv"
    dialect: TextDialect = COMMA
    columns: ColumnOptions = field(default_factory=lambda: NAMED_COLUMNS)
    items: dict[str, FeatureLayout] = field(
        default_factory=lambda: {"movies.csv": FeatureLayout(COMMA, id="movieId", title="title")}
    )
    users: dict[str, FeatureLayout] = field(default_factory=dict)


def _headerless(separator: str, encoding: str = "utf-8") -> TextDialect:
    return TextDialect(separator, encoding, has_header=False)


def _dat_files(
    archive: str, sha256: str, folder: str, num_ratings: int, *, encoding: str, users: dict[str, FeatureLayout]
) -> DataSet:
    """Describe a data set of .dat files, whose titles are in this encoding."""
    items = FeatureLayout(
        _headerless("::", encoding), id="item_id", title="title", names=("item_id", "title", "genres")
    )
    return DataSet(
        archive, sha256, folder, (num_ratings,), "ratings.dat", _headerless("::"), NUMBERED_COLUMNS,
        {"movies.dat": items}, users,
    )  # fmt: skip


DATA_SETS = {
    "movielens_100k": DataSet(
        "ml-100k.zip", "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229", "ml-100k", (100_000,),
        "u.data", _headerless("\t"), columns=NUMBERED_COLUMNS,
        items={
            "u.item": FeatureLayout(
                _headerless("|", "latin-1"), id="item_id", title="title", flags=GENRES_100K,
                names=("item_id", "title", "release_date", "video_release_date", "address", *GENRES_100K),
            ),
            "items.csv": FeatureLayout(COMMA, id="item_id", title="title"),
        },
        users={
            "u.user": FeatureLayout(
                _headerless("|", "latin-1"), id="user_id", numeric=("age",),
                names=("user_id", "age", "gender", "occupation", "zip_code"),
            ),
            "users.csv": FeatureLayout(COMMA, id="user_id", numeric=("age",), may_lack_numeric=True),
        },
    ),
    "movielens_latest_small": DataSet(
        "ml-latest-small.zip", "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436", "ml-latest-small",
        (100_836, 100_004),  # September 2018, October 2016
    ),
    "movielens_1m": _dat_files(
        "ml-1m.zip", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20", "ml-1m", 1_000_209,
        encoding="latin-1",
        users={
            "users.dat": FeatureLayout(
                _headerless("::", "latin-1"), id="user_id",
                names=("user_id", "gender", "age_group", "occupation", "zip_code"),  # the ages are codes of age groups
            ),
        },
    ),
    "movielens_10m": _dat_files(
        "ml-10m.zip", "813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862", "ml-10M100K", 10_000_054,
        encoding="utf-8", users={},
    ),
    "movielens_20m": DataSet(
        "ml-20m.zip", "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3", "ml-20m", (20_000_263,)
    ),
    "movielens_25m": DataSet(
        "ml-25m.zip", "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa", "ml-25m", (25_000_095,)
    ),
    "movielens_32m": DataSet("ml-32m.zip", None, "ml-32m", (32_000_204,)),
}  # fmt: skip
"""Data sets by the name used in data=NAME."""


def find_data_files(name: str, *, root: Path | None, cache: Path | None, address: str) -> DataFiles:
    """Find a data set's files in the user's folder or archive, or in the cache, and download the data set if necessary.

    Members of a zip archive are read in place, without extracting them. `root` is the user's folder or archive. With
    None, the data set is in the folder `cache`, or is downloaded into it. With `cache` None, downloads are an error.

    Raises:
        UserError: the data set is missing, or cannot be downloaded.
    """
    data_set = DATA_SETS[name]
    if root is None:
        if cache is None:
            raise UserError(f"set data.cache to a folder to download {name}, or data.root to an existing copy")
        root = cache / data_set.folder
        if not (root / data_set.ratings).is_file():
            root = cache / data_set.archive
            if not root.is_file():  # the archive gets this name only after its digest is verified
                download(root, address=address, sha256=data_set.sha256)
    files = _find_files(data_set, root)
    return DataFiles(
        name=name,
        ratings=(files[data_set.ratings],),
        dialect=data_set.dialect,
        columns=data_set.columns,
        users=_feature_file(name, "user", data_set.users, files),
        items=_feature_file(name, "item", data_set.items, files),
        num_ratings=data_set.num_ratings,
    )


def _feature_file(
    name: str, side: SideName, layouts: dict[str, FeatureLayout], files: dict[str, InputFile]
) -> FeatureFile:
    for file_name, layout in layouts.items():
        if file_name in files:
            return FeatureFile(Origin(side, file_name, advice=""), files[file_name], layout)
    file_names = " or ".join(layouts)
    advice = f"put {file_names} next to {DATA_SETS[name].ratings}" if layouts else f"{name} has none"
    return FeatureFile(Origin(side, file_names, advice))


def _find_files(data_set: DataSet, root: Path) -> dict[str, InputFile]:
    for folder in (root, root / data_set.folder):
        if (folder / data_set.ratings).is_file():
            return {name: InputFile(folder / name) for name in _file_names(data_set) if (folder / name).is_file()}
    for path in (root, root / data_set.archive):
        if path.is_file():
            return _find_members(data_set, path)
    if not root.exists():
        raise UserError(f"data.root: there is no folder or archive {root}")
    raise UserError(
        f"data.root: {root} has neither {data_set.ratings} nor {data_set.archive}; without data.root the data "
        "set is downloaded"
    )


def _find_members(data_set: DataSet, path: Path) -> dict[str, InputFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
    except DAMAGED as error:
        raise UserError(f"{path} is not a zip archive, or is cut off: {error}") from error
    members = {name: f"{data_set.folder}/{name}" for name in _file_names(data_set)}
    present = {name: member for name, member in members.items() if member in sizes}
    if data_set.ratings not in present:
        raise UserError(f"{path} has no {members[data_set.ratings]}; it has {', '.join(sorted(sizes)[:10])}")
    for member in present.values():
        if sizes[member] > MAX_MEMBER_BYTES:
            raise UserError(f"{path}: {member} would unpack to {sizes[member]:,} bytes, more than {MAX_MEMBER_BYTES:,}")
    return {name: InputFile(path, member) for name, member in present.items()}


def _file_names(data_set: DataSet) -> list[str]:
    return [data_set.ratings, *data_set.items, *data_set.users]
