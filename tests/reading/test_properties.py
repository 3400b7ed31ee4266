"""Properties of all files and splits: no row lost, none in two parts, equal rows from every file format."""

import bz2
import csv
import gzip
import io
import lzma
import re

import numpy as np
import pandas as pd
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tables import NO_SIDE_INFORMATION, csv_options, rows_of, table_of

from ratinglab.errors import UserError
from ratinglab.formats.text_options import SEPARATORS
from ratinglab.reading.cleaning_options import Duplicates
from ratinglab.splits.by_time import LeaveLastSplitOptions, TemporalSplitOptions
from ratinglab.splits.chosen_rows import RowsSplitOptions
from ratinglab.splits.folds import KFoldSplitOptions
from ratinglab.splits.random_rows import PerUserSplitOptions, RandomSplitOptions
from ratinglab.splits.split import TEST, TRAIN, VALIDATION
from ratinglab.splits.split_ratings import make_split_ratings

TEXT_IDS = st.text(st.characters(codec="latin-1", exclude_categories=("C", "Z")), min_size=1, max_size=5)
INTEGER_IDS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 20)
PLAIN_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
"""Text of an id that is read as an integer, even if it was drawn as text."""
NOTES = st.text(st.characters(codec="latin-1", exclude_categories=("C",)), max_size=8)
PACKED = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@st.composite
def tables(draw):
    """Draw rows of distinct pairs: user id, item id, rating, Unix time, and an unused note."""
    ids = [draw(st.sampled_from([TEXT_IDS, INTEGER_IDS])) for _ in range(2)]
    pairs = draw(
        st.lists(st.tuples(*ids), min_size=2, max_size=30, unique_by=lambda pair: (str(pair[0]), str(pair[1])))
    )
    ratings = st.floats(-1000, 1000, width=32) | st.integers(1, 10).map(lambda half: half / 2)
    rows = [(*pair, draw(ratings), draw(st.integers(0, 2**31)), draw(NOTES)) for pair in pairs]
    assume(len({rating for _, _, rating, *_ in rows}) > 1)
    return rows


@st.composite
def forms(draw):
    """Draw a file format: separator, header, line end, encoding, compression, order of columns, quoting."""
    return {
        "separator": draw(st.sampled_from(list(SEPARATORS))),
        "header": draw(st.booleans()),
        "end": draw(st.sampled_from(["\n", "\r\n"])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-32-le"])),
        "packed": draw(st.sampled_from(list(PACKED))),
        "order": draw(st.permutations(range(5))),
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        "empty_lines": draw(st.booleans()),
    }


NAMES = ("user_id", "item_id", "rating", "time", "note")


def written(rows, form) -> bytes:
    """Write the rows in a file format; without quotation marks, notes have no characters that need them."""
    separator = SEPARATORS[form["separator"]]
    is_quoted = len(separator) == 1
    cells = [[repr(cell) if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    if not is_quoted:
        for row in cells:
            row[4] = "note"
            assume(not set(separator) & set("".join(row)) or separator == "spaces")
    lines = [[row[column] for column in form["order"]] for row in ([list(NAMES)] if form["header"] else []) + cells]
    text = io.StringIO(newline="")
    if is_quoted:
        csv.writer(text, delimiter=separator, lineterminator=form["end"], quoting=form["quoting"]).writerows(lines)
    else:
        between = " \t " if separator == "spaces" else separator
        text.write("".join(between.join(line) + form["end"] for line in lines))
    content = text.getvalue()
    if form["empty_lines"]:
        content = form["end"] + content + form["end"] * 2
    return PACKED[form["packed"]](content.encode(form["encoding"]))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(rows=tables(), form=forms())
def test_every_row_is_read_from_every_file_format(tmp_path_factory, rows, form):
    path = tmp_path_factory.mktemp("file") / "ratings"
    path.write_bytes(written(rows, form))
    positions = {name: str(form["order"].index(column) + 1) for column, name in enumerate(NAMES)}
    columns = tuple(name if form["header"] else positions[name] for name in NAMES[:4])
    table = csv_options(
        path=str(path),
        separator=form["separator"],
        header=form["header"],
        encoding=form["encoding"],
        columns=columns,
    ).load()
    times = [row[3] for row in rows]
    unit = next(factor for bound, factor in ((1e11, 1000), (1e14, 1)) if max(times) < bound)
    found = [(str(user), str(item), rating, time) for user, item, rating, time in rows_of(table)]
    assert found == [(str(user), str(item), np.float32(rating), time * unit) for user, item, rating, time, _ in rows]
    assert table.user_ids.are_integers == all(PLAIN_INTEGER.fullmatch(str(user)) for user, *_ in rows)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(rows=tables())
def test_text_and_parquet_give_the_same_table(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("files")
    frame = pd.DataFrame(rows, columns=list(NAMES))
    frame.to_csv(folder / "r.csv", index=False, quoting=csv.QUOTE_NONNUMERIC)
    frame.to_parquet(folder / "r.parquet")
    tables = [csv_options(path=str(folder / name), columns=NAMES[:4]).load() for name in ("r.csv", "r.parquet")]
    assert tables[0].digest == tables[1].digest
    assert rows_of(tables[0]) == rows_of(tables[1])


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=40),
    least=st.integers(0, 4),
    policy=st.sampled_from(list(Duplicates)),
)
def test_cleaning_keeps_only_valid_rows_of_the_input(tmp_path_factory, pairs, least, policy):
    path = tmp_path_factory.mktemp("file") / "ratings"
    path.write_text("".join(f"{user},{item},{rating}\n" for user, item, rating in pairs))
    options = csv_options(
        path=str(path), header=False, columns=("1", "2", "3"), duplicates=policy, min_ratings_per_user=least
    )
    try:
        table, refusal = options.load(), ""
    except UserError as error:
        table, refusal = None, str(error)
    if table is None:
        repeats = len({pair[:2] for pair in pairs}) < len(pairs)
        is_constant = len({rating for *_, rating in pairs}) == 1
        assert is_constant or (policy is Duplicates.error and repeats) or f"min_ratings_per_user={least}" in refusal
        return
    found = rows_of(table)
    by_pair = {}
    for user, item, rating in pairs:
        by_pair.setdefault((user, item), []).append(rating)
    assert len({row[:2] for row in found}) == len(found)
    assert np.bincount(table.ratings.user).min() >= max(least, 1)
    for user, item, rating in found:
        given_ratings = by_pair[user, item]
        assert rating == np.float32(np.mean(given_ratings) if policy is Duplicates.mean else given_ratings[-1])
    kept = {row[0] for row in found}
    assert all(sum(pair[0] == user for pair in by_pair) < least for user in {pair[0] for pair in by_pair} - kept)


FRACTION = st.sampled_from([0.0, 0.1, 0.25, 0.4])
SEED = st.integers(0, 5)
SPLITS = st.one_of(
    st.builds(RandomSplitOptions, refit=st.just(False), seed=SEED, validation=FRACTION, test=FRACTION),
    st.builds(PerUserSplitOptions, refit=st.just(False), seed=SEED, validation=FRACTION, test=FRACTION),
    st.builds(LeaveLastSplitOptions, refit=st.just(False), validation=st.integers(0, 3), test=st.integers(1, 3)),
    st.builds(TemporalSplitOptions, refit=st.just(False), validation=FRACTION, test=FRACTION),
    st.builds(
        RowsSplitOptions,
        refit=st.just(False),
        seed=SEED,
        validation=FRACTION,
        test_start=st.just(1),
        test_stop=st.just(4),
    ),
    st.builds(
        KFoldSplitOptions,
        refit=st.just(False),
        seed=SEED,
        validation=FRACTION,
        folds=st.just(3),
        fold=st.integers(1, 3),
    ),
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 20)), min_size=5, max_size=60),
    split=SPLITS,
)
def test_each_row_is_in_one_part_and_parts_are_ordered_by_time(rows, split):
    user, item, time = map(np.array, zip(*rows, strict=True))
    table = table_of(user, item, np.arange(len(rows)), timestamp=time)
    try:
        found = split.apply(table)
    except UserError:
        return
    assert np.isin(found.part, [TRAIN, VALIDATION, TEST]).all()
    split_ratings = make_split_ratings(table, found, NO_SIDE_INFORMATION)
    parts = [split_ratings.copy_rows(TRAIN), split_ratings.copy_rows(VALIDATION), split_ratings.copy_rows(TEST)]
    assert sorted(rating for part in parts for rating in part.rating.tolist()) == list(range(len(rows)))
    assert found.count(TRAIN) > 0
    assert (found.count(TEST) > 0) == (getattr(split, "test", 1) > 0)
    assert (found.count(VALIDATION) > 0) == (split.validation > 0)
    groups = [slice(None)] if isinstance(split, TemporalSplitOptions) else [user == one for one in np.unique(user)]
    if split.uses_times:
        for group in groups:
            latest = -1
            for part in (TRAIN, VALIDATION, TEST):
                own = time[group][found.part[group] == part]
                assert len(own) == 0 or own.min() >= latest
                latest = max(latest, own.max(initial=-1))
