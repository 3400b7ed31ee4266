"""Find items by ids or titles as people type them."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.ratings.ids import UNKNOWN, IdMap

TITLE_REPLACEMENTS = {
    "ß": "ss",
    "’": "'",
    r"[\s\pZ]+": " ",
    r"^([^()]+), (the|an?|l[aei]s?|l'|der|die|das|el|los|il|une?)( \(.*)?$": r"\2 \1\3",  # matrix, the (1999)
    "^l' ": "l'",
}
"""Patterns to replace in lower-case titles, in this order. The fourth moves an article to the front."""
FINAL_YEAR = r" \(\d{4}\)$"
FINAL_BRACKETS = r"( \([^()]*\))+$"
"""Other titles and the year at the end of a title, as in `amelie (fabuleux destin d'amélie poulain, le) (2001)`."""
MAX_LISTED = 3
"""Maximum number of items listed in the message that several items have a title."""
MAX_COMPARED_TITLES = 200
"""Maximum number of titles to compare letter by letter with an unknown title."""
ItemsByTitle = dict[str, list[int]]
"""Item indices by title."""


class ItemNames:
    """The ids and titles of all items."""

    def __init__(self, ids: IdMap, titles: NDArray[np.object_] | None) -> None:
        """Name items by ids and titles: (num_items,) text by index, empty if unknown. None if there are no titles."""
        self._ids = ids
        self._titles = titles

    def find(
        self, names: Sequence[int | str], *, place: Callable[[int], str], may_be_new: bool = False
    ) -> NDArray[np.int32]:
        """Find the index of each item by its id or title: (B,) int32.

        Tries, in this order: the id, by the rules of `IdMap.index_of`; the exact title; the title regardless of case,
        spaces and the place of its article (`the matrix (1999)` finds `Matrix, The (1999)`); the title without its
        year; and the title without all brackets at its end.

        Args:
            names: (B,) ids or titles.
            place: returns the place of a name in messages.
            may_be_new: whether unknown names are new ids (UNKNOWN). If all ids are integers, integer names are then not
                looked up as titles.

        Raises:
            UserError: a name is missing, or unknown and `may_be_new` is false; or several items have this title.
        """
        queries = pd.Series(names, dtype=object).to_numpy()
        is_missing = pd.isna(queries)
        if is_missing.any():
            row = int(is_missing.argmax())
            raise UserError(f"{place(row)}: an item's id or title must not be missing, got {queries[row]}")
        index = self._ids.index_of(queries)
        for row in np.flatnonzero(index == UNKNOWN).tolist():
            item = self._find_title(queries[row], place=place(row), ids_only=may_be_new and self._ids.are_integers)
            if item is not None:
                index[row] = item
            elif not may_be_new:
                raise UserError(f"{place(row)}: {self._unknown_message(queries[row])}")
        return index

    def _find_title(self, name: object, *, place: str, ids_only: bool) -> int | None:
        if self._titles is None or not isinstance(name, str) or (ids_only and re.fullmatch(r"[+-]?\d+(\.0*)?", name)):
            return None
        plain = normalize_titles([name])[0].as_py()
        by_exact_title, *by_plain_titles = self._items_by_title
        for matches in (by_exact_title.get(name, []), *(items.get(plain, []) for items in by_plain_titles)):
            if len(matches) > 1:
                raise UserError(
                    f"{place}: {len(matches):,} items have the title {name!r}: {self._join_names(matches)}; give the id"
                )
            if matches:
                return matches[0]
        return None

    def _unknown_message(self, name: object) -> str:
        if self._titles is None or not isinstance(name, str):
            nearest = self._ids.did_you_mean(str(name), among=len(self._ids))
            may_be_title = isinstance(name, str) and not name.strip().isdigit()
            reason = " (this run has no titles)" if may_be_title else ""
            return f"no item has the id {str(name)!r}{nearest or reason}"
        plain = normalize_titles([name])[0].as_py()
        return f"no item has the id or the title {name!r}{self._did_you_mean(name, plain)}"

    def _join_names(self, items: list[int]) -> str:
        names = [self.name_of(item) for item in items[:MAX_LISTED]]
        if len(items) > MAX_LISTED:
            names.append(f"{len(items) - MAX_LISTED:,} more")
        return f"{', '.join(names[:-1])} and {names[-1]}"

    def name_of(self, item: int) -> str:
        """Return an item's title and id, such as `Toy Story (1995) (id 1)`, or `id 1` if it has no title."""
        title, name = self._title_of(item), f"id {self._ids.ids[item]}"
        return f"{title} ({name})" if title else name

    def _title_of(self, item: int) -> str:
        return "" if self._titles is None else str(self._titles[item])

    @cached_property
    def _items_by_title(self) -> tuple[ItemsByTitle, ...]:
        """Items by title, and by normalized title: whole, without its year, and without all final brackets."""
        titles = np.empty(0, dtype=object) if self._titles is None else self._titles
        plain = normalize_titles(titles)
        shortened = (pc.replace_substring_regex(plain, end, "") for end in (FINAL_YEAR, FINAL_BRACKETS))
        return _group_by_title(titles), *(_group_by_title(form.to_pylist()) for form in (plain, *shortened))

    def _did_you_mean(self, name: str, plain: str) -> str:
        """Suggest the nearest title or, if none is close, the nearest id, like `errors.did_you_mean`.

        Prefers a title that contains the words of the name. Otherwise compares letter by letter only the titles that
        share the most pairs of letters with the name, since comparing 100,000 titles would take seconds.
        """
        items = self._items_by_title[1 if re.search(FINAL_YEAR, plain) else 3]
        titles = pa.array(items, pa.string())
        after_space = pc.binary_join_element_wise("", titles, " ")  # so each word follows a space
        containing = titles.filter(pc.match_substring(after_space, f" {plain}")).to_pylist() if plain else []
        if containing:
            return f"; did you mean {self._title_of(items[min(containing, key=len)][0])}?"
        num_shared = np.zeros(len(titles))
        for pair in {plain[start : start + 2] for start in range(len(plain) - 1)}:
            num_shared += pc.match_substring(titles, pair).to_numpy(zero_copy_only=False)
        order = np.argsort(-num_shared / (len(plain) + pc.utf8_length(titles).to_numpy()), kind="stable")
        candidates = titles.take(order[:MAX_COMPARED_TITLES]).to_pylist()
        if nearest := get_close_matches(plain, candidates, n=1):
            return f"; did you mean {self._title_of(items[nearest[0]][0])}?"
        return self._ids.did_you_mean(name, among=len(self._ids))


def _group_by_title(titles: Sequence[str] | NDArray[np.object_]) -> ItemsByTitle:
    """Collect the items of each title; leave out empty titles."""
    items: ItemsByTitle = defaultdict(list)
    for item, title in enumerate(titles):
        if title:
            items[title].append(item)
    return dict(items)


def normalize_titles(titles: Sequence[str] | NDArray[np.object_]) -> pa.StringArray:
    """Normalize titles: lower case, composed (NFC), single spaces, straight apostrophes, the article first."""
    text = pc.utf8_lower(pc.utf8_normalize(pa.array(titles, pa.string()), form="NFC"))
    for pattern, replacement in TITLE_REPLACEMENTS.items():
        text = pc.replace_substring_regex(text, pattern, replacement)
    return pc.utf8_trim_whitespace(text)
