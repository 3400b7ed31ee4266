import pytest

from ratinglab.fitting.schedules import ConstantSchedule, CosineSchedule, ExponentialSchedule


def factors(schedule, max_epochs=5):
    return [schedule.factor(epoch, max_epochs) for epoch in range(max_epochs)]


def test_constant_keeps_the_full_rate():
    assert factors(ConstantSchedule()) == [1.0] * 5


def test_exponential_multiplies_after_every_epoch():
    assert factors(ExponentialSchedule(decay=0.5)) == [1.0, 0.5, 0.25, 0.125, 0.0625]


def test_cosine_falls_from_1_to_the_final_fraction():
    found = factors(CosineSchedule(final_fraction=0.2))
    assert found == pytest.approx([1.0, 0.8828, 0.6, 0.3172, 0.2], abs=1e-4)


def test_cosine_of_one_epoch_trains_at_the_full_rate():
    assert factors(CosineSchedule(final_fraction=0.0), max_epochs=1) == [1.0]
