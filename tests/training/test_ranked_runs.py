"""Lists measured by train.py and evaluate.py, and runs whose best epoch they decide."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from documented import options_of
from equal_runs import assert_equal_runs
from run_folders import metrics_of

from ratinglab.errors import UserError
from ratinglab.evaluation.ranking import METRIC_LABELS
from ratinglab.fitting.validation import Validation
from ratinglab.inference.run import Run
from ratinglab.inference.run_tables import RunTables
from ratinglab.reports.groups import comparison_conditions
from ratinglab.reports.results import tabulate_lists
from ratinglab.runs.record import read_record
from ratinglab.training.training import build_lightning, train_run

LISTS = ["ranking.k=5", "ranking.threshold=4"]
QUICK = ["model=biased_mf", "trainer.max_epochs=4", "optimizer.lr=0.02", "model.embedding_dim=4"]
MONITORED = [*QUICK, "monitor=val/ndcg@5", "ranking.threshold=4", "logger=none"]
SYSTEMS = ("", "baseline/popularity/")


def curve_of(run) -> dict[str, list[float]]:
    with (run / "epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {tag: [float(row[tag]) for row in rows] for tag in rows[0]}


@pytest.fixture(scope="module")
def monitored(command, tmp_path_factory):
    return command(tmp_path_factory.mktemp("monitored"), "train", *MONITORED, "hydra.run.dir=run")


def test_train_and_evaluate_have_equal_tags_and_tables(command, tmp_path):
    trained = command(tmp_path, "train", *QUICK, *LISTS, "logger=none")
    metrics = metrics_of(trained.run)
    names = {f"{system}{part}/{name}@5" for system in SYSTEMS for part in ("val", "test") for name in METRIC_LABELS}
    assert names <= set(metrics)
    found = Run.load(trained.run).evaluate_ranking(k=5, threshold=4)
    assert found == {tag: metrics[tag] for tag in found}
    evaluated = command(tmp_path, "evaluate", f"run={trained.run}", *LISTS).stdout.splitlines()
    start, end = (next(i for i, line in enumerate(evaluated) if line.startswith(each)) for each in ("top 5", "equal"))
    shown = trained.stdout.splitlines()
    first = next(number for number, line in enumerate(shown) if line.startswith("top 5"))
    assert shown[first : first + end - start] == evaluated[start:end]
    assert evaluated[end] == "equal to metrics.json to the last digit"


def test_evaluate_measures_lists_only_if_asked_and_compares_those_of_the_same_order_and_threshold(command, monitored):
    folder = monitored.folder
    assert "top" not in command(folder, "evaluate", "run=run").stdout
    for other in ("ranking.threshold=3", "ranking.by=prediction"):
        shown = command(folder, "evaluate", "run=run", "ranking.k=5", other).stdout
        assert "top 5" in shown
        assert shown.endswith("equal to metrics.json to the last digit\n")


def test_training_without_test_measures_no_test_lists(train_here):
    metrics = metrics_of(train_here("trainer=debug", "ranking.k=3", "test=false"))
    assert "val/ndcg@3" in metrics
    assert not any("test/" in tag for tag in metrics)


def test_monitored_lists_decide_the_best_epoch_and_are_logged_every_epoch(monitored):
    run = monitored.run
    curve, metrics = curve_of(run), metrics_of(run)
    best = metrics["fit/best_epoch"]
    assert len(curve["val/ndcg@5"]) == 4
    assert best == int(np.argmax(curve["val/ndcg@5"])) + 1  # the initial weights are worse
    assert metrics["val/ndcg@5"] == pytest.approx(max(curve["val/ndcg@5"]), abs=1e-7)
    assert f"val/ndcg@5 {curve['val/ndcg@5'][1]:.4f}" in monitored.stdout
    assert "test/ndcg@5" in metrics  # the lists that are monitored are measured at the end


@pytest.mark.parametrize("by", ["expected_gain", "prediction"])
def test_lists_monitored_in_training_have_the_order_of_those_of_the_run(train_here, by):
    """Ratings are half stars from 0.5 to 5, which training converts."""
    run = train_here(*MONITORED, f"ranking.by={by}", "ranking.threshold=null")
    orders = ("expected_gain", "prediction")
    found = {order: Run.load(run).evaluate_ranking(k=5, by=order)["val/ndcg@5"] for order in orders}
    assert max(curve_of(run)["val/ndcg@5"]) == pytest.approx(found[by], abs=1e-7)
    assert found["expected_gain"] != pytest.approx(found["prediction"], abs=1e-3)


def test_initial_weights_are_the_best_by_lists_if_no_epoch_is_better(train_here):
    metrics = metrics_of(train_here(*MONITORED, "optimizer.lr=1e-12"))
    assert metrics["fit/best_epoch"] == 0


def test_initial_value_is_rounded_like_those_of_the_epochs(train_here, monkeypatch):
    monkeypatch.setattr(Validation, "measure_monitored", lambda _: 0.1)  # float32 has a higher one
    metrics = metrics_of(train_here(*MONITORED, "trainer.max_epochs=1"))
    assert metrics["fit/best_epoch"] == 0


def test_early_stopping_counts_epochs_without_higher_lists(train_here):
    run = train_here(*MONITORED, "trainer.max_epochs=30", "callbacks.early_stopping.patience=2")
    curve = curve_of(run)["val/ndcg@5"]
    assert len(curve) < 30
    assert len(curve) - 1 - int(np.argmax(curve)) == 2


def test_run_that_monitors_lists_resumes_bit_for_bit(command, tmp_path, monitored):
    run = command(tmp_path, "train", *MONITORED, "trainer.max_epochs=2").run
    command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=4")
    assert_equal_runs(run, monitored.run)


def test_run_that_monitors_lists_is_reproduced_and_started_from(command, tmp_path, monitored):
    outcome = command(tmp_path, "reproduce", f"run={monitored.run}")
    assert "reproduced: every metric is equal to the last digit" in outcome.stdout
    started = command(tmp_path, "train", *MONITORED, f"from={monitored.run}", "trainer.max_epochs=1")
    assert metrics_of(started.run)["val/ndcg@5"] >= metrics_of(monitored.run)["val/ndcg@5"]


def test_refit_takes_the_lists_of_its_first_fit(train_here):
    run = train_here(*MONITORED, "split.refit=true", "ranking.k=3")
    first, second = metrics_of(run / "validation"), metrics_of(run)
    assert not any("test/" in tag for tag in first)
    for tag in ("val/ndcg@5", "val/ndcg@3", "baseline/popularity/val/ndcg@3", "val/ranked_users"):
        assert second[tag] == first[tag]
    assert "test/ndcg@3" in second
    assert second["fit/epochs"] == first["fit/best_epoch"]


def test_sweep_ranks_jobs_by_lists_highest_first(command, tmp_path):
    sweep = command(tmp_path, "train", "-m", *MONITORED, "optimizer.lr=1e-5,0.02,0.05", "test=false")
    lines = sweep.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("optimizer.lr  val NDCG@5"))
    shown = [line.split()[1] for line in lines[start + 1 : start + 4]]
    runs = {path.parent: metrics_of(path.parent)["val/ndcg@5"] for path in tmp_path.rglob("metrics.json")}
    assert shown == [f"{value:.4f}" for value in sorted(runs.values(), reverse=True)]
    best = max(runs, key=runs.get)
    named = command(tmp_path, "evaluate", "run=outputs/best").stdout
    assert f"{best.relative_to(tmp_path)}, val/ndcg@5 {runs[best]:.4f}" in named


def test_best_configuration_of_a_search_opens_its_test_lists(command, tmp_path):
    sweep = command(tmp_path, "train", "-m", *MONITORED, "optimizer.lr=0.02,0.05", "test=false")
    folder = next(path.parent for path in tmp_path.rglob("sweep.json"))
    report = command(tmp_path, "report", str(folder), "--test").stdout
    opened = [metrics_of(path.parent) for path in tmp_path.rglob("metrics.json")]
    (test,) = (metrics["test/ndcg@5"] for metrics in opened if "test/ndcg@5" in metrics)
    assert f"test       NDCG@5 {test:.4f}" in report
    assert sweep.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(("monitor", "sign"), [("val/ndcg@5", -1), ("val/mse", 1)])
def test_objective_of_a_search_is_lower_for_a_better_metric(cache, tmp_path, monkeypatch, monitor, sign):
    monkeypatch.setenv("RATINGLAB_DATA", str(cache))
    (tmp_path / "run").mkdir()
    options = options_of("train", *MONITORED, f"monitor={monitor}", "trainer.max_epochs=1")
    objective = train_run(options, tmp_path / "run", command=[])
    assert objective == sign * metrics_of(tmp_path / "run")[monitor]
    assert metrics_of(tmp_path / "run")[monitor] > 0


def test_samples_are_measured_in_every_epoch(train_here):
    chain = ["optimizer=gibbs", "optimizer.burn_in=1", "trainer.max_epochs=4", "model.embedding_dim=4"]
    run = train_here("model=biased_mf", *chain, "monitor=val/ndcg@5", "ranking.threshold=4")
    assert curve_of(run)["val/ndcg@5"][-1] == pytest.approx(metrics_of(run)["val/ndcg@5"], abs=1e-7)


def test_runs_are_compared_by_lists_in_any_order_with_the_same_threshold(train_here):
    changes: list[list[str]] = [[], ["ranking.by=prediction"], ["ranking.threshold=3"]]
    own, ordered, other = (
        comparison_conditions(read_record(train_here(*MONITORED, "trainer.max_epochs=1", *each))) for each in changes
    )
    assert own == ordered != other
    assert own["ranking.threshold"] == "4.0"


def test_lightning_module_logs_the_monitored_lists():
    options = options_of("train", *MONITORED, "data=demo")
    module, _ = build_lightning(options)
    assert (module.monitor.base_name, module.monitor.k) == ("ndcg", 5)
    assert (module._setup.order.by.value, module._setup.order.threshold) == ("expected_gain", 4.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["monitor=val/ndcg@0"], "monitor: the k after @ must be an integer of at least 1, got val/ndcg@0"),
        (["monitor=val/ndgc@10"], "did you mean val/ndcg@10?"),
        (["ranking.k=0"], "ranking.k must be at least 1, got 0"),
        (["ranking.threshold=nan"], "ranking.threshold must be finite, got nan"),
        (["ranking.by=gain"], "ranking.by must be one of expected_gain, prediction, lower_bound, got gain"),
        (["ranking.by=lower_bound"], "ranking.by=lower_bound needs optimizer=gibbs, got adam"),
        (
            ["ranking.by=lower_bound", "optimizer=gibbs", "model=biased_mf", "monitor=val/map@3"],
            "ranking.by must be expected_gain or prediction with monitor=val/map@3: before the first sample, there are",
        ),
        (
            ["ranking.k=10", "ranking.threshold=6"],
            "ranking.threshold must be at most 5, the highest held-out rating, got 6: no item would be relevant",
        ),
        (["monitor=val/map@3", "ranking.threshold=6"], "ranking.threshold must be at most 5, the highest held-out"),
        (
            ["monitor=val/map@3", "ranking.threshold=5", "split.validation=1e-4"],
            "monitor=val/map@3 needs a validation rating of at least 5 by a user with training ratings; there is none",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_no_run(train_here, tmp_path, arguments, message):
    with pytest.raises(UserError) as error:
        train_here("trainer=debug", *arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not any(tmp_path.rglob("run.json"))


def test_without_validation_rows_the_last_weights_count_as_with_other_metrics(train_here):
    metrics = metrics_of(train_here(*MONITORED, "split.validation=0"))
    assert metrics["fit/best_epoch"] == metrics["fit/epochs"]
    assert "val/ndcg@5" not in metrics


def test_tensorboard_has_the_curve_the_test_lists_and_hparams(command, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    few = ["logger=tensorboard", *(f"logger.tensorboard.{key}" for key in ("figures=false", "data_figures=false"))]
    run = command(tmp_path, "train", *MONITORED, *few, "logger.tensorboard.projector_items=0").run
    events = EventAccumulator(str(run))
    events.Reload()
    metrics = metrics_of(run)
    assert [each.step for each in events.Scalars("val/ndcg@5")] == [1, 2, 3, 4]
    assert events.Scalars("test/ndcg@5")[0].value == pytest.approx(metrics["test/ndcg@5"])
    assert events.Scalars("test/coverage@5")[0].value == pytest.approx(metrics["test/coverage@5"])
    assert events.Scalars("best/val_ndcg@5")[0].value == pytest.approx(metrics["val/ndcg@5"])


def test_left_out_users_are_counted_below_the_lowest_rating_that_reaches_the_threshold(monitored):
    tables = RunTables(monitored.run, read_record(monitored.run))
    counts = dict.fromkeys(("val/ranked_users", "val/users_without_relevant", "val/users_without_training"), 7)
    order = replace(tables.record.order_options(), threshold=3.9)
    (line,) = tabulate_lists(counts, tables, order=order)
    assert line.endswith("7 users; left out: 7 without a validation rating of at least 4, 7 without training ratings")


def test_warning_compares_ndcg_with_the_most_popular_items_on_the_last_part(monitored):
    record = read_record(monitored.run)
    tables = RunTables(monitored.run, record)
    values = {"val/ndcg@5": 0.3, "baseline/popularity/val/ndcg@5": 0.2}
    order = record.order_options()
    start = "warning: the lists of biased_mf are worse than the most popular items on"

    def warnings(**more) -> list[str]:
        found = {f"{tag.replace('_', '/')}/ndcg@5": value for tag, value in more.items()}
        return [line for line in tabulate_lists(values | found, tables, order=order) if line.startswith("warning")]

    assert warnings() == []
    assert warnings(val=0.1) == [f"{start} validation rows: NDCG@5 0.1000 against 0.2000"]
    assert warnings(val=0.1, test=0.2, baseline_popularity_test=0.2) == []
    assert warnings(test=0.1, baseline_popularity_test=0.2) == [f"{start} test rows: NDCG@5 0.1000 against 0.2000"]
