"""Learning curves and predictions that a run keeps."""

import numpy as np
import pandas as pd
import pytest
from equations import options_of
from run_folders import PROVENANCE, metrics_of, write_run_of
from tables import table_of

from ratinglab.errors import UserError
from ratinglab.runs.storage import count_rows_by_part, read_squared_errors
from ratinglab.runs.sweep_folder import read_curve, read_sibling_curves


def test_run_keeps_its_train_and_validation_metrics_by_epoch(biased):
    table = pd.read_csv(biased.run / "epochs.csv")
    metrics = metrics_of(biased.run)
    assert list(table) == ["epoch", "train/mse", "val/mse"]
    assert table["epoch"].tolist() == list(range(1, metrics["fit/epochs"] + 1))
    assert table["epoch"][table["val/mse"].idxmin()] == metrics["fit/best_epoch"]
    assert table["val/mse"].min() == pytest.approx(metrics["val/mse"], rel=1e-6)
    assert read_curve(biased.run, "val/mse") == dict(zip(table["epoch"], table["val/mse"], strict=True))


def test_epochs_without_validation_are_blank(train_here):
    run = train_here("model=mean", "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2", "monitor=val/mae")
    assert list(read_curve(run, "train/mse")) == [1, 2, 3, 4]
    assert list(read_curve(run, "val/mae")) == list(read_curve(run, "val/mse")) == [2, 4]
    run = train_here("model=mean", "trainer.max_epochs=2", "split.validation=0", "trainer.accelerator=cpu")
    assert (run / "epochs.csv").read_text().splitlines()[0] == "epoch,train/mse"
    assert read_curve(run, "val/mse") == {}


def test_damaged_curve_is_refused(tmp_path):
    assert read_curve(tmp_path, "val/mse") == {}
    (tmp_path / "epochs.csv").write_text("epoch,val/mse\n1,0.5\n2,x\n")
    with pytest.raises(UserError, match=r"epochs\.csv is damaged: could not convert string to float: 'x'"):
        read_curve(tmp_path, "val/mse")


def test_single_run_has_no_read_sibling_curves_it(biased):
    assert read_sibling_curves(biased.run, "val/mse", split="any") == []


def test_siblings_are_the_other_finished_jobs_on_the_same_split(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    table = table_of(np.arange(100) // 10, np.arange(100) % 10, np.arange(100) % 5 + 1)
    splits = {
        "0-same": "kfold/1",
        "1-other": "kfold/2",
        "2-pruned": "kfold/1",
        "3-stopped": "kfold/1",
        "4-own": "kfold/1",
    }
    for number, (name, split) in enumerate(splits.items()):
        write_run_of(tmp_path / name, options_of("mean"), table, provenance=PROVENANCE | {"split": split})
        (tmp_path / name / "epochs.csv").write_text(f"epoch,val/mse\n1,{number}.5\n2,{number}.25\n")
        if name != "3-stopped":
            (tmp_path / name / "metrics.json").write_text("{}")
    (tmp_path / "2-pruned" / "pruned.txt").write_text("after 1 epoch")
    assert read_sibling_curves(tmp_path / "4-own", "val/mse", split="kfold/1") == [{1: 0.5, 2: 0.25}]
    assert read_sibling_curves(tmp_path / "4-own", "val/mse", split="kfold/2") == [{1: 1.5, 2: 1.25}]


def test_run_keeps_the_predictions_of_its_held_out_rows(biased):
    metrics = metrics_of(biased.run)
    for part in ("val", "test"):
        errors = read_squared_errors(biased.run, part)
        assert len(errors) == 2_000
        assert errors.mean() == pytest.approx(metrics[f"{part}/mse"], rel=1e-6)
    ratings = pd.read_parquet(biased.run / "ratings.parquet")
    kept = pd.read_parquet(biased.run / "predictions.parquet")
    for part in (1, 2):
        np.testing.assert_array_equal(kept["rating"][kept["part"] == part], ratings["rating"][ratings["part"] == part])
    assert count_rows_by_part(biased.run).tolist() == [16_000, 2_000, 2_000, 0, 0]


def test_closed_test_rows_are_not_predicted(train_here):
    run = train_here("model=mean", "trainer.max_epochs=1", "test=false")
    assert set(pd.read_parquet(run / "predictions.parquet")["part"]) == {1}
    assert len(read_squared_errors(run, "test")) == 0
