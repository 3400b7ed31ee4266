"""Metrics: values, and lookup by name."""

import sys
from types import SimpleNamespace

import pytest
import torch

from ratinglab.batches import EVALUATION_BLOCK_ROWS
from ratinglab.errors import UserError
from ratinglab.evaluation.metrics import METRICS, MSE, Metric, find_metrics, pooled_mean

PREDICTED, RATING = torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])


def test_metrics_equal_values_computed_by_hand():
    found = {name: metric.compute(PREDICTED, RATING) for name, metric in METRICS.items()}
    assert found == pytest.approx({"mse": 5.25, "rmse": 5.25**0.5, "mae": (0 + 1 + 2 + 4) / 4})


def test_metrics_pool_rows_instead_of_averaging_blocks():
    error = torch.cat([torch.zeros(EVALUATION_BLOCK_ROWS), torch.ones(1)])
    assert pooled_mean(error, torch.square) == pytest.approx(1 / (EVALUATION_BLOCK_ROWS + 1))


def test_sums_are_accumulated_in_float64():
    one_error = float(torch.tensor(0.1))
    mse = MSE.compute(torch.full((300_000,), 0.1), torch.zeros(300_000))
    assert mse == pytest.approx(one_error**2, rel=1e-12)


@pytest.mark.parametrize("threads", [2, 4])
def test_metrics_do_not_depend_on_the_number_of_threads(threads):
    random = torch.Generator().manual_seed(0)
    num_rows = 3 * EVALUATION_BLOCK_ROWS + 7
    rows = torch.randn(num_rows, generator=random), torch.randn(num_rows, generator=random)
    before, one = torch.get_num_threads(), {}
    for count in (1, threads):
        torch.set_num_threads(count)
        one[count] = [metric.compute(*rows) for metric in METRICS.values()]
    torch.set_num_threads(before)
    assert one[1] == one[threads]


WITHIN = Metric(
    "within_half",
    label="within ½",
    higher_is_better=True,
    compute=lambda predicted, rating: float(((predicted - rating).abs() <= 0.5).double().mean()),
)


@pytest.fixture
def own(monkeypatch):
    """Provide a module my_metrics, as in a user's own file."""
    content = SimpleNamespace(within_half=WITHIN, no_metric=3, again=Metric("mse", "x", False, MSE.compute))
    monkeypatch.setitem(sys.modules, "my_metrics", content)


def test_find_metrics_keeps_the_order_of_names(own):
    assert find_metrics(["rmse", "my_metrics.within_half", "mse"]) == [METRICS["rmse"], WITHIN, MSE]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["mse", "rsme"],
            "metrics: unknown metric rsme: choose from mse, rmse, mae, or MODULE.NAME of your own; did you mean rmse?",
        ),
        (["mse", "x.y"], "metrics: there is no module x; "),
        (["mse", "my_metrics.within"], "metrics: my_metrics has no within; did you mean within_half?"),
        (["mse", "my_metrics.no_metric"], "metrics: my_metrics.no_metric must be a Metric, got int"),
        (["mse", "rmse", "mse"], "metrics: mse is listed twice"),
        (["mse", "my_metrics.again"], "metrics: mse is listed twice"),
        (["rmse", "mae"], "metrics must contain the built-in mse, got [rmse,mae]"),
        ([], "metrics must contain the built-in mse, got []"),
        (["mse", "."], "metrics: "),
        (["mse", ".x"], "metrics: "),
        (["mse", "..x"], "metrics: "),
        (["mse", "my_metrics..x"], "metrics: "),
    ],
)
def test_unknown_metric_name_gives_a_one_line_error(own, names, message):
    with pytest.raises(UserError) as error:
        find_metrics(names)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
