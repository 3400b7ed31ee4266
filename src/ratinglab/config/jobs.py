"""Jobs of a sweep, each as a list of overrides."""

import itertools
import math
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import IntervalSweep, Override

MANY = 24
"""Maximum number of jobs that are all checked; composing takes 0.1 s per job. Larger sweeps check each value once."""


def first_job(overrides: Sequence[Override]) -> list[str]:
    """Return the overrides with the first value of each key."""
    return next(jobs_to_check(overrides))


def jobs_to_check(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """Yield every job of a sweep; beyond MANY jobs, the first one and all that differ from it in one key.

    If a key is given twice, the last one counts.
    """
    values = {override.get_key_element(): _values(override) for override in overrides}
    if math.prod(map(len, values.values())) <= MANY:
        yield from _combinations(values)
        return
    yield from _combinations({key: those[:1] for key, those in values.items()})
    for key in values:
        jobs = _combinations({other: those if other == key else those[:1] for other, those in values.items()})
        yield from itertools.islice(jobs, 1, None)


def _combinations(values: dict[str, list[str]]) -> Iterator[list[str]]:
    for combination in itertools.product(*values.values()):
        yield [f"{key}={value}" for key, value in zip(values, combination, strict=True)]


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    interval = override.value()  # a search draws from it: check its two ends
    assert isinstance(interval, IntervalSweep)
    return [str(interval.start), str(interval.end)]
