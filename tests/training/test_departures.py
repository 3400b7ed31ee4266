"""Departures of a run from its protocol."""

import pytest
from documented import options_of
from tables import table_of

from ratinglab.splits.random_rows import RandomSplitOptions
from ratinglab.training.new_record import describe_departures


def split_of(*, validation=0.0):
    table = table_of([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [1, 2, 3, 4, 5])
    return RandomSplitOptions(refit=False, seed=0, validation=validation, test=0.2).apply(table)


def departures_of(options, *, data_digest=None, side_digests=None, split=None):
    """List the departures of a run, by default on the protocol's data."""
    protocol = options.protocol
    return list(
        describe_departures(
            options,
            data_digest=protocol.data_digest if data_digest is None else data_digest,
            side_digests=protocol.side_digests if side_digests is None else side_digests,
            split=split or split_of(),
        )
    )


def test_missing_pinned_key_of_another_split_is_a_departure():
    options = options_of("train", "protocol=movielens_u1")
    options.split = options_of("train").split
    assert departures_of(options) == [
        "split.name is random, but the protocol requires movielens_u",
        "split.fold is not set, but the protocol requires 1",
    ]


SIDE = {"times": "t", "item_features.genres": "g"}


@pytest.mark.parametrize(
    ("changed", "departure"),
    [
        ({"times": "other"}, ["the timestamps differ from the protocol's"]),
        ({"item_features.genres": "other"}, ["the item feature genres differs from the protocol's"]),
        ({"user_features.zip_code": "z"}, ["the protocol does not pin the user feature zip_code"]),
        ({}, []),
    ],
)
def test_other_times_or_features_are_a_departure(changed, departure):
    options = options_of("train", "protocol=movielens_u1")
    options.protocol.side_digests = SIDE
    assert departures_of(options, side_digests=SIDE | changed) == departure
    assert departures_of(options, side_digests={}) == []


@pytest.mark.parametrize(
    ("overrides", "held_out", "digest", "departure"),
    [
        (["split.fold=2"], 0.0, None, "split.fold is 2, but the protocol requires 1"),
        (["clip_predictions=false"], 0.0, None, "clip_predictions is False, but the protocol requires True"),
        ([], 0.2, None, "1 rows were held out for validation and not trained on"),
        ([], 0.0, "other", "the ratings or their order differ from the protocol's"),
    ],
)
def test_other_settings_rows_or_ratings_are_a_departure(overrides, held_out, digest, departure):
    options = options_of("train", "protocol=movielens_u1", *overrides)
    split = split_of(validation=held_out)
    assert departures_of(options, data_digest=digest, split=split)[0] == departure
    options.split.refit = True
    if held_out:
        assert departures_of(options, split=split) == []


def test_validation_rows_that_the_protocol_holds_out_are_no_departure():
    options = options_of("train", "protocol=movielens_u1")
    split = split_of(validation=0.2)
    assert departures_of(options, split=split) != []
    options.protocol.pins["split.validation"] = options.split.validation = 0.2
    assert departures_of(options, split=split) == []


def test_other_number_of_ratings_is_a_departure():
    options = options_of("train", "protocol=movielens_20m_held_out_users", "recipe=ease")
    assert departures_of(options, data_digest="any") == ["there are 5 ratings, but the protocol has 9,990,682"]
    other = options_of("train", "protocol=movielens_20m_held_out_users", "recipe=ease", "data=demo", "split.seed=0")
    assert departures_of(other, data_digest="any")[:2] == [
        "data.name is demo, but the protocol requires movielens_20m",
        "split.seed is 0, but the protocol requires 98765",
    ]
