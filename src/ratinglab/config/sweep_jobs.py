"""The jobs of a sweep that are checked before the first one starts."""

import itertools
import math
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import IntervalSweep, Override

MAX_CHECKED_JOBS = 24
"""Maximum number of jobs that are all checked; composing takes 0.1 s per job. Larger sweeps check each value once."""


def jobs_to_check(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """Yield the overrides of every job of a sweep. If a key is given twice, the last one counts.

    Of more than MAX_CHECKED_JOBS jobs, yields the first one and all that differ from it in one key.
    """
    values = {override.get_key_element(): swept_values(override) for override in overrides}
    if math.prod(map(len, values.values())) <= MAX_CHECKED_JOBS:
        yield from _combinations(values)
        return
    first_values = {key: choices[:1] for key, choices in values.items()}
    yield from _combinations(first_values)
    for key, choices in values.items():
        yield from itertools.islice(_combinations(first_values | {key: choices}), 1, None)


def _combinations(values: dict[str, list[str]]) -> Iterator[list[str]]:
    for combination in itertools.product(*values.values()):
        yield [f"{key}={value}" for key, value in zip(values, combination, strict=True)]


def swept_values(override: Override) -> list[str]:
    """List the value of an override, or all values that it sweeps. For an interval, returns its two ends."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    return [str(interval.start), str(interval.end)]
