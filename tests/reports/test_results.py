"""Lines that training and evaluation print about the results of one run."""

import pytest
from equations import options_of
from run_folders import write_run_of
from tables import table_with_features

from ratinglab.inference.run_tables import RunTables
from ratinglab.reports.results import tabulate_lists, tabulate_metrics
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


def test_single_user_with_a_list_is_counted(tables):
    counts = dict.fromkeys(("val/ranked_users", "val/users_without_relevant", "val/users_without_training"), 1)
    (line,) = tabulate_lists(counts, tables, order=tables.record.order_options())
    assert ", 1 user; left out: 1 without a validation rating of at least " in line
