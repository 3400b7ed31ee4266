from dataclasses import dataclass, field

import pytest

from ratinglab.errors import UserError, did_you_mean
from ratinglab.options import above, above_zero_to, at_least, check_options, from_zero_below


@dataclass
class Inner:
    rate: float = field(metadata=above(0))


@dataclass
class Outer:
    count: int = field(metadata=at_least(1))
    fraction: float = field(metadata=from_zero_below(1))
    share: float = field(metadata=above_zero_to(1))
    limit: float | None = field(metadata=above(0))
    inner: Inner

    def check_together(self) -> None:
        if self.count * self.share > 5:
            raise UserError("count · share is too much")


def outer(count: int = 1, fraction: float = 0.0, share: float = 1.0, limit: float | None = None, rate: float = 1.0):
    return Outer(count=count, fraction=fraction, share=share, limit=limit, inner=Inner(rate=rate))


def test_bounds_that_belong_to_a_range_pass():
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
def test_a_value_out_of_range_is_named_with_its_key_and_rule(changed, message):
    with pytest.raises(UserError) as error:
        check_options(outer(**changed))
    assert str(error.value) == message


def test_rules_between_fields_come_after_the_fields_own():
    with pytest.raises(UserError, match="too much"):
        check_options(outer(count=6))
    with pytest.raises(UserError, match="share must be"):
        check_options(outer(count=6, share=2.0))


def test_did_you_mean_names_a_near_name_only():
    assert did_you_mean("embeding_dim", ["embedding_dim", "lr"]) == "; did you mean embedding_dim?"
    assert did_you_mean("missing.csv", ["inf.csv"], cutoff=0.75) == ""
