"""JSON requests and responses of the server. Mistakes are worded as on the command line."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from ratinglab.commands.recommend_command import NUM_REASONS
from ratinglab.errors import did_you_mean

MAX_TEXT = 500
"""Maximum length of an id, title or query, in characters."""
MAX_VALUE_TEXT = 60
"""Maximum length of a value in a message, in characters."""
MIN_INEXACT = 2**53
"""Integers from here on are not exact in JavaScript."""
OWN_ERROR = "own"
"""Type of the errors whose messages are worded here, not by pydantic."""
MESSAGES = {
    "missing": "must be given",
    "too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be one of {expected}",
    "float_type": "must be a number",
    "number_or_nan": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be an integer"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be an object"),
}
"""Text of messages after the key, by pydantic's type of error; braces hold pydantic's values."""


def _check_id(value: Any) -> int | str:
    """Check an id, which may be an integer or text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PydanticCustomError(OWN_ERROR, "must be an integer or text")
    if len(str(value)) > MAX_TEXT:
        raise PydanticCustomError(OWN_ERROR, f"must have at most {MAX_TEXT} characters")
    return value


def _parse_time(value: Any) -> datetime:
    """Parse an ISO timestamp. A timestamp without a time zone is in UTC."""
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise PydanticCustomError(OWN_ERROR, "must be a time such as 1998-04-04T12:30:00") from error


def _parse_number_of_reasons(value: Any) -> Any:
    """Convert true and false, as on the command line, to numbers of reasons. Leaves other values to pydantic."""
    return NUM_REASONS * value if isinstance(value, bool) else value


def _exact_in_javascript(value: int | str) -> int | str:
    return str(value) if isinstance(value, int) and abs(value) >= MIN_INEXACT else value


Id = Annotated[
    int | str,
    BeforeValidator(_check_id),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": MAX_TEXT}]}),
]
"""An id as in the data; 42 and "42" are the same."""
IdInResponse = Annotated[int | str, PlainSerializer(_exact_in_javascript)]
"""An id as in the data; integers from 2^53 are text, since JavaScript would round them."""
Time = Annotated[
    datetime, BeforeValidator(_parse_time), WithJsonSchema({"type": "string", "examples": ["1998-04-04T12:30:00"]})
]
Rating = Annotated[float, Field(allow_inf_nan=False)]
NumItems = Annotated[int, Field(ge=1, description="Maximum number of items.", examples=[10])]
Candidates = Annotated[
    list[Id] | None, Field(description="Ids of the items to choose from. null means all items with training ratings.")
]
StandardDeviation = Annotated[
    float | None,
    Field(
        description="Standard deviation of the rating around its prediction, in rating units. It is null for a user "
        "or an item without training ratings, and for known users of a run without samples."
    ),
]
Title = Annotated[str | None, Field(description="Title, or null if the data had none.")]


OTHER_NAMES = {"items": "candidates", "ranking.by": "by", "q": "query", "k": "limit"}
"""Keys by the names that users may know instead, from the command line or from other searches, and that differ much."""


class RequestModel(BaseModel):
    """Base class of requests, with strict types and without unknown keys."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def refuse_unknown_keys(cls, values: Any) -> Any:
        """Refuse unknown keys; the message has the nearest valid key."""
        for key in values if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                known = OTHER_NAMES.get(key)
                by_similarity = did_you_mean(key[:MAX_TEXT], cls.model_fields)
                hint = f"; did you mean {known}?" if known in cls.model_fields else by_similarity
                raise PydanticCustomError("unknown_key", "{hint}", {"key": key, "hint": hint})
        return values


class Pair(RequestModel):
    """A user and an item and, for a model that uses days, the timestamp of the rating."""

    user_id: Id = Field(description="User id, as in the data.", examples=[42])
    item_id: Id = Field(description="Item id, as in the data.", examples=[50])
    time: Time | None = Field(
        default=None, description="Timestamp of the rating. null means the user's last day with training ratings."
    )


class PredictRequest(RequestModel):
    """Pairs whose ratings to predict."""

    pairs: list[Pair] = Field(min_length=1, description="At most max_pairs. Either all pairs have a time or none has.")


class Prediction(BaseModel):
    """A predicted rating."""

    user_id: IdInResponse
    item_id: IdInResponse
    prediction: float = Field(description="In rating units, clipped to the rating scale.")
    standard_deviation: StandardDeviation = None
    basis: str = Field(
        description="known, or the side without training ratings: user_unknown, item_unknown, both_unknown."
    )


class PredictResponse(BaseModel):
    """Predictions, in the order of the pairs."""

    predictions: list[Prediction]


class ListRequest(RequestModel):
    """Settings of a list of recommended items."""

    k: NumItems = 10
    candidates: Candidates = None
    exclude_seen: bool = Field(default=True, description="Whether to leave out items that the user has rated.")
    by: Literal["expected_gain", "prediction", "lower_bound"] = Field(
        default="expected_gain",
        description="Order of the list. expected_gain: the user's interest in the item, estimated from implicit "
        "feedback, times the probability of a rating of at least `threshold`; prediction: the predicted rating; "
        "lower_bound: the prediction minus its standard deviation, which known users have only in runs with samples.",
    )
    threshold: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Lowest rating that counts as liked. null means 4 on a scale of 1 to 5, or the equivalent.",
    )
    why: Annotated[int, BeforeValidator(_parse_number_of_reasons)] = Field(
        default=0,
        ge=0,
        le=20,
        description="Number of the user's own ratings, named with each item, that moved its prediction most. true "
        f"means {NUM_REASONS}, false means 0.",
    )


class RecommendRequest(ListRequest):
    """A known user to recommend items to."""

    user_id: Id = Field(description="User id, as in the data.", examples=[42])
    unknown: Literal["error", "baseline"] = Field(
        default="error",
        description="How to treat a user without training ratings: an error, or the bias baseline's list or, if the "
        "run predicts scores, the most popular items.",
    )


class Reason(BaseModel):
    """A rating of the user's that moved the prediction of a recommended item."""

    item_id: IdInResponse
    title: Title = None
    rating: float = Field(description="The user's rating.")
    change: float = Field(
        description="Prediction with this rating minus prediction without it, in rating units, before clipping, with "
        "item weights and noise fixed."
    )


class Recommended(BaseModel):
    """A recommended item."""

    rank: int = Field(description="From 1, the best.")
    item_id: IdInResponse
    title: Title = None
    prediction: float | None = Field(
        default=None, description="Predicted rating, clipped to the rating scale, or null if the run predicts scores."
    )
    score: float | None = Field(
        default=None, description="Score that orders the list, not a rating, or null if the run predicts ratings."
    )
    standard_deviation: StandardDeviation = None
    why: list[Reason] = Field(description="The user's own ratings that moved the prediction most; [] if `why` was 0.")


class RecommendResponse(BaseModel):
    """Recommended items, best first."""

    recommended: list[Recommended]


class FoldInRequest(ListRequest):
    """Ratings of a user whom the run has never seen, or further ratings of a known one."""

    ratings: dict[Annotated[str, Field(max_length=MAX_TEXT)], Rating] = Field(
        min_length=1,
        description="Rating of each item, by id or title. At most max_ratings.",
        examples=[{"50": 5, "Toy Story (1995)": 4}],
    )
    user_id: Id | None = Field(default=None, description="Id of the known user who adds these ratings, if any.")
    item_ids: list[Id] = Field(default=[], description="Items whose ratings to predict, besides the recommended ones.")


class ItemPrediction(BaseModel):
    """A predicted rating of the user whose ratings were given."""

    item_id: IdInResponse
    prediction: float = Field(description="In rating units, clipped to the rating scale.")
    standard_deviation: StandardDeviation = None
    basis: str = Field(description="folded_in, or item_unknown if the item has no training ratings.")


class FoldInResponse(BaseModel):
    """Recommended items, best first, and predictions in the order of item_ids."""

    recommended: list[Recommended]
    predictions: list[ItemPrediction]


class SimilarRequest(RequestModel):
    """An item to find similar ones to."""

    item: Id = Field(description="Id or title.", examples=["Toy Story (1995)"])
    k: NumItems = 10
    candidates: Candidates = None


class Similar(BaseModel):
    """A similar item."""

    rank: int = Field(description="From 1, the most similar.")
    item_id: IdInResponse
    title: Title = None
    similarity: float = Field(description="Similarity of the two items' factors, from −1 to 1.")
    standard_deviation: float | None = Field(
        default=None, description="Standard deviation of the similarity over the samples. null without samples."
    )
    shared_raters: int = Field(description="Number of users who rated both.")


class Item(BaseModel):
    """An item with training ratings."""

    item_id: IdInResponse
    title: Title = None
    num_ratings: int = Field(description="Number of training ratings.")


class SimilarResponse(BaseModel):
    """The item that was found, and similar ones, the most similar first."""

    item: Item
    similar: list[Similar]


class ItemsRequest(RequestModel):
    """A search for items by title or id."""

    model_config = ConfigDict(strict=False)  # query values are text

    query: str = Field(
        default="", max_length=MAX_TEXT, description="Words of a title, or an id. An empty query finds items to rate."
    )
    limit: int = Field(default=20, ge=1, le=100, description="Number of items.")
    offset: int = Field(default=0, ge=0, le=1_000_000, description="Number of items to skip.")


class ItemsResponse(BaseModel):
    """Items, the best match first; without a query, items with many and differing ratings come first."""

    items: list[Item]
    more: bool = Field(description="Whether further items match.")


class RatingScale(BaseModel):
    """The ratings that occur in the run's data."""

    lowest: float
    highest: float
    step: float = Field(description="Distance between two ratings; for continuous ratings, a hundredth of the range.")


class Health(BaseModel):
    """The run that answers."""

    status: Literal["ok"]
    run: str = Field(description="Folder of the run.")
    data: str = Field(description="Digest of the run's ratings.")
    model: str
    val_rmse: float | None
    test_rmse: float | None
    num_users: int = Field(description="Users with training ratings.")
    num_items: int = Field(description="Items with training ratings.")
    rating: RatingScale
    predicts_scores: bool = Field(description="Whether lists are ordered by scores, and no ratings are predicted.")
    is_sampled: bool = Field(description="Whether the run has samples, and therefore standard deviations.")
    loaded_at: datetime


class Mistake(BaseModel):
    """A mistake in a request, in one line."""

    detail: str = Field(examples=["k must be at least 1, got 0"])


def explain(errors: Sequence[Mapping[str, Any]]) -> str:
    """Convert the first of pydantic's errors to a line, worded as on the command line."""
    error = errors[0]
    place, kind, context = _format_place(error["loc"][1:]), error["type"], error.get("ctx", {})
    if kind == "unknown_key":
        return f"unknown key {_join(place, _shorten(context['key']))}{context['hint']}"
    fallback = error["msg"] if kind == OWN_ERROR else f"is invalid: {error['msg']}"
    message = MESSAGES[kind].format(**context) if kind in MESSAGES else fallback
    if kind == "literal_error":
        message = message.replace(" or ", ", ").replace("'", "")
    if kind == "string_too_long":
        message += f", got {len(error['input']):,}"
    elif kind not in ("missing", "too_short"):
        message += f", got {_shorten(json.dumps(error['input'], ensure_ascii=False, default=str))}"
    return f"{place or 'the body'} {message}"


def _format_place(location: Sequence[int | str]) -> str:
    """Format the place of a value: ("pairs", 3, "user_id") becomes pairs[3].user_id."""
    place = ""
    for part in location:
        if part != "[key]":
            place = f"{place}[{part}]" if isinstance(part, int) else _join(place, _shorten(part))
    return place


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_VALUE_TEXT else f"{text[:MAX_VALUE_TEXT]}…"
