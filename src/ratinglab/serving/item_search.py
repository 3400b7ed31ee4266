"""Search for items by title or id."""

import re
from collections.abc import Iterator
from unicodedata import combining, normalize

import numpy as np
from numpy.typing import NDArray

from ratinglab.inference.run_tables import RunTables
from ratinglab.ratings.item_names import FINAL_YEAR, normalize_titles

ARTICLE = re.compile(" (the|an?) ")
"""English article before a title. Articles of other languages, such as `die`, may be words of English titles."""
NO_MATCH = 5
"""Rank of an item that the query does not match."""


class ItemSearch:
    """Search index of a run's items with training ratings."""

    def __init__(self, tables: RunTables, *, deviation: NDArray[np.float64]) -> None:
        """Index the items. `deviation` (num_items,) is the standard deviation of each item's ratings."""
        count = tables.train_counts[1][: tables.record.num_items]
        self._ids = tables.item_ids.ids[: len(count)].astype(str).str.casefold().tolist()
        titles = self._ids if tables.titles is None else [str(title) for title in tables.titles[: len(count)]]
        # texts begin with a space, so " toy" matches beginnings of words
        self._texts = [f" {words}" for words in _words(titles)]
        self._texts_without_year = [f" {words}" for words in _words([re.sub(FINAL_YEAR, "", each) for each in titles])]
        self._by_count = np.argsort(-count, kind="stable")
        self._by_information = np.argsort(-count * deviation, kind="stable")

    def find(self, query: str) -> NDArray[np.int64]:
        """Find item indices, best matches first, then by number of ratings.

        Ranks an exact id or title first; a title's year and its English article may be left out. Next come titles that
        begin with the query as whole words, titles that begin with the query, titles with words that begin with the
        query's words, and titles that contain the query. An empty query finds all items, first those with many and
        differing ratings, which reveal the most about a user's taste.
        """
        (query_words,), query_id = _words([query]), query.strip().casefold()
        if not query_words:
            return self._by_information
        beginnings = [f" {word}" for word in query_words.split()]
        ranks = {item: self._rank(item, query_words, beginnings, query_id) for item in self._by_count.tolist()}
        matches = [item for item, rank in ranks.items() if rank < NO_MATCH]
        return np.array(sorted(matches, key=ranks.__getitem__), dtype=np.int64)

    def _rank(self, item: int, query_words: str, beginnings: list[str], query_id: str) -> int:
        """Rank the match of an item, from 0, the best, to NO_MATCH."""
        if self._ids[item] == query_id:
            return 0
        text, text_without_year = self._texts[item], self._texts_without_year[item]
        contains_query = query_words in text
        if contains_query:
            article = ARTICLE.match(text_without_year)
            starts = (1, article.end() if article else 1)
            if any(query_words in (text[start:], text_without_year[start:]) for start in starts):
                return 0
            if any(text.startswith(f"{query_words} ", start) for start in starts):
                return 1
            if any(text.startswith(query_words, start) for start in starts):
                return 2
        if all(beginning in text for beginning in beginnings):
            return 3
        return 4 if contains_query else NO_MATCH


def _words(titles: list[str]) -> Iterator[str]:
    """Reduce titles to their words in lower case, without accents and with the article first."""
    for title in normalize_titles(titles).to_pylist():
        letters = "".join(letter for letter in normalize("NFKD", title.casefold()) if not combining(letter))
        yield " ".join(re.findall(r"\w+", letters))
