"""Load a table from its files, or from the cache."""

import time
from pathlib import Path
from typing import NamedTuple

from ratinglab.ratings.cleaning import Cleaning
from ratinglab.ratings.feature_tables import FeatureFile, read_features
from ratinglab.ratings.reading import RatingFiles, read_table
from ratinglab.ratings.side_information import Origin
from ratinglab.ratings.table import RatingTable
from ratinglab.ratings.table_cache import cached_table


class TableFiles(NamedTuple):
    """Files of ratings and, if there are any, of users and of items, with the origins of these two for messages.

    The noise floor is the MSE of a perfect model, for generated data; else None.
    """

    name: str
    ratings: RatingFiles
    users: FeatureFile | None
    items: FeatureFile | None
    origins: tuple[Origin, Origin]
    noise_floor: float | None = None


def load_table(files: TableFiles, *, cleaning: Cleaning, cache: Path | None, options: str) -> RatingTable:
    """Read a table, or load it from the cache folder if the files and all options of reading are unchanged.

    Raises:
        UserError: a file, column, row or cell is invalid; the message names it.
    """

    def read() -> RatingTable:
        return read_table(
            files.ratings,
            users=None if files.users is None else read_features(files.users),
            items=None if files.items is None else read_features(files.items),
            origins=files.origins,
            cleaning=cleaning,
            name=files.name,
            noise_floor=files.noise_floor,
        )

    inputs = [*files.ratings.files, *(each.file for each in (files.users, files.items) if each is not None)]
    fingerprints = [file.fingerprint() for file in inputs]
    return cached_table(cache, read, fingerprints=fingerprints, options=options, now_ns=time.time_ns())
