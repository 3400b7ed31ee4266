"""Lines that training and evaluation print about the results of one run."""

from dataclasses import replace

import pytest
from equations import options_of
from run_folders import write_run_of
from tables import table_with_features

from ratinglab.inference.run_tables import RunTables
from ratinglab.reports.results import describe_results, tabulate_lists, tabulate_metrics
from ratinglab.runs.record import read_record


@pytest.fixture
def tables(tmp_path):
    write_run_of(tmp_path / "run", options_of("biased_mf"), table_with_features())
    return RunTables(tmp_path / "run", read_record(tmp_path / "run"))


@pytest.mark.parametrize(
    ("num_rows", "note"),
    [
        (1, "note: 1 test row is cold: its user or item has no training ratings, and the bias baseline predicts it"),
        (1234, "note: 1,234 test rows are cold: their user or item has no training ratings, and the bias baseline "
         "predicts them"),
    ],
)  # fmt: skip
def test_cold_rows_are_counted(tables, num_rows, note):
    *_, line = tabulate_metrics({"test/mse": 0.5, "test/cold/rows": num_rows}, tables.record)
    assert line == note


@pytest.mark.parametrize(("num_rows", "groups"), [(9, []), (10, ["test warm", "test cold"])])
def test_table_has_warm_and_cold_rows_if_enough_are_cold(tables, num_rows, groups):
    errors = {f"{system}test{group}/mse": 0.5 for system in ("", "baseline/bias/") for group in ("", "/warm", "/cold")}
    lines = list(tabulate_metrics(errors | {"test/cold/rows": num_rows}, tables.record))
    assert [group for group in ("test warm", "test cold") if any(line.startswith(group) for line in lines)] == groups


def test_single_user_with_a_list_is_counted(tables):
    counts = dict.fromkeys(("val/ranked_users", "val/users_without_relevant", "val/users_without_training"), 1)
    (line,) = tabulate_lists(counts, tables, order=tables.record.order_options())
    assert ", 1 user; left out: 1 without a validation rating of at least " in line


METRICS = {
    "fit/epochs": 3,
    "fit/best_epoch": 2,
    "fit/seconds": 1.0,
    "fit/ratings_per_second": 100.0,
    "test/mse": 0.93721,
    "baseline/bias/test/mse": 0.93711,
    "test/ndcg@2": 0.4,
    "baseline/popularity/test/ndcg@2": 0.4,
    "test/ranked_users": 9,
    "test/users_without_relevant": 0,
    "test/users_without_training": 0,
}


def warnings_on(tables: RunTables, **changed: float) -> list[str]:
    """Return the warnings about a run whose metrics are METRICS with some changed."""
    return [line for line in describe_results(METRICS | changed, tables) if line.startswith("warning: ")]


def test_only_a_printed_difference_from_a_baseline_gives_a_warning(tables):
    worse = "warning: biased_mf is worse than the bias baseline on test rows: MSE 0.9372 against"
    assert warnings_on(tables) == [f"{worse} 0.9371"]
    assert warnings_on(tables, **{"baseline/bias/test/mse": 0.93719}) == []
    (line,) = warnings_on(tables, **{"test/mse": 0.9, "test/ndcg@2": 0.3999})
    assert line.endswith("are worse than the most popular items on test rows: NDCG@2 0.3999 against 0.4000")
    assert warnings_on(tables, **{"test/mse": 0.9, "test/ndcg@2": 0.39999}) == []


def test_initial_weights_give_one_warning(tables):
    assert warnings_on(tables, **{"fit/best_epoch": 0, "test/mse": 2.0}) == [
        "warning: no epoch beat the initial weights' val/mse, so the run keeps them"
    ]


@pytest.mark.parametrize(
    ("refit_epochs", "fit"),
    [
        (None, "fit        1.0 s, 3 epochs, best after 2; 100 ratings/s"),
        (3, "fit        1.0 s for both fits; refit: 3 epochs, 100 ratings/s"),
        (0, "fit        1.0 s for both fits; refit: 0 epochs"),
    ],
)
def test_results_of_a_refit_tell_the_two_fits_apart(tables, refit_epochs, fit):
    record = replace(tables.record, refit_epochs=refit_epochs)
    epochs = {} if refit_epochs is None else dict.fromkeys(("fit/epochs", "fit/best_epoch"), refit_epochs)
    lines = list(describe_results(METRICS | epochs, RunTables(tables.folder, record)))
    assert fit in lines
    assert any(line.startswith("note: the validation results come from the first fit") for line in lines) == (
        refit_epochs is not None
    )
