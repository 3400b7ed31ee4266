"""The MovieLens archives: location, identification and contents.

F. M. Harper, J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ratinglab.errors import UserError
from ratinglab.ratings.download import Archive, download
from ratinglab.ratings.feature_tables import FeatureFile, FeatureTable, read_features
from ratinglab.ratings.inputs import DAMAGED, InputFile, TextForm
from ratinglab.ratings.reading import Columns, RatingFiles
from ratinglab.ratings.side_information import Origin

GENRES_100K = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western"
).split()
"""The last columns of u.item, in order."""
LARGEST_MEMBER = 4 << 30
"""Maximum decompressed bytes of an archive's member: four times the largest known one."""


class SideFile(NamedTuple):
    """Format of a file of users or items in an archive.

    Attributes:
        name: file name in the folder of the ratings.
        form: separator and encoding.
        id: name of the id column.
        title: name of the title column; None without one.
        numeric: numeric columns, if present.
        names: names of the columns; None: the first line names them.
    """

    name: str
    form: TextForm
    id: str
    title: str | None = None
    numeric: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class DataSet:
    """A MovieLens archive.

    Attributes:
        archive: name and digest.
        folder: folder in the archive.
        ratings: name of the ratings file in that folder.
        form: separator and encoding of the ratings file.
        header: whether the ratings file names its columns.
        columns: columns of the ratings file.
        items: candidate files of titles and genres; the first existing one is read.
        users: candidate files of users; the first existing one is read.
        num_ratings: numbers of ratings of its editions, which tell it from data sets of the same form.
    """

    archive: Archive
    folder: str
    ratings: str
    form: TextForm
    header: bool
    columns: Columns
    items: tuple[SideFile, ...]
    users: tuple[SideFile, ...]
    num_ratings: tuple[int, ...]


UTF8, LATIN1 = "utf-8", "latin-1"
NAMED = Columns(user="userId", item="movieId", rating="rating", timestamp="timestamp")
BY_POSITION = Columns(user="1", item="2", rating="3", timestamp="4")


def _csv(archive: Archive, *num_ratings: int) -> DataSet:
    return DataSet(
        archive, archive.name.removesuffix(".zip"), "ratings.csv",
        form=TextForm(",", UTF8), header=True, columns=NAMED,
        items=(SideFile("movies.csv", TextForm(",", UTF8), id="movieId", title="title"),),
        users=(),
        num_ratings=num_ratings,
    )  # fmt: skip


def _dat(archive: Archive, *, folder: str, encoding: str, users: tuple[SideFile, ...], num_ratings: int) -> DataSet:
    names = ("item_id", "title", "genres")
    return DataSet(
        archive, folder, "ratings.dat",
        form=TextForm("::", UTF8), header=False, columns=BY_POSITION,
        items=(SideFile("movies.dat", TextForm("::", encoding), id="item_id", title="title", names=names),),
        users=users,
        num_ratings=(num_ratings,),
    )  # fmt: skip


DATA_SETS = {
    "movielens_100k": DataSet(
        Archive("ml-100k.zip", "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"),
        "ml-100k", "u.data",
        form=TextForm("\t", UTF8), header=False, columns=BY_POSITION,
        items=(
            SideFile("u.item", TextForm("|", LATIN1), id="item_id", title="title",
                     names=("item_id", "title", "release_date", "video_release_date", "address", *GENRES_100K)),
            SideFile("items.csv", TextForm(",", UTF8), id="item_id", title="title"),
        ),
        users=(
            SideFile("u.user", TextForm("|", LATIN1), id="user_id", numeric=("age",),
                     names=("user_id", "age", "gender", "occupation", "zip_code")),
            SideFile("users.csv", TextForm(",", UTF8), id="user_id", numeric=("age",)),
        ),
        num_ratings=(100_000,),
    ),
    "movielens_latest_small": _csv(
        Archive("ml-latest-small.zip", "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436"),
        100_836,  # of September 2018
        100_004,  # of October 2016
    ),
    "movielens_1m": _dat(
        Archive("ml-1m.zip", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"),
        folder="ml-1m", encoding=LATIN1, num_ratings=1_000_209,
        users=(
            SideFile("users.dat", TextForm("::", LATIN1), id="user_id",
                     names=("user_id", "gender", "age_group", "occupation", "zip_code")),  # ages are codes of groups
        ),
    ),
    "movielens_10m": _dat(
        Archive("ml-10m.zip", "813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862"),
        folder="ml-10M100K", encoding=UTF8, num_ratings=10_000_054, users=(),
    ),
    "movielens_20m": _csv(
        Archive("ml-20m.zip", "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3"),
        20_000_263,
    ),
    "movielens_25m": _csv(
        Archive("ml-25m.zip", "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa"),
        25_000_095,
    ),
    # no known digest: `download` checks it against the publisher's own, in NAME.md5
    "movielens_32m": _csv(Archive("ml-32m.zip", None), 32_000_204),
}  # fmt: skip
"""Data sets by the name used in data=NAME."""


class Found(NamedTuple):
    """Files of a data set; users or items are None without a file.

    Attributes:
        ratings: the ratings file.
        users: the file of users and its format.
        items: the file of titles and genres and its format.
        origins: where the user and item tables come from, for messages.
    """

    ratings: InputFile
    users: FeatureFile | None
    items: FeatureFile | None
    origins: tuple[Origin, Origin]


def locate(name: str, *, root: Path | None, cache: Path | None, address: str) -> Found:
    """Find the files of a data set in the user's folder or archive, or in the cache, after downloading if necessary.

    Reads members straight from a zip archive and extracts nothing to disk.

    Args:
        name: a key of DATA_SETS.
        root: the user's folder or zip archive; None: use the cache.
        cache: folder for downloads; None: no downloads.
        address: web folder of the archive.

    Raises:
        UserError: the data set is missing, or cannot be downloaded.
    """
    data_set = DATA_SETS[name]
    if root is not None:
        files = _in_place(data_set, root)
    elif cache is None:
        raise UserError(f"data.cache must be a folder to download {name} into, or data.root its place; got null")
    elif (cache / data_set.folder / data_set.ratings).is_file():
        files = _in_place(data_set, cache)
    else:
        path = cache / data_set.archive.name
        if not path.is_file():  # it gets this name only after its digest is verified
            download(data_set.archive, path, address=address)
        files = _in_zip(data_set, path)
    users, user_origin = _feature_file(name, "user", data_set.users, files)
    items, item_origin = _feature_file(name, "item", data_set.items, files)
    return Found(files[data_set.ratings], users, items, (user_origin, item_origin))


def _feature_file(
    name: str, noun: str, candidates: tuple[SideFile, ...], files: dict[str, InputFile]
) -> tuple[FeatureFile | None, Origin]:
    """The first existing file of users or items, and its origin."""
    side = next((side for side in candidates if side.name in files), None)
    if side is None:
        wanted = " or ".join(side.name for side in candidates)
        advice = f"put {wanted} beside {DATA_SETS[name].ratings}" if candidates else f"{name} has none"
        return None, Origin(noun, wanted, advice)
    origin = Origin(noun, side.name, advice="")
    found = FeatureFile(
        files[side.name],
        side.form,
        origin=origin,
        key={"user": "data.users", "item": "data.titles"}[noun],
        id=side.id,
        title=side.title,
        numeric=side.numeric,
        names=side.names,
        may_lack_numeric=True,
    )
    return found, origin


def _in_place(data_set: DataSet, root: Path) -> dict[str, InputFile]:
    """Find the data set's files in a folder or archive, by name."""
    if root.is_file():
        return _in_zip(data_set, root)
    if not root.exists():
        raise UserError(f"data.root: there is no {root}")
    for folder in (root, root / data_set.folder):
        if (folder / data_set.ratings).is_file():
            return {name: InputFile(folder / name) for name in _names(data_set) if (folder / name).is_file()}
    if (root / data_set.archive.name).is_file():
        return _in_zip(data_set, root / data_set.archive.name)
    raise UserError(
        f"data.root: {root} has neither {data_set.ratings} nor {data_set.archive.name}; without data.root the data "
        "set is downloaded"
    )


def _in_zip(data_set: DataSet, path: Path) -> dict[str, InputFile]:
    """Find the data set's members in a zip archive, by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
    except DAMAGED as error:
        raise UserError(f"{path} is not a zip archive, or is cut off: {error}") from error
    members = {name: f"{data_set.folder}/{name}" for name in _names(data_set)}
    if members[data_set.ratings] not in sizes:
        raise UserError(f"{path} has no {members[data_set.ratings]}; it has {', '.join(sorted(sizes)[:10])}")
    found = {name: member for name, member in members.items() if member in sizes}
    for member in found.values():
        if sizes[member] > LARGEST_MEMBER:
            raise UserError(f"{path}: {member} would unpack to {sizes[member]:,} bytes, more than {LARGEST_MEMBER:,}")
    return {name: InputFile(path, member) for name, member in found.items()}


def _names(data_set: DataSet) -> list[str]:
    return [data_set.ratings, *(side.name for side in (*data_set.items, *data_set.users))]


def rating_files(name: str, ratings: InputFile) -> RatingFiles:
    """Describe how to read the ratings file of a data set."""
    data_set = DATA_SETS[name]
    return RatingFiles((ratings,), form=data_set.form, header=data_set.header, columns=data_set.columns,
                       num_rows=data_set.num_ratings)  # fmt: skip


def read_items(source: FeatureFile) -> FeatureTable:
    """Read the titles and genres of a data set. Converts u.item, which has one flag per genre.

    Raises:
        UserError: the file is invalid.
    """
    table = read_features(source)
    if source.names is None or GENRES_100K[0] not in source.names:
        return table
    flags = zip(*(table.columns[genre] for genre in GENRES_100K), strict=True)
    genres = ["|".join(name for name, flag in zip(GENRES_100K, row, strict=True) if flag == "1") for row in flags]
    return replace(table, columns={"genres": np.array(genres, dtype=object)})
