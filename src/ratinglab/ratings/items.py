"""Titles and genres of items."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.ratings.ids import UNKNOWN, IdMap
from ratinglab.ratings.inputs import InputFile, TextForm
from ratinglab.ratings.text_tables import read_text_table, text_column

NO_GENRES = "(no genres listed)"


class ItemTexts(NamedTuple):
    """What a file tells of its items, by its own rows: their ids, titles and, where it has them, genres."""

    item_id: list[str]
    title: list[str]
    genres: list[str] | None

    def titles_of(self, item_ids: IdMap) -> NDArray[np.object_]:
        """(num_items,) the title of each item index, empty where there is none."""
        return self._by_index(self.title, item_ids)

    def genres_of(self, item_ids: IdMap) -> NDArray[np.object_] | None:
        """(num_items,) the genres of each item index, such as `Comedy|Drama`, empty where there are none."""
        return None if self.genres is None else self._by_index(self.genres, item_ids)

    def unmatched(self, item_ids: IdMap) -> list[str]:
        """A note where the titles are of no item that was rated: the wrong file, or the wrong column."""
        if (item_ids.index_of(self.item_id) != UNKNOWN).any():
            return []
        example = f", such as {self.item_id[0]!r}" if self.item_id else ""
        return [f"none of the {len(self.item_id):,} items that have a title is rated{example}"]

    def _by_index(self, texts: list[str], item_ids: IdMap) -> NDArray[np.object_]:
        item = item_ids.index_of(self.item_id)
        found = np.full(len(item_ids), "", dtype=object)
        found[item[item != UNKNOWN]] = np.array(texts, dtype=object)[item != UNKNOWN]
        return found


def pairs_with_genres(genres: NDArray[np.object_]) -> tuple[NDArray[np.int32], NDArray[np.int32], list[str]]:
    """Pairs of an item and a genre that it has: (E,) int32 each; and the genres' names, sorted.

    Args:
        genres: (num_items,) text such as `Comedy|Drama`; MovieLens's `(no genres listed)` is none.
    """
    of_items = [[] if text in ("", NO_GENRES) else sorted(set(text.split("|"))) for text in genres]
    names = sorted({name for of_item in of_items for name in of_item})
    number = {name: index for index, name in enumerate(names)}
    item = np.repeat(np.arange(len(of_items), dtype=np.int32), [len(of_item) for of_item in of_items])
    return item, np.array([number[name] for of_item in of_items for name in of_item], dtype=np.int32), names


def read_items(
    file: InputFile, form: TextForm, *, header: bool, item: str, title: str, genres: str | None
) -> ItemTexts:
    """The titles and, where `genres` names a column, the genres of a file.

    Raises:
        UserError: the file or a column is wrong, or two rows are of one item.
    """
    table = read_text_table(file, form, header=header)
    columns = {"item": item, "title": title} | ({} if genres is None else {"genres": genres})
    texts = {
        role: text_column(table, name, key=f"data.titles.{role}", file=file, header=header)
        for role, name in columns.items()
    }
    return item_texts(file, texts["item"], texts["title"], texts.get("genres"))


def item_texts(file: InputFile, item_id: list[str], title: list[str], genres: list[str] | None) -> ItemTexts:
    """The texts of a file, each item once.

    Raises:
        UserError: the file has two rows for an item.
    """
    repeated = [item for item, count in Counter(item_id).items() if count > 1]
    if repeated:
        raise UserError(f"{file} has more than one row for item {repeated[0]}")
    return ItemTexts(item_id, title, genres)
