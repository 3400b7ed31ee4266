"""Options dataclasses: ranges of fields, and conversion to and from JSON values."""

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

import pytest

from ratinglab.errors import UserError, did_you_mean
from ratinglab.options import (
    above,
    at_least,
    check_options,
    from_plain,
    to_plain,
)


@dataclass
class Inner:
    rate: float = field(metadata=above(0))


@dataclass
class Outer:
    count: int = field(metadata=at_least(1))
    fraction: float = field(metadata=at_least(0, below=1))
    share: float = field(metadata=above(0, at_most=1))
    limit: float | None = field(metadata=above(0))
    inner: Inner

    def check_together(self) -> None:
        if self.count * self.share > 5:
            raise UserError("count · share is too much")


def outer(count: int = 1, fraction: float = 0.0, share: float = 1.0, limit: float | None = None, rate: float = 1.0):
    return Outer(count=count, fraction=fraction, share=share, limit=limit, inner=Inner(rate=rate))


def test_inclusive_bounds_are_accepted():
    check_options(outer(count=1, fraction=0.0, share=1.0, limit=None, rate=1e-9))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"fraction": 1.0}, "fraction must be at least 0 and below 1, got 1.0"),
        ({"fraction": -0.1}, "fraction must be at least 0 and below 1, got -0.1"),
        ({"share": 0.0}, "share must be above 0 and at most 1, got 0.0"),
        ({"limit": 0.0}, "limit must be above 0, got 0.0"),
        ({"rate": 0.0}, "inner.rate must be above 0, got 0.0"),
        ({"rate": float("nan")}, "inner.rate must be above 0, got nan"),
        ({"rate": float("inf")}, "inner.rate must be above 0, got inf"),
    ],
)
def test_value_out_of_range_is_reported_with_key_and_rule(changed, message):
    with pytest.raises(UserError) as error:
        check_options(outer(**changed))
    assert str(error.value) == message


def test_rules_between_fields_are_checked_after_rules_of_fields():
    with pytest.raises(UserError, match="too much"):
        check_options(outer(count=6))
    with pytest.raises(UserError, match="share must be"):
        check_options(outer(count=6, share=2.0))


def test_did_you_mean_suggests_only_similar_names():
    assert did_you_mean("embeding_dim", ["embedding_dim", "lr"]) == "; did you mean embedding_dim?"
    assert did_you_mean("usr-0045A", ["usr-01045", "usr-0045a"]) == "; did you mean usr-0045a?"
    assert did_you_mean("missing.csv", ["inf.csv"], cutoff=0.75) == ""


class Color(Enum):
    red = "r"
    green = "g"


@dataclass
class Paint:
    name: ClassVar[str] = "paint"

    count: int = field(metadata=at_least(1))
    color: Color
    layers: list[str]
    share: float | None = field(metadata=above(0))


PAINT = Paint(count=2, color=Color.green, layers=["a", "b"], share=None)
PLAIN = {"count": 2, "color": "green", "layers": ["a", "b"], "share": None}


def test_options_survive_conversion_to_plain_values_and_back():
    assert to_plain(PAINT) == PLAIN
    assert from_plain(PLAIN, Paint) == PAINT


@pytest.mark.parametrize("key", ["colour", "name"])
def test_option_unknown_to_the_class_is_refused(key):
    with pytest.raises(UserError, match=rf"^Paint has no option {key}, which the run has$"):
        from_plain(PLAIN | {key: "red"}, Paint)


def test_unknown_enum_value_is_refused():
    with pytest.raises(KeyError, match="blue"):
        from_plain(PLAIN | {"color": "blue"}, Paint)


@pytest.mark.parametrize("key", ["count", "color"])
def test_option_missing_in_the_run_is_refused(key):
    plain = {name: value for name, value in PLAIN.items() if name != key}
    with pytest.raises(UserError, match=rf"^Paint has the option {key}, which the run does not have$"):
        from_plain(plain, Paint)
