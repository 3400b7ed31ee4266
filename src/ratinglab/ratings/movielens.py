"""The MovieLens archives: where they lie, how to know them, and what is in them.

F. M. Harper, J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.ratings.download import Archive, download
from ratinglab.ratings.inputs import DAMAGED, InputFile, TextForm
from ratinglab.ratings.items import ItemTexts, item_texts, read_items
from ratinglab.ratings.reading import Columns, RatingFiles
from ratinglab.ratings.text_tables import read_text_table, text_column

GENRES_100K = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western"
).split()
"""Of the last columns of u.item, in their order."""
LARGEST_MEMBER = 4 << 30
"""Bytes that a member of an archive may unpack to: four times the largest one that is known."""


@dataclass(frozen=True)
class DataSet:
    """A MovieLens archive.

    Attributes:
        archive: its name and how to know it.
        folder: the folder in it.
        ratings: the file of ratings in that folder.
        titles: the files of titles that it may have instead of one another: u.item, or a table with a header.
        form: how the file of ratings is written.
        header: whether it names its columns.
        columns: its columns.
        titles_form: how the file of titles is written.
        titles_columns: its columns of item ids, titles and genres.
        num_ratings: how many ratings its editions have, by which it is told from others of the same form.
    """

    archive: Archive
    folder: str
    ratings: str
    titles: tuple[str, ...]
    form: TextForm
    header: bool
    columns: Columns
    titles_form: TextForm
    titles_columns: tuple[str, str, str]
    num_ratings: tuple[int, ...]


UTF8, LATIN1 = "utf-8", "latin-1"
NAMED = Columns(user="userId", item="movieId", rating="rating", timestamp="timestamp")
BY_POSITION = Columns(user="1", item="2", rating="3", timestamp="4")


def _csv(archive: Archive, *num_ratings: int) -> DataSet:
    return DataSet(
        archive, archive.name.removesuffix(".zip"), "ratings.csv", ("movies.csv",),
        form=TextForm(",", UTF8), header=True, columns=NAMED,
        titles_form=TextForm(",", UTF8), titles_columns=("movieId", "title", "genres"),
        num_ratings=num_ratings,
    )  # fmt: skip


def _dat(archive: Archive, *, folder: str, encoding: str, num_ratings: int) -> DataSet:
    return DataSet(
        archive, folder, "ratings.dat", ("movies.dat",),
        form=TextForm("::", UTF8), header=False, columns=BY_POSITION,
        titles_form=TextForm("::", encoding), titles_columns=("1", "2", "3"),
        num_ratings=(num_ratings,),
    )  # fmt: skip


DATA_SETS = {
    "movielens_100k": DataSet(
        Archive("ml-100k.zip", "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"),
        "ml-100k", "u.data", ("u.item", "items.csv"),
        form=TextForm("\t", UTF8), header=False, columns=BY_POSITION,
        titles_form=TextForm(",", UTF8), titles_columns=("item_id", "title", "genres"),
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
    ),
    "movielens_10m": _dat(
        Archive("ml-10m.zip", "813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862"),
        folder="ml-10M100K", encoding=UTF8, num_ratings=10_000_054,
    ),
    "movielens_20m": _csv(
        Archive("ml-20m.zip", "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3"),
        20_000_263,
    ),
    "movielens_25m": _csv(
        Archive("ml-25m.zip", "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa"),
        25_000_095,
    ),
    # no digest of it was at hand: it is checked against the publisher's own, in the file beside it
    "movielens_32m": _csv(Archive("ml-32m.zip", None), 32_000_204),
}  # fmt: skip
"""By the name that data= takes."""


def locate(name: str, *, root: Path | None, cache: Path | None, address: str) -> tuple[InputFile, InputFile | None]:
    """The files of ratings and of titles of a data set: where the user has them, or in the cache, or downloaded there.

    A zip archive stays as it is: its members are read out of it, so that nothing is unpacked to the disk.

    Args:
        name: a key of DATA_SETS.
        root: the folder or zip archive that the user has; None: the cache.
        cache: the folder that downloads go to; None: nothing is downloaded.
        address: the folder on the web that the archive is in.

    Raises:
        UserError: the data set is not there, or cannot be downloaded.
    """
    data_set = DATA_SETS[name]
    if root is not None:
        return _in_place(data_set, root)
    if cache is None:
        raise UserError(f"data.cache must be a folder, to download {name} into, or data.root where it lies; got null")
    if (cache / data_set.folder / data_set.ratings).is_file():
        return _in_place(data_set, cache)
    path = cache / data_set.archive.name
    if not path.is_file():  # it has this name only when its digest was right
        download(data_set.archive, path, address=address)
    return _in_zip(data_set, path)


def _in_place(data_set: DataSet, root: Path) -> tuple[InputFile, InputFile | None]:
    if root.is_file():
        return _in_zip(data_set, root)
    if not root.exists():
        raise UserError(f"data.root: there is no {root}")
    for folder in (root, root / data_set.folder):
        if (folder / data_set.ratings).is_file():
            titles = (folder / name for name in data_set.titles)
            title = next((InputFile(path) for path in titles if path.is_file()), None)
            return InputFile(folder / data_set.ratings), title
    if (root / data_set.archive.name).is_file():
        return _in_zip(data_set, root / data_set.archive.name)
    raise UserError(
        f"data.root: {root} has neither {data_set.ratings} nor {data_set.archive.name}; without data.root the data "
        "set is downloaded"
    )


def _in_zip(data_set: DataSet, path: Path) -> tuple[InputFile, InputFile | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
    except DAMAGED as error:
        raise UserError(f"{path} is no zip archive, or is cut off: {error}") from error
    members = [f"{data_set.folder}/{name}" for name in (data_set.ratings, *data_set.titles)]
    if members[0] not in sizes:
        raise UserError(f"{path} has no {members[0]}; it has {', '.join(sorted(sizes)[:10])}")
    found = [member for member in members if member in sizes]
    for member in found:
        if sizes[member] > LARGEST_MEMBER:
            raise UserError(f"{path}: {member} would unpack to {sizes[member]:,} bytes, more than {LARGEST_MEMBER:,}")
    return InputFile(path, found[0]), InputFile(path, found[1]) if len(found) > 1 else None


def rating_files(name: str, ratings: InputFile) -> RatingFiles:
    """How the file of ratings of a data set is read."""
    data_set = DATA_SETS[name]
    return RatingFiles((ratings,), form=data_set.form, header=data_set.header, columns=data_set.columns,
                       num_rows=data_set.num_ratings)  # fmt: skip


def read_titles(name: str, titles: InputFile) -> ItemTexts:
    """The titles and genres of a data set.

    Raises:
        UserError: the file is not as it should be.
    """
    data_set = DATA_SETS[name]
    if str(titles).endswith("u.item"):
        return _read_u_item(titles)
    item, title, genres = data_set.titles_columns
    header = not item.isdigit()
    return read_items(titles, data_set.titles_form, header=header, item=item, title=title, genres=genres)


def _read_u_item(file: InputFile) -> ItemTexts:
    """u.item: id | title | two dates | address | a flag a genre."""
    table = read_text_table(file, TextForm("|", LATIN1), header=False)

    def column(number: int) -> list[str]:
        return text_column(table, str(number), key="u.item", file=file, header=False)

    flags = zip(*(column(number) for number in range(6, 6 + len(GENRES_100K))), strict=True)
    genres = ["|".join(name for name, flag in zip(GENRES_100K, row, strict=True) if flag == "1") for row in flags]
    return item_texts(file, column(1), column(2), genres)
