"""Requests to the server with an odd value, key or byte."""

import copy
import json

import numpy as np

VALID = {
    "predict": {"pairs": [{"user_id": 0, "item_id": 1}, {"user_id": "1", "item_id": "2"}]},
    "recommend": {
        "user_id": 0, "k": 3, "candidates": [1, 2, 3], "exclude_seen": True, "unknown": "error", "why": 1,
        "by": "prediction", "threshold": 3.5,
    },
    "fold_in": {
        "ratings": {"0": 5, "Alien (1979)": 2}, "k": 2, "candidates": [4, 5], "why": 1, "item_ids": [1],
        "by": "lower_bound", "threshold": 3,
    },
    "similar": {"item": "Alien (1979)", "k": 2, "candidates": [4, 5, 6]},
}  # fmt: skip
"""A valid body of each path."""
ODD = [
    None, True, -1, 0, 1.5, 1e308, -1e308, 2**31, 2**63, 2**64, 10**400, -(10**400), float("nan"), float("inf"), "",
    " ", "\x00", "\n", "\u2028", "\ud800", "'", '"; DROP TABLE', "é" * 600, "[", "NaN", "-0", "1e5", "٣", [], {}, [[]],
    [None], [{}], {"": None}, {"a": {"a": {"a": 1}}}, [[[[[[[[1]]]]]]]], list(range(200)), {"0": 5},
]  # fmt: skip
"""Values for places in a request where they make no sense, or barely."""


def odd_request(random: np.random.Generator) -> tuple[str, bytes]:
    """Return the path and the content of a request with one or two odd values, keys or bytes."""
    path = str(random.choice(list(VALID)))
    body = copy.deepcopy(VALID[path])
    for _ in range(random.integers(1, 3)):
        spoil(body, random)
    content = bytearray(json.dumps(body).encode())
    if random.random() < 0.2:
        content[random.integers(len(content))] = random.integers(256)
    elif random.random() < 0.1:
        del content[random.integers(len(content)) :]
    return path, bytes(content)


def spoil(body, random) -> None:
    """Change a value, remove a key, or add one, at a random place."""
    place = body
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = keys[random.integers(len(keys))] if len(keys) > 0 else None
        inner = None if key is None else place[key]
        if not (isinstance(inner, dict | list) and inner) or random.random() < 0.3:
            break
        place = inner
    change = random.integers(4)
    if key is None or (change == 0 and isinstance(place, dict)):
        odd = ODD[random.integers(len(ODD))]
        _ = place.update({str(odd): odd}) if isinstance(place, dict) else place.append(odd)
    elif change == 1:
        del place[key]
    else:
        place[key] = ODD[random.integers(len(ODD))]
