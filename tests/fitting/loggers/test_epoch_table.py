"""metrics.csv: rows of a resumed run."""

import csv

from ratinglab.fitting.loggers.epoch_table import EpochTable


def rows(folder) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_is_complete_after_every_epoch_and_lists_final_metrics_last(tmp_path):
    table = EpochTable(tmp_path, first_epoch=1)
    table.log_metrics({"train/mse": 3.0, "val/mse": 4.0}, 1)
    assert rows(tmp_path) == [{"step": "1", "train/mse": "3.0", "val/mse": "4.0"}]
    table.log_metrics({"train/mse": 2.0, "val/mse": 3.0}, 2)
    table.log_metrics({"best/val_mse": 3.0}, 2)
    assert [list(row.values()) for row in rows(tmp_path)] == [
        ["1", "3.0", "4.0", ""],
        ["2", "2.0", "3.0", ""],
        ["2", "", "", "3.0"],
    ]
    assert list(rows(tmp_path)[0]) == ["step", "train/mse", "val/mse", "best/val_mse"]


def test_resumed_table_replaces_the_epochs_it_repeats(tmp_path):
    (tmp_path / "train.log").write_text("kept")
    first = EpochTable(tmp_path, first_epoch=1)
    for epoch in (1, 2, 3):
        first.log_metrics({"val/mse": float(epoch)}, epoch)
    second = EpochTable(tmp_path, first_epoch=3)
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2"], "before the first new row"
    for epoch in (3, 4):
        second.log_metrics({"val/mse": 10.0 * epoch}, epoch)
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3", "4"]
    assert [row["val/mse"] for row in rows(tmp_path)] == ["1.0", "2.0", "30.0", "40.0"]
    assert (tmp_path / "train.log").read_text() == "kept"


def test_row_that_a_kill_has_cut_off_is_dropped(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,train/mse,val/mse\r\n11,3.0,4.0\r\n1")
    EpochTable(tmp_path, first_epoch=12)
    assert [row["step"] for row in rows(tmp_path)] == ["11"]


def test_run_killed_before_its_first_row_starts_a_table(tmp_path):
    (tmp_path / "metrics.csv").write_text("")
    table = EpochTable(tmp_path, first_epoch=1)
    table.log_metrics({"val/mse": 1.0}, 1)
    assert rows(tmp_path) == [{"step": "1", "val/mse": "1.0"}]
