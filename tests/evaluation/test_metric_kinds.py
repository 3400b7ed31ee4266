"""Kinds of metrics: direction, and the monitored metric by name."""

import pytest

from ratinglab.errors import UserError
from ratinglab.evaluation.metric_kinds import MetricAtK, MetricKind, find_monitored_metric, parse_metric_at_k

MSE = MetricKind("mse", label="MSE", higher_is_better=False)
WITHIN = MetricKind("within_half", label="within ½", higher_is_better=True)


def test_is_better_follows_the_direction_of_the_metric():
    assert WITHIN.is_better(0.6, than=0.5)
    assert not WITHIN.is_better(0.5, than=0.5)
    assert not WITHIN.is_better(0.4, than=0.5)
    assert MSE.is_better(0.4, than=0.5)
    assert not MSE.is_better(0.5, than=0.5)
    assert not MSE.is_better(0.6, than=0.5)
    for metric in (WITHIN, MSE):
        assert metric.is_better(0.0, than=metric.worst)
        assert not metric.is_better(metric.worst, than=0.0)


def test_monitor_must_be_a_validation_metric():
    metrics = [MSE, WITHIN]
    assert find_monitored_metric("val/mse", metrics) is MSE
    assert find_monitored_metric("val/within_half", metrics) is WITHIN
    for monitor, message in (
        ("val/within_hlf", "; did you mean val/within_half?"),
        ("val/mes", "; did you mean val/mse?"),
        ("mse", ""),
        ("val/mae", ""),
    ):
        with pytest.raises(UserError) as error:
            find_monitored_metric(monitor, metrics)
        lists = ", ".join(f"val/{name}@K" for name in ("precision", "recall", "ndcg", "map", "mrr", "hit_rate"))
        start = f"monitor must be one of val/mse, val/within_half, {lists}, got {monitor}"
        assert str(error.value).startswith(start + message)


def test_monitor_can_be_a_metric_of_lists_of_any_length():
    found = find_monitored_metric("val/hit_rate@25", [MSE])
    assert found == MetricAtK("hit_rate@25", "hit rate@25", higher_is_better=True, base_name="hit_rate", k=25)
    again = find_monitored_metric("val/hit_rate@25", [MSE])
    assert len({found, again}) == 1  # sweeps collect them in sets


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("val/ndcg@0", "monitor: the k after @ must be an integer of at least 1, got val/ndcg@0"),
        ("val/ndcg@-1", "monitor: the k after @ must be an integer of at least 1, got val/ndcg@-1"),
        ("val/ndcg@05", "monitor: the k after @ must be an integer of at least 1, got val/ndcg@05"),
        ("val/map@ten", "monitor: the k after @ must be an integer of at least 1, got val/map@ten"),
        ("val/ndgc@10", ", got val/ndgc@10; did you mean val/ndcg@10?"),
        ("val/ndgc@5", ", got val/ndgc@5; did you mean val/ndcg@5?"),
        ("val/ndcg", ", got val/ndcg; did you mean val/ndcg@10?"),
        ("val/coverage@10", ", got val/coverage@10"),
        ("val/novelty@10", ", got val/novelty@10"),
        ("test/ndcg@10", ", got test/ndcg@10"),
        ("ndcg@10", ", got ndcg@10"),
    ],
)
def test_wrong_metrics_of_lists_give_a_one_line_error(monitor, message):
    with pytest.raises(UserError) as error:
        find_monitored_metric(monitor, [MSE])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ndcg@10", ("ndcg", 10)),
        ("map@1", ("map", 1)),
        ("ndcg@0", None),
        ("coverage@9", None),
        ("rmse", None),
    ],
)
def test_name_of_a_metric_of_lists(name, expected):
    found = parse_metric_at_k(name)
    assert (None if found is None else (found.base_name, found.k)) == expected


def test_label_of_a_metric_of_lists():
    assert parse_metric_at_k("hit_rate@5").label == "hit rate@5"
