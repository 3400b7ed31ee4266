"""Learning-rate schedules."""

import pytest
import torch

from ratinglab.fitting.schedules import ConstantSchedule, CosineSchedule, ExponentialSchedule


def factors(schedule, max_epochs=5):
    return [schedule.factor(epoch, max_epochs) for epoch in range(max_epochs)]


def test_cosine_is_that_of_torch_and_trains_in_the_last_epoch_too():
    lr = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(lr, T_max=5, eta_min=0.2)
    expected = []
    for _ in range(5):
        expected += peer.get_last_lr()
        lr.step()
        peer.step()
    assert factors(CosineSchedule(final_fraction=0.2)) == pytest.approx(expected)
    assert factors(CosineSchedule(final_fraction=0.0))[-1] == pytest.approx(0.0955, abs=1e-4)


def test_cosine_of_one_epoch_trains_at_the_full_rate():
    assert factors(CosineSchedule(final_fraction=0.0), max_epochs=1) == [1.0]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ConstantSchedule(), [1, 1, 1, 1]),
        (ExponentialSchedule(decay=0.1), [1, 0.1, 0.01, 0.001]),
        # cosines of 0°, 45°, 90° and 135°
        (CosineSchedule(final_fraction=0.2), [1, 0.6 + 0.4 / 2**0.5, 0.6, 0.6 - 0.4 / 2**0.5]),
    ],
)
def test_factors_over_the_epochs_are_those_computed_by_hand(schedule, expected):
    assert factors(schedule, max_epochs=4) == pytest.approx(expected)
