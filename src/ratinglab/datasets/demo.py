"""The demo data: synthetic ratings with a known lowest possible MSE."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratinglab.files import to_json, write_bytes
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.ratings.side_information import Origin
from ratinglab.reading.feature_tables import FeatureFile, FeatureLayout
from ratinglab.reading.source_rows import DataFiles

VERSION = 2
"""Part of the folder's name; increment with any change to the generator."""

NUM_USERS, NUM_ITEMS, NUM_RATINGS = 1_000, 1_700, 100_000
RANK = 4
"""Latent dimensions of the true ratings."""
MEAN, USER_BIAS_STD, ITEM_BIAS_STD = 3.3, 0.35, 0.45
"""Mean and standard deviations of the biases of the true ratings, in stars."""
INTERACTION_STD = 0.75
"""Standard deviation of the dot product of a user's and an item's true factors, in stars."""
NOISE_STD = 0.55
"""Standard deviation of the noise on a true rating before rounding, in stars."""
LOWEST, HIGHEST, STEP = 0.5, 5.0, 0.5
"""The rating scale, in stars."""

ADJECTIVES = (
    "Amber Ancient Bitter Borrowed Brave Broken Burning Careful Crimson Crooked Distant Drifting Electric "
    "Endless Faithful Fading Forgotten Frozen Gentle Gilded Hidden Hollow Honest Hungry Invisible Last Little "
    "Lonely Lucky Midnight Nameless Northern Paper Patient Perfect Quiet Reckless Restless Rising Salted "
    "Second Secret Silent Silver Sleepless Stolen Stubborn Sudden Tender Thirteenth Unfinished Velvet "
    "Wandering Wild"
).split()
NOUNS = (
    "Archive Autumn Balcony Bridge Carnival Cartographer Choir Clockmaker Comet Corridor Detective Empire "
    "Ferry Garden Ghost Harbour Highway Horizon Island Journey Kingdom Lantern Library Lighthouse Machine "
    "Mirror Mountain Orchard Orchestra Passenger Pilot Promise Queen Railway Rebellion River Satellite "
    "Scientist Season Shadow Signal Stranger Summer Telegram Theatre Tiger Tower Treasure Village Violin "
    "Voyage Waltz Winter"
).split()


def make_demo_files(cache: Path, *, seed: int) -> DataFiles:
    """Return the demo files of a seed in the cache folder. Generates them if they are missing."""
    folder = cache / f"demo-v{VERSION}-seed{seed}"
    facts = folder / "facts.json"
    if not facts.exists():  # written last; runs that write at the same time write identical files
        folder.mkdir(parents=True, exist_ok=True)
        generated = generate(seed)
        write_bytes(folder / "ratings.csv", generated.ratings.to_csv(index=False).encode())
        write_bytes(folder / "items.csv", generated.items.to_csv(index=False).encode())
        write_bytes(facts, to_json({"noise_floor_mse": generated.noise_floor}))
    dialect = TextDialect(separator=",", encoding="utf-8")
    columns = ColumnOptions(user="user_id", item="item_id", rating="rating", timestamp="timestamp")
    return DataFiles(
        name="demo",
        ratings=(InputFile(folder / "ratings.csv"),),
        dialect=dialect,
        columns=columns,
        users=FeatureFile(Origin("user", "", "the demo data have none")),
        items=FeatureFile(
            Origin("item", "items.csv", ""),
            InputFile(folder / "items.csv"),
            FeatureLayout(dialect, id="item_id", title="title"),
        ),
        noise_floor=json.loads(facts.read_text(encoding="utf-8"))["noise_floor_mse"],
    )


class SyntheticTable(NamedTuple):
    """A synthetic table and its ground truth.

    Attributes:
        ratings: user_id, item_id, rating and timestamp (Unix seconds).
        items: item_id and title.
        true_rating: (N,) float64, the ratings before noise, rounding and clipping.
        noise_floor: expected MSE of a model that knows every true rating, including rounding and clipping.
    """

    ratings: pd.DataFrame
    items: pd.DataFrame
    true_rating: NDArray[np.float64]
    noise_floor: float


def generate(seed: int) -> SyntheticTable:
    """Generate ratings with known noise.

    true rating  t_ui = MEAN + b_u + b_i + p_u · q_i,  p and q of RANK dimensions
    rating       r_ui = t_ui + Normal(0, NOISE_STD²), rounded to half stars and clipped to the scale
    """
    random = np.random.default_rng(seed)
    user, item = _draw_pairs(random)
    factor_std = math.sqrt(INTERACTION_STD) / RANK**0.25
    user_factor = random.normal(0, factor_std, (NUM_USERS, RANK))
    item_factor = random.normal(0, factor_std, (NUM_ITEMS, RANK))
    true_rating = (
        MEAN
        + random.normal(0, USER_BIAS_STD, NUM_USERS)[user]
        + random.normal(0, ITEM_BIAS_STD, NUM_ITEMS)[item]
        + (user_factor[user] * item_factor[item]).sum(axis=1)
    )
    noisy = true_rating + random.normal(0, NOISE_STD, len(user))
    start, end = 946_684_800, 1_577_836_800  # the years 2000 to 2019
    ratings = pd.DataFrame(
        {
            "user_id": user + 1,
            "item_id": item + 1,
            "rating": np.clip(np.round(noisy / STEP) * STEP, LOWEST, HIGHEST),
            "timestamp": random.integers(start, end, len(user)),
        }
    )
    items = pd.DataFrame({"item_id": np.arange(1, NUM_ITEMS + 1), "title": _make_titles(random)})
    return SyntheticTable(ratings, items, true_rating, compute_noise_floor(true_rating))


def _draw_pairs(random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw distinct user-item pairs in random order, long-tailed in both: (NUM_RATINGS,) indices each."""
    activity = random.lognormal(0, 0.8, NUM_USERS)
    popularity = (np.arange(NUM_ITEMS) + 20.0) ** -0.9
    random.shuffle(popularity)
    # The NUM_RATINGS highest values of log weight + Gumbel noise are a sample without replacement by weight.
    log_weight = np.log(activity)[:, None] + np.log(popularity)[None, :]
    keys = log_weight + random.gumbel(size=(NUM_USERS, NUM_ITEMS))
    # Sort, because the order of argpartition differs between processors.
    pairs = np.sort(np.argpartition(keys.ravel(), -NUM_RATINGS)[-NUM_RATINGS:])
    random.shuffle(pairs)
    return pairs // NUM_ITEMS, pairs % NUM_ITEMS


def _make_titles(random: np.random.Generator) -> list[str]:
    pairs = random.permutation(len(ADJECTIVES) * len(NOUNS))[:NUM_ITEMS]
    years = random.integers(1950, 2020, NUM_ITEMS)
    return [
        f"The {ADJECTIVES[pair // len(NOUNS)]} {NOUNS[pair % len(NOUNS)]} ({year})"
        for pair, year in zip(pairs, years, strict=True)
    ]


def compute_noise_floor(true_rating: NDArray[np.float64]) -> float:
    """Average Var[r | t] over the rows, from the probabilities of the ten values of the scale.

    true_rating: (N,) float64, in stars → squared stars
    """
    values = np.arange(LOWEST, HIGHEST + STEP / 2, STEP)
    borders = np.concatenate([[-np.inf], (values[:-1] + values[1:]) / 2, [np.inf]])
    erf = np.vectorize(math.erf, otypes=[np.float64])
    below = 0.5 * (1 + erf((borders[None, :] - true_rating[:, None]) / NOISE_STD / math.sqrt(2)))  # the normal CDF
    probability = np.diff(below, axis=1)
    expected = probability @ values
    variance = probability @ values**2 - expected**2
    return float(variance.mean())
