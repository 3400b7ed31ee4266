"""The on-disk layouts of public rating data sets, with invented values.

Each entry of LAYOUTS copies how one published file is written: its header or the lack of one, the order and names of
its columns, separator, quoting, encoding, line ends, form of the times, sentinels, missing cells and columns of text.
No value is taken from the real files: ids, ratings, times and texts are all made by one generator with a fixed seed.
"""

import codecs
import csv
import io
import json
import random
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from itertools import groupby
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Layout:
    """One published file, and where its user, item, rating and time stand."""

    name: str  # the data set
    file_name: str  # as published, unpacked
    source: str  # where the layout is described, or a public loader that reads it
    content: bytes
    columns: str | None = None
    """Columns of user, item, rating and, if one column holds the whole time, timestamp: their names in the header or,
    without a header, their positions from 1. None if the file does not have one rating per row."""
    first_row: tuple[str, str, float] | None = None
    """User id, item id and rating of the first data row."""


class Rated(NamedTuple):
    """One invented rating; `rating` is spelled as the file spells it, and `time` is in Unix seconds."""

    user: str
    item: str
    rating: str
    time: int


_RNG = random.Random(0)
_UPPER = string.ascii_uppercase + string.digits
_URL_SAFE = string.ascii_letters + string.digits + "-_"
_HEX = "0123456789abcdef"
_HALVES = "0.5 1 1.5 2 2.5 3 3.5 4 4.5 5"
_DECIMAL_HALVES = "0.5 1.0 1.5 2.0 2.5 3.0 3.5 4.0 4.5 5.0"
_DECIMAL_STARS = "1.0 2.0 3.0 4.0 5.0"

_TITLES = ("Five Stars", "Not for me", "Good, but late", 'A "must have"', "Works", "Meh...", "Très bien!")
_TEXTS = (
    "Works well, and the price was fair.",
    'My brother calls it "the good one"; I would not go that far.',
    "Arrived late, box open, one part missing.",
    "Fine.",
    "I bought two: one for us, one for my aunt. She likes hers, mine squeaks a bit.",
    "Crème brûlée on the menu, friendly staff, no parking; 3,50 € for a coffee.",
    "No idea why this has so many ratings",
)
_LONG_TEXTS = (*_TEXTS, "First visit was great.\n\nSecond one, not so much.", 'Loved it!\nWe said "again, please".')


def _numbers(low: int, high: int, count: int) -> list[str]:
    """Draw `count` different whole numbers from low to high, sorted, as text."""
    return [str(number) for number in sorted(_RNG.sample(range(low, high + 1), count))]


def _codes(length: int, count: int, alphabet: str = _UPPER, prefix: str = "") -> list[str]:
    """Draw `count` codes of `length` letters behind a prefix."""
    return [prefix + "".join(_RNG.choices(alphabet, k=length)) for _ in range(count)]


def _isbns(count: int) -> list[str]:
    """Draw ten-character ISBNs: most begin with a zero, some end in X."""
    return [
        _RNG.choice("0018") + "".join(_RNG.choices(string.digits, k=8)) + _RNG.choice("123457X") for _ in range(count)
    ]


def _asins(count: int) -> list[str]:
    """Draw product numbers of Amazon's shop: ISBNs of books, and codes that begin with B0."""
    return _isbns(count // 4) + _codes(8, count - count // 4, prefix="B0")


def _amazon_users(count: int = 12) -> list[str]:
    """Draw reviewer numbers of Amazon's shop, of 13 or 14 characters."""
    return _codes(13, count // 2, prefix="A") + _codes(12, count - count // 2, prefix="A")


def _rated(
    users: Sequence[str],
    items: Sequence[str],
    scale: str,
    order: str = "user",
    start: int = 1_100_000_000,
    span: int = 60_000_000,
    step: int = 1,
    count: int = 80,
) -> list[Rated]:
    """Draw `count` ratings of different (user, item) pairs, put in the order of users or of items, or left unsorted.

    Times are multiples of `step` seconds: 86,400 where a file keeps no more than the day.
    """
    pairs = _RNG.sample([(user, item) for user in users for item in items], count)
    if order == "user":
        pairs.sort(key=lambda pair: users.index(pair[0]))
    elif order == "item":
        pairs.sort(key=lambda pair: items.index(pair[1]))
    values = scale.split()
    times = range(start - start % step, start + span, step)
    return [Rated(user, item, _RNG.choice(values), _RNG.choice(times)) for user, item in pairs]


def _first(rows: Sequence[Rated]) -> tuple[str, str, float]:
    return rows[0].user, rows[0].item, float(rows[0].rating)


def _lines(lines: Iterable[str], end: str = "\n", encoding: str = "utf-8") -> bytes:
    return "".join(line + end for line in lines).encode(encoding)


def _csv(rows: Iterable[Iterable[object]]) -> bytes:
    """Write rows as pandas does: commas, quotation marks only where needed and doubled inside, UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _json_lines(
    records: Iterable[Mapping[str, Any]], separators: tuple[str, str] = (", ", ": "), ascii_only: bool = True
) -> bytes:
    return _lines(json.dumps(record, separators=separators, ensure_ascii=ascii_only) for record in records)


def _date(row: Rated, form: str, hours: int = 0) -> str:
    return datetime.fromtimestamp(row.time, timezone(timedelta(hours=hours))).strftime(form)


def _month_first(row: Rated) -> str:
    """Write a date as Amazon's reviews do: `07 9, 2012`, with a zero before the month and none before the day."""
    return f"{_date(row, '%m')} {datetime.fromtimestamp(row.time, UTC).day}, {_date(row, '%Y')}"


def _plain(
    name: str,
    file_name: str,
    source: str,
    rows: Sequence[Rated],
    form: str,
    header: str | None = None,
    before: Sequence[str] = (),
    end: str = "\n",
) -> Layout:
    """Write each rating by a format string, such as `{user},{item},{rating},{time}000`, behind the lines in `before`.

    `header` has the names of the columns of users, items, ratings and, if there are any, times.
    """
    order = re.findall(r"{(\w+)}", form)
    columns = [str(order.index(role) + 1) for role in Rated._fields if role in order]
    if header is not None:
        columns = header.split()
        before = [*before, form.removesuffix("000").format(**dict(zip(Rated._fields, columns, strict=False)))]
    lines = [*before, *(form.format(**row._asdict()) for row in rows)]
    return Layout(name, file_name, source, _lines(lines, end), " ".join(columns), _first(rows))


def _book_crossing() -> Layout:
    """Every cell is quoted; ISBNs were typed by hand, a quotation mark in one is escaped by a backslash."""
    isbns = [*_isbns(16), "B0000A1B2C", "2.07.041234.5", '"0340218697', "ISBN 3§442-7"]
    rows = _rated(_numbers(276_000, 278_854, 12), isbns, "0 0 0 0 0 0 4 5 6 7 8 9 10")
    lines = ['"User-ID";"ISBN";"Book-Rating"']
    for row in rows:
        isbn = row.item.replace('"', '\\"')
        lines.append(f'"{row.user}";"{isbn}";"{row.rating}"')
    source = "http://www2.informatik.uni-freiburg.de/~cziegler/BX/; PIReTship/bookdata-tools bx/bx-extract.py"
    content = _lines(lines, "\r\n", "latin-1")
    return Layout("Book-Crossing", "BX-Book-Ratings.csv", source, content, "User-ID ISBN Book-Rating", _first(rows))


def _amazon_2014_reviews() -> Layout:
    rows = _rated(_amazon_users(), _asins(20), _DECIMAL_STARS, "item", start=1_300_000_000, step=86_400)
    records = []
    for row in rows:
        votes = _RNG.randrange(9)
        record = {
            "reviewerID": row.user,
            "asin": row.item,
            "reviewerName": _RNG.choice(("Pat", 'J. Doe "jd"', "M. Ruiz, Jr.", "Amazon Customer")),
            "helpful": [_RNG.randint(0, votes), votes],
            "reviewText": _RNG.choice(_TEXTS),
            "overall": float(row.rating),
            "summary": _RNG.choice(_TITLES),
            "unixReviewTime": row.time,
            "reviewTime": _month_first(row),
        }
        if _RNG.random() < 0.1:
            del record["reviewerName"]
        records.append(record)
    source = "https://jmcauley.ucsd.edu/data/amazon/index_2014.html"
    content = _json_lines(records)
    columns = "reviewerID asin overall unixReviewTime"
    return Layout(
        "Amazon 2014, 5-core reviews", "reviews_Musical_Instruments_5.json", source, content, columns, _first(rows)
    )


def _amazon_2018_reviews() -> Layout:
    """Keys come and go from line to line: vote, style, image, and now and then the text of the review."""
    rows = _rated(_amazon_users(), _asins(20), _DECIMAL_STARS, "item", start=1_440_000_000, step=86_400)
    records = []
    for row in rows:
        record: dict[str, Any] = {"overall": float(row.rating)}
        if _RNG.random() < 0.2:
            record["vote"] = str(_RNG.randint(2, 30))
        record |= {
            "verified": _RNG.random() < 0.8,
            "reviewTime": _month_first(row),
            "reviewerID": row.user,
            "asin": row.item,
        }
        if _RNG.random() < 0.5:
            record["style"] = {"Size:": " 7.5 oz", "Color:": " Blue/Grey"}
        record["reviewerName"] = _RNG.choice(("Pat", "M. Ruiz, Jr.", "Amazon Customer"))
        if _RNG.random() < 0.95:
            record["reviewText"] = _RNG.choice(_LONG_TEXTS)
        record |= {"summary": _RNG.choice(_TITLES), "unixReviewTime": row.time}
        if _RNG.random() < 0.1:
            record["image"] = ["https://images.example.org/71a.jpg"]
        records.append(record)
    source = "https://nijianmo.github.io/amazon/index.html"
    content = _json_lines(records)
    columns = "reviewerID asin overall unixReviewTime"
    return Layout("Amazon 2018, 5-core reviews", "All_Beauty_5.json", source, content, columns, _first(rows))


def _amazon_2023_reviews() -> Layout:
    """An item has two numbers, its own and its parent's; the publisher's rating files go by the parent's."""
    rows = _rated(_codes(27, 12, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "A"), _asins(20), _DECIMAL_STARS)
    variants = dict(zip([row.item for row in rows], _codes(8, len(rows), prefix="B0"), strict=True))
    records = [
        {
            "rating": float(row.rating),
            "title": _RNG.choice(_TITLES),
            "text": _RNG.choice(_TEXTS) + _RNG.choice(("", "<br /><br />")),
            "images": _RNG.choice(([], [], [{"small_image_url": "https://images.example.org/s.jpg"}])),
            "asin": _RNG.choice((row.item, variants[row.item])),
            "parent_asin": row.item,
            "user_id": row.user,
            "timestamp": row.time * 1000 + _RNG.randrange(1000),
            "helpful_vote": _RNG.choice((0, 0, 0, 1, 4)),
            "verified_purchase": _RNG.random() < 0.9,
        }
        for row in rows
    ]
    source = "https://amazon-reviews-2023.github.io/"
    columns = "user_id parent_asin rating timestamp"
    return Layout("Amazon 2023, reviews", "All_Beauty.jsonl", source, _json_lines(records), columns, _first(rows))


def _amazon_customer_reviews() -> Layout:
    """Tabs without any quoting: a quotation mark, even at the start of a cell, is a plain character."""
    rows = _rated(_numbers(10_000_000, 53_000_000, 12), _asins(20), "1 2 3 4 5", "random", start=1_430_000_000)
    header = (
        "marketplace customer_id review_id product_id product_parent product_title product_category star_rating"
        " helpful_votes total_votes vine verified_purchase review_headline review_body review_date"
    )
    lines = ["\t".join(header.split())]
    for row, review, parent in zip(rows, _codes(13, 80, prefix="R"), _numbers(1_000_000, 999_999_999, 80), strict=True):
        cells = ["US", row.user, review, row.item, parent, 'Kettle, 1.7 L, 12" cord', "Toys", row.rating]
        cells += [str(_RNG.randrange(4)), str(_RNG.randint(4, 9)), "N", _RNG.choice("YN")]
        cells += [_RNG.choice(_TITLES), _RNG.choice((*_TEXTS, '"Small" box, big toy', '"Never again'))]
        lines.append("\t".join([*cells, _date(row, "%Y-%m-%d")]))
    source = "https://s3.amazonaws.com/amazon-reviews-pds/tsv/index.txt"
    content = _lines(lines)
    columns = "customer_id product_id star_rating review_date"
    return Layout(
        "Amazon customer reviews (AWS)", "amazon_reviews_us_Toys_v1_00.tsv", source, content, columns, _first(rows)
    )


def _fine_foods() -> Layout:
    """A row number comes first, and the item before the user."""
    rows = _rated(_amazon_users(), _asins(20), "1 2 3 4 5", "item", start=1_300_000_000, step=86_400)
    names = dict.fromkeys((row.user for row in rows), "")
    for user in names:
        names[user] = _RNG.choice(("pat", 'L. Moreau "Lou"', "M. Ruiz, Jr.", "ncb"))
    header = "Id ProductId UserId ProfileName HelpfulnessNumerator HelpfulnessDenominator Score Time Summary Text"
    cells = [
        (
            *(number, row.item, row.user, names[row.user], *_RNG.choice(((0, 0), (1, 1), (2, 3))), row.rating),
            *(row.time, _RNG.choice(_TITLES), _RNG.choice(_TEXTS)),
        )
        for number, row in enumerate(rows, start=1)
    ]
    source = "https://www.kaggle.com/datasets/snap/amazon-fine-food-reviews"
    content = _csv([header.split(), *cells])
    columns = "UserId ProductId Score Time"
    return Layout("Amazon Fine Food Reviews (Kaggle)", "Reviews.csv", source, content, columns, _first(rows))


def _fine_foods_blocks() -> Layout:
    """Eight lines and an empty one for each review, in Latin-1."""
    rows = _rated(_amazon_users(), _asins(20), _DECIMAL_STARS, "item", start=1_300_000_000, step=86_400)
    lines = []
    for row in rows:
        lines += [f"product/productId: {row.item}", f"review/userId: {row.user}", "review/profileName: pat"]
        lines += ["review/helpfulness: 1/2", f"review/score: {row.rating}", f"review/time: {row.time}"]
        lines += ["review/summary: Bien sûr", "review/text: Good, and cheap: I will buy it again.", ""]
    source = "https://snap.stanford.edu/data/web-FineFoods.html"
    return Layout("Amazon Fine Foods (SNAP)", "finefoods.txt", source, _lines(lines, encoding="latin-1"))


def _yelp() -> Layout:
    """No blanks between keys and values; the time is text, and ids may begin with a hyphen."""
    users = _codes(22, 11, _URL_SAFE) + _codes(21, 1, _URL_SAFE, "-")
    businesses = _codes(22, 19, _URL_SAFE) + _codes(21, 1, _URL_SAFE, "_")
    rows = _rated(users, businesses, _DECIMAL_STARS, "random", start=1_400_000_000)
    records = [
        {"review_id": review, "user_id": row.user, "business_id": row.item, "stars": float(row.rating)}
        | {"useful": _RNG.randrange(3), "funny": _RNG.randrange(2), "cool": _RNG.randrange(2)}
        | {"text": _RNG.choice(_LONG_TEXTS), "date": _date(row, "%Y-%m-%d %H:%M:%S")}
        for row, review in zip(rows, _codes(22, len(rows), _URL_SAFE), strict=True)
    ]
    source = "https://www.yelp.com/dataset/documentation/main"
    content = _json_lines(records, (",", ":"))
    columns = "user_id business_id stars date"
    return Layout(
        "Yelp Open Dataset, reviews", "yelp_academic_dataset_review.json", source, content, columns, _first(rows)
    )


def _google_local() -> Layout:
    """Users have 21 digits, more than 64 bits hold; times are in milliseconds, texts may be null."""
    places = [f"0x{a}:0x{b}" for a, b in zip(_codes(16, 20, _HEX), _codes(16, 20, _HEX), strict=True)]
    rows = _rated(_codes(20, 12, string.digits, "1"), places, "1 2 3 4 5", "item", start=1_560_000_000)
    records = [
        {"user_id": row.user, "name": _RNG.choice(("Pat", "Zoë")), "time": row.time * 1000 + _RNG.randrange(1000)}
        | {"rating": int(row.rating), "text": _RNG.choice((*_TEXTS, None, None)), "pics": None}
        | {"resp": _RNG.choice((None, {"time": row.time * 1000 + 86_400_000, "text": "Thanks, Pat!"}))}
        | {"gmap_id": row.item}
        for row in rows
    ]
    source = "https://mcauleylab.ucsd.edu/public_datasets/gdrive/googlelocal/"
    columns = "user_id gmap_id rating time"
    return Layout("Google Local 2021", "review-Alaska.json", source, _json_lines(records), columns, _first(rows))


def _goodreads_reviews() -> Layout:
    """Four times in the style of C's ctime with a time zone, of which two may be empty; rating 0 means none."""
    rows = _rated(_codes(32, 12, _HEX), _numbers(1_000, 30_000_000, 20), "0 2 3 4 5", start=1_400_000_000)
    form = "%a %b %d %H:%M:%S -0700 %Y"
    records = [
        {"user_id": row.user, "book_id": row.item, "review_id": review, "rating": int(row.rating)}
        | {"review_text": _RNG.choice(_LONG_TEXTS), "date_added": _date(row, form, -7)}
        | {"date_updated": _date(row._replace(time=row.time + 900_000), form, -7)}
        | {"read_at": _RNG.choice(("", _date(row._replace(time=row.time + 800_000), form, -7)))}
        | {"started_at": "", "n_votes": _RNG.randrange(30), "n_comments": _RNG.randrange(4)}
        for row, review in zip(rows, _codes(32, len(rows), _HEX), strict=True)
    ]
    source = "https://mengtingwan.github.io/data/goodreads.html"
    content = _json_lines(records)
    columns = "user_id book_id rating date_added"
    return Layout("Goodreads (UCSD), reviews", "goodreads_reviews_dedup.json", source, content, columns, _first(rows))


def _rent_the_runway() -> Layout:
    """Numbers are written as text, and keys are missing in some lines; a date is spelled out."""
    rows = _rated(_numbers(100_000, 999_999, 12), _numbers(120_000, 2_900_000, 20), "2 4 6 8 10 10", "random")
    records = []
    for row in rows:
        record: dict[str, Any] = {"fit": _RNG.choice(("fit", "small", "large")), "user_id": row.user}
        if _RNG.random() < 0.8:
            record["bust size"] = _RNG.choice(("34d", "36b"))
        record["item_id"] = row.item
        if _RNG.random() < 0.8:
            record["weight"] = f"{_RNG.randint(105, 180)}lbs"
        record |= {"rating": row.rating, "rented for": _RNG.choice(("vacation", "formal affair", "party: cocktail"))}
        record |= {"review_text": _RNG.choice(_TEXTS), "body type": "athletic", "review_summary": _RNG.choice(_TITLES)}
        record |= {"category": "gown", "height": "5' 6\"", "size": _RNG.choice((4, 8, 14)), "age": "34"}
        day = datetime.fromtimestamp(row.time, UTC)
        record["review_date"] = f"{day:%B} {day.day}, {day:%Y}"
        records.append(record)
    source = "https://cseweb.ucsd.edu/~jmcauley/datasets.html#clothing_fit"
    content = _json_lines(records)
    columns = "user_id item_id rating review_date"
    return Layout("RentTheRunway clothing fit", "renttherunway_final_data.json", source, content, columns, _first(rows))


def _my_anime_list() -> Layout:
    """A score of 0 means that none was given."""
    rows = _rated(_numbers(0, 353_404, 12), _numbers(1, 48_492, 20), "0 0 5 6 7 8 9 10")
    cells = [[row.user, row.item, row.rating, _RNG.choice((1, 2, 2, 4, 6)), _RNG.randint(0, 64)] for row in rows]
    source = "https://www.kaggle.com/datasets/hernan4444/anime-recommendation-database-2020"
    content = _csv(["user_id anime_id rating watching_status watched_episodes".split(), *cells])
    columns = "user_id anime_id rating"
    return Layout("MyAnimeList 2020 (Kaggle)", "animelist.csv", source, content, columns, _first(rows))


def _goodreads_interactions() -> Layout:
    """A rating of 0 means that none was given; two columns of flags stand beside it."""
    rows = _rated(_numbers(0, 876_144, 12), _numbers(0, 2_360_649, 20), "0 0 2 3 4 5")
    cells = []
    for row in rows:
        read = 1 if row.rating != "0" else _RNG.randrange(2)
        cells.append([row.user, row.item, read, row.rating, _RNG.randrange(2) * read])
    source = "https://mengtingwan.github.io/data/goodreads.html"
    content = _csv(["user_id book_id is_read rating is_reviewed".split(), *cells])
    columns = "user_id book_id rating"
    return Layout(
        "Goodreads (UCSD), interactions", "goodreads_interactions.csv", source, content, columns, _first(rows)
    )


def _beer_advocate() -> Layout:
    """Five ratings per row; the user is a profile name, missing in a few rows, as is the strength of some beers."""
    profiles = "stcarl oakhead brewfan21 Rollo hop_a_long mikey jdhilt ultra7 beerguy101 ann".split()
    beers = _numbers(5, 77_317, 20)
    names = {beer: _RNG.choice(("Red Moon", 'Rauch Ür Bock "Old"', "Amber, Cask", "Pils")) for beer in beers}
    breweries = ("Vecchio Mulino", "Harbour Beer Company (Sam Hill)", "Brouwerij Der Leÿ", "Hops, Malt & Sons")
    rows = _rated(profiles, beers, "1 1.5 2 2.5 3 3.5 4 4.5 5", "item", start=1_230_000_000)
    header = (
        "brewery_id brewery_name review_time review_overall review_aroma review_appearance review_profilename"
        " beer_style review_palate review_taste beer_name beer_abv beer_beerid"
    )
    cells = []
    for number, row in enumerate(rows):
        aroma, look, palate, taste = _RNG.choices(_HALVES.split()[1:], k=4)
        profile = "" if number == 47 else row.user
        brewery = int(row.item) % 4
        strength = _RNG.choice(("5", "6.2", ""))
        first = [10_300 + brewery, breweries[brewery], row.time, row.rating, aroma, look, profile]
        cells.append([*first, "Rauchbier", palate, taste, names[row.item], strength, row.item])
    source = "https://data.world/socialmediadata/beeradvocate"
    content = _csv([header.split(), *cells])
    columns = "review_profilename beer_beerid review_overall review_time"
    return Layout("BeerAdvocate (data.world, Kaggle)", "beer_reviews.csv", source, content, columns, _first(rows))


def _food_com() -> Layout:
    """Reviews are quoted where needed, and may hold Windows line ends; 0 means a review without stars."""
    rows = _rated(_numbers(1_533, 2_002_372_706, 12), _numbers(38, 537_716, 20), "0 1 2 3 4 5 5", "item")
    texts = (*_TEXTS, "Great with a salad.\r\nI used less salt, and more lemon.", "Don&#039;t wait!<br/>Make it", "")
    cells = [[row.user, row.item, _date(row, "%Y-%m-%d"), row.rating, _RNG.choice(texts)] for row in rows]
    source = "https://www.kaggle.com/datasets/shuyangli94/food-com-recipes-and-user-interactions"
    content = _csv(["user_id recipe_id date rating review".split(), *cells])
    columns = "user_id recipe_id rating date"
    return Layout("Food.com (Kaggle)", "RAW_interactions.csv", source, content, columns, _first(rows))


def _restaurants() -> Layout:
    """Three ratings per row on a scale of 0, 1 and 2."""
    rows = _rated(_numbers(1_001, 1_138, 12), _numbers(132_560, 135_109, 20), "0 1 2")
    rows = [row._replace(user=f"U{row.user}") for row in rows]
    cells = [[row.user, row.item, row.rating, _RNG.randrange(3), _RNG.randrange(3)] for row in rows]
    source = "https://archive.ics.uci.edu/dataset/232/restaurant+consumer+data"
    content = _csv(["userID placeID rating food_rating service_rating".split(), *cells])
    columns = "userID placeID rating"
    return Layout("Restaurant & consumer data (UCI)", "rating_final.csv", source, content, columns, _first(rows))


def _hetrec_movies() -> Layout:
    """The time is spread over six columns, so that no single one holds it."""
    rows = _rated(_numbers(75, 71_534, 12), _numbers(1, 65_133, 20), _HALVES)
    lines = ["\t".join("userID movieID rating date_day date_month date_year date_hour date_minute date_second".split())]
    for row in rows:
        time = datetime.fromtimestamp(row.time, UTC)
        parts = (time.day, time.month, time.year, time.hour, time.minute, time.second)
        lines.append("\t".join([row.user, row.item, row.rating, *map(str, parts)]))
    source = "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-movielens-readme.txt"
    content = _lines(lines, "\r\n")
    columns = "userID movieID rating"
    return Layout("HetRec 2011, MovieLens", "user_ratedmovies.dat", source, content, columns, _first(rows))


def _flixster() -> Layout:
    """UTF-16 with a byte order mark."""
    rows = _rated(_numbers(6, 1_049_508, 12), _numbers(1, 66_726, 20), _HALVES, "random", start=1_190_000_000)
    lines = ["userid\tmovieid\trating\tdate"]
    lines += [f"{row.user}\t{row.item}\t{row.rating}\t{_date(row, '%Y-%m-%d 00:00:00')}" for row in rows]
    source = "https://sites.google.com/view/mohsenjamali/flixter-data-set"
    content = codecs.BOM_UTF16_LE + _lines(lines, "\r\n", "utf-16-le")
    return Layout("Flixster", "Ratings.timed.txt", source, content, "userid movieid rating date", _first(rows))


def _steam_200k() -> Layout:
    """No header; a game is its quoted title, and a user has a row for its purchase and one for the hours of play."""
    games = [
        f"{first} {second}" for first in ("Iron", "Lost Valley", "Tom's", "Nova, Inc.") for second in ("I", "II", "V")
    ]
    rows = _rated(_numbers(5_250, 309_903_146, 12), games, "0.2 0.6 1.0 1.4 3.7 12.1 87.0 273.0", count=60)
    lines = []
    for row in rows:
        lines.append(f'{row.user},"{row.item}",purchase,1.0,0')
        if _RNG.random() < 0.6:
            lines.append(f'{row.user},"{row.item}",play,{row.rating},0')
    source = "https://www.kaggle.com/datasets/tamber/steam-video-games"
    content = _lines(lines)
    columns = "1 2 4"
    return Layout(
        "Steam video games (Kaggle)", "steam-200k.csv", source, content, columns, (rows[0].user, rows[0].item, 1.0)
    )


def _douban() -> Layout:
    """Names and comments in Chinese, two dates; both names of the film identify it, and comments begin with a blank."""
    films = {"Spring River": "春江", "Lost Moon": "月亮2", "Iron Rain": "铁雨", "Home, Alone": "独自在家"}
    films |= {"Night Bus": "夜车", "Paper Kite": "纸鸢", "Tiger Hill": "虎丘", "Old Tea": "老茶", "Two Days": "两天"}
    users = ["然后", "小箱", "Polly", "二月", "一只猫", "凌晨", "Sam~~", "影子", "木木", "晓夜", "七月", "阿北"]
    rows = _rated(users, list(films), "1 2 3 4 5", "item", start=1_420_000_000)
    comments = (" 还不错，值得看。", " 一般般, 有点长", ' 他说"再见"，然后走了。', " 好看！")
    header = "ID Movie_Name_EN Movie_Name_CN Crawl_Date Number Username Date Star Comment Like"
    cells = [
        (
            *(number, row.item, films[row.item], "2017-01-22", number + 1, row.user, _date(row, "%Y-%m-%d")),
            *(row.rating, _RNG.choice(comments), _RNG.randrange(2_500)),
        )
        for number, row in enumerate(rows)
    ]
    source = "https://www.kaggle.com/datasets/utmhikari/doubanmovieshortcomments"
    content = _csv([header.split(), *cells])
    columns = "Username Movie_Name_EN Star Date"
    return Layout("Douban movie short comments (Kaggle)", "DMSC.csv", source, content, columns, _first(rows))


def _kuairec() -> Layout:
    """The rating is the share of a video that was watched, in the last column; the time is there three times."""
    rows = _rated(_numbers(0, 7_175, 12), _numbers(0, 10_727, 20), "0", start=1_593_878_000, span=5_000_000)
    header = "user_id video_id play_duration video_duration time date timestamp watch_ratio"
    cells: list[list[str]] = []
    for row in rows:
        played, length, thousandths = _RNG.randint(0, 20_000), _RNG.randint(5_000, 15_000), _RNG.randrange(1000)
        clock = f"{_date(row, '%Y-%m-%d %H:%M:%S', 8)}.{thousandths:03}"
        stamp = f"{row.time}.{thousandths:03}".rstrip("0").rstrip(".")
        day = _date(row, "%Y%m%d", 8)
        cells.append([row.user, row.item, str(played), str(length), clock, day, stamp, repr(played / length)])
    source = "https://kuairec.com/"
    content = _csv([header.split(), *cells])
    columns = "user_id video_id watch_ratio timestamp"
    return Layout(
        "KuaiRec", "big_matrix.csv", source, content, columns, (rows[0].user, rows[0].item, float(cells[0][-1]))
    )


def _ciao_dvd() -> Layout:
    """Six columns without a header, of which the genre and the review's number stand before the rating."""
    rows = _rated(_numbers(1, 17_615, 12), _numbers(1, 16_121, 20), "1 2 3 4 5", start=1_000_000_000)
    lines = [
        f"{row.user},{row.item},{_RNG.randint(1, 17)},{review},{row.rating},{_date(row, '%Y-%m-%d')}"
        for review, row in enumerate(rows, start=1)
    ]
    source = "https://guoguibing.github.io/librec/datasets.html (CiaoDVD/readme.txt)"
    return Layout("CiaoDVD", "movie-ratings.txt", source, _lines(lines), "1 2 5 6", _first(rows))


def _film_trust() -> Layout:
    """Windows and Unix line ends in one file, and a few repeated pairs of user and item."""
    rows = _rated(_numbers(1, 1_508, 12), _numbers(1, 2_071, 20), "0.5 1 1.5 2 2.5 3 3.5 4")
    rows.insert(42, rows[40])
    lines = [f"{row.user} {row.item} {row.rating}" for row in rows]
    source = "https://guoguibing.github.io/librec/datasets.html"
    content = _lines(lines[:50], "\r\n") + _lines(lines[50:])
    return Layout("FilmTrust", "ratings.txt", source, content, "1 2 3", _first(rows))


def _netflix() -> Layout:
    """A line with the film and a colon, then a line for each of its ratings."""
    rows = _rated(_numbers(6, 2_649_429, 12), [str(film) for film in range(1, 21)], "1 2 3 4 5", "item")
    lines = []
    for film, ratings in groupby(rows, key=lambda row: row.item):
        lines.append(f"{film}:")
        lines += [f"{row.user},{row.rating},{_date(row, '%Y-%m-%d')}" for row in ratings]
    source = "https://www.kaggle.com/datasets/netflix-inc/netflix-prize-data"
    return Layout("Netflix Prize (Kaggle)", "combined_data_1.txt", source, _lines(lines))


def _jester_matrix() -> Layout:
    """A row for each user: how many of 100 jokes were rated, then a rating for each joke, or 99 for none."""
    lines = []
    for _ in range(60):
        ratings = [f"{_RNG.uniform(-9.9, 9.9):.2f}" if _RNG.random() < 0.6 else "99" for _ in range(100)]
        lines.append(",".join([str(100 - ratings.count("99")), *ratings]))
    source = "https://eigentaste.berkeley.edu/dataset/"
    return Layout("Jester 1 (its worksheet as CSV)", "jester-data-1.csv", source, _lines(lines))


def _jester_ratings() -> Layout:
    """Two tabs between columns."""
    rows = _rated(_numbers(1, 63_978, 12), _numbers(5, 150, 20), "0")
    rows = [row._replace(rating=f"{_RNG.uniform(-10, 10):.3f}") for row in rows]
    source = "https://eigentaste.berkeley.edu/dataset/; Surprise surprise/builtin_datasets.py"
    return _plain("Jester 2", "jester_ratings.dat", source, rows, "{user}\t\t{item}\t\t{rating}")


def _bitcoin_otc() -> Layout:
    """Users rate users from -10 to 10; times have a fraction of a second."""
    rows = _rated(
        _numbers(1, 6_005, 12), _numbers(1, 6_005, 20), "-10 -1 1 1 2 3 5 8 10", "random", start=1_289_241_000
    )
    lines = [f"{row.user},{row.item},{row.rating},{row.time}.{_RNG.randint(10_000, 99_999)}" for row in rows]
    source = "https://snap.stanford.edu/data/soc-sign-bitcoin-otc.html"
    return Layout("Bitcoin OTC (SNAP)", "soc-sign-bitcoinotc.csv", source, _lines(lines), "1 2 3 4", _first(rows))


LAYOUTS: tuple[Layout, ...] = (
    _plain(
        "MovieLens 100K",
        "u.data",
        "https://files.grouplens.org/datasets/movielens/ml-100k-README.txt",
        _rated(_numbers(1, 943, 12), _numbers(1, 1_682, 20), "1 2 3 4 5", "random", start=874_724_710, span=18_000_000),
        "{user}\t{item}\t{rating}\t{time}",
    ),
    _plain(
        "MovieLens 1M",
        "ratings.dat",
        "https://files.grouplens.org/datasets/movielens/ml-1m-README.txt",
        _rated(_numbers(1, 6_040, 12), _numbers(1, 3_952, 20), "1 2 3 4 5", start=956_703_932),
        "{user}::{item}::{rating}::{time}",
    ),
    _plain(
        "MovieLens 10M",
        "ratings.dat",
        "https://files.grouplens.org/datasets/movielens/ml-10m-README.html",
        _rated(_numbers(1, 71_567, 12), _numbers(1, 65_133, 20), _HALVES, start=838_985_000),
        "{user}::{item}::{rating}::{time}",
    ),
    _plain(
        "MovieLens latest",
        "ratings.csv",
        "https://files.grouplens.org/datasets/movielens/ml-latest-README.html",
        _rated(_numbers(1, 610, 12), _numbers(1, 193_609, 20), _DECIMAL_HALVES),
        "{user},{item},{rating},{time}",
        header="userId movieId rating timestamp",
    ),
    _plain(
        "MovieLens 100K as RecBole's atomic file",
        "ml-100k.inter",
        "https://recbole.io/docs/user_guide/data/atomic_files.html",
        _rated(_numbers(1, 943, 12), _numbers(1, 1_682, 20), "1 2 3 4 5", "random", start=874_724_710),
        "{user}\t{item}\t{rating}\t{time}",
        header="user_id:token item_id:token rating:float timestamp:float",
    ),
    _book_crossing(),
    _plain(
        "Book-Crossing, cleaned (Kaggle)",
        "Ratings.csv",
        "https://www.kaggle.com/datasets/arashnic/book-recommendation-dataset",
        _rated(_numbers(2, 278_854, 12), _isbns(20), "0 0 0 0 0 0 4 5 6 7 8 9 10"),
        "{user},{item},{rating}",
        header="User-ID ISBN Book-Rating",
    ),
    _plain(
        "Amazon 2014, ratings only",
        "ratings_Books.csv",
        "https://jmcauley.ucsd.edu/data/amazon/index_2014.html",
        _rated(_amazon_users(), _asins(20), _DECIMAL_STARS, "item", start=1_300_000_000, step=86_400),
        "{user},{item},{rating},{time}",
    ),
    _plain(
        "Amazon 2018, ratings only",
        "All_Beauty.csv",
        "https://nijianmo.github.io/amazon/index.html",
        _rated(_amazon_users(), _asins(20), _DECIMAL_STARS, "item", start=1_420_000_000, step=86_400),
        "{item},{user},{rating},{time}",
    ),
    _plain(
        "Amazon 2023, ratings only",
        "All_Beauty.csv",
        "https://amazon-reviews-2023.github.io/data_processing/0core.html",
        _rated(
            _codes(27, 12, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "A"), _asins(20), _DECIMAL_STARS, start=1_500_000_000
        ),
        "{user},{item},{rating},{time}000",
        header="user_id parent_asin rating timestamp",
    ),
    _amazon_2014_reviews(),
    _amazon_2018_reviews(),
    _amazon_2023_reviews(),
    _amazon_customer_reviews(),
    _fine_foods(),
    _fine_foods_blocks(),
    _yelp(),
    _google_local(),
    _goodreads_reviews(),
    _rent_the_runway(),
    _goodreads_interactions(),
    _plain(
        "goodbooks-10k",
        "ratings.csv",
        "https://github.com/zygmuntz/goodbooks-10k",
        _rated(_numbers(1, 53_424, 12), _numbers(1, 10_000, 20), "1 2 3 4 5", "random"),
        "{user},{item},{rating}",
        header="user_id book_id rating",
    ),
    _plain(
        "Anime Recommendations (Kaggle): -1 is watched, but not rated",
        "rating.csv",
        "https://www.kaggle.com/datasets/CooperUnion/anime-recommendations-database",
        _rated(_numbers(1, 73_516, 12), _numbers(1, 34_519, 20), "-1 -1 5 6 7 8 9 10"),
        "{user},{item},{rating}",
        header="user_id anime_id rating",
    ),
    _my_anime_list(),
    _film_trust(),
    _plain(
        "Epinions (trustlet.org)",
        "ratings_data.txt",
        "http://www.trustlet.org/downloaded_epinions.html; Cornac cornac/datasets/epinions.py",
        _rated(_numbers(1, 49_290, 12), _numbers(1, 139_738, 20), "1 2 3 4 5"),
        "{user} {item} {rating}",
    ),
    _ciao_dvd(),
    _flixster(),
    _hetrec_movies(),
    _plain(
        "HetRec 2011, MovieLens, times in milliseconds",
        "user_ratedmovies-timestamps.dat",
        "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-movielens-readme.txt",
        _rated(_numbers(75, 71_534, 12), _numbers(1, 65_133, 20), _HALVES),
        "{user}\t{item}\t{rating}\t{time}000",
        header="userID movieID rating timestamp",
        end="\r\n",
    ),
    _plain(
        "HetRec 2011, Last.fm: the weight is a count of plays",
        "user_artists.dat",
        "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-readme.txt",
        _rated(_numbers(2, 2_100, 12), _numbers(1, 18_745, 20), "1 7 34 102 228 337 662 1807 5390 13176"),
        "{user}\t{item}\t{rating}",
        header="userID artistID weight",
        end="\r\n",
    ),
    _plain(
        "Audioscrobbler: counts of plays",
        "user_artist_data.txt",
        "Audioscrobbler's README of 6 May 2005; Ryza et al., Advanced Analytics with Spark, chapter 3",
        _rated(_numbers(1_000_002, 2_443_548, 12), _numbers(1, 10_794_401, 20), "1 1 2 3 8 14 33 69 144 329"),
        "{user} {item} {rating}",
    ),
    _plain(
        "MovieTweetings: the items are IMDb's numbers with leading zeros",
        "ratings.dat",
        "https://github.com/sidooms/MovieTweetings",
        _rated(_numbers(1, 71_707, 12), _codes(5, 20, string.digits, "00"), "1 4 5 6 7 8 9 10", start=1_362_000_000),
        "{user}::{item}::{rating}::{time}",
    ),
    _plain(
        "LibimSeTi: users rate the profiles of users",
        "ratings.dat",
        "http://www.occamslab.com/petricek/data/",
        _rated(_numbers(1, 135_359, 12), _numbers(1, 220_970, 20), "1 2 4 5 6 7 8 9 10 10"),
        "{user},{item},{rating}",
    ),
    _beer_advocate(),
    _food_com(),
    _restaurants(),
    _plain(
        "Yahoo! Music R3",
        "ydata-ymusic-rating-study-v1_0-train.txt",
        "https://webscope.sandbox.yahoo.com/catalog.php?datatype=r&did=3",
        _rated(_numbers(1, 15_400, 12), _numbers(1, 1_000, 20), "1 2 3 4 5"),
        "{user}\t{item}\t{rating}",
    ),
    _plain(
        "Yahoo! Music R1: 255 is never play again",
        "ydata-ymusic-user-artist-ratings-v1_0.txt",
        "https://webscope.sandbox.yahoo.com/catalog.php?datatype=r&did=1 (readme.txt)",
        _rated(_numbers(1, 1_948_882, 12), _numbers(1_000_001, 1_100_000, 20), "0 30 50 70 90 90 100 100 255"),
        "{user}\t{item}\t{rating}",
    ),
    _steam_200k(),
    _douban(),
    _kuairec(),
    _jester_ratings(),
    _plain(
        "MovieLens 1M (KONECT)",
        "out.movielens-1m",
        "http://konect.cc/networks/movielens-1m/",
        _rated(_numbers(1, 6_040, 12), _numbers(1, 3_706, 20), "1 2 3 4 5", start=956_703_932),
        "{user} {item} {rating} {time}",
        before=["% bip weighted"],
    ),
    _plain(
        "Epinions, signed links (SNAP): only the values -1 and 1",
        "soc-sign-epinions.txt",
        "https://snap.stanford.edu/data/soc-sign-epinions.html",
        _rated(_numbers(0, 131_827, 12), _numbers(0, 131_827, 20), "-1 1 1 1"),
        "{user}\t{item}\t{rating}",
        before=[
            "# Directed graph: soc-sign-epinions",
            "# Epinions signed social network",
            "# Nodes: 131828 Edges: 841372",
            "# FromNodeId\tToNodeId\tSign",
        ],
    ),
    _bitcoin_otc(),
    _netflix(),
    _jester_matrix(),
)
