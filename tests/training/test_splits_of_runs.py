"""Splits in runs: refits, folds, cold rows."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import NO_FIGURES, REAL_DATA
from documented import options_of
from run_folders import metrics_of, run_json_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ratinglab.fitting.schedules import CosineSchedule
from ratinglab.inference.run import Run
from ratinglab.splits.split import TEST

REFIT = [
    "model=biased_mf", "split.refit=true", "trainer.max_epochs=20", "callbacks.early_stopping.patience=1",
    "optimizer.lr=0.03", "data.batch_size=4096", "schedule=cosine", *NO_FIGURES,
]  # fmt: skip

DEBUG = ["trainer=debug", "logger=none"]


@pytest.fixture(scope="module")
def refitted(command, tmp_path_factory):
    return command(tmp_path_factory.mktemp("refit"), "train", *REFIT)


def test_refit_trains_on_all_non_test_rows_for_the_best_number_of_epochs(refitted):
    first, second = metrics_of(refitted.run / "validation"), metrics_of(refitted.run)
    assert "split      random" in refitted.stdout
    assert "16,000 train, 2,000 validation, 2,000 test" in refitted.stdout
    assert "18,000 train, 0 validation, 2,000 test" in refitted.stdout
    batches = [line.rpartition(", ")[2] for line in refitted.stdout.splitlines() if line.startswith("optimizer")]
    assert batches == ["at most 20 epochs", f"{second['fit/epochs']} epochs"]
    assert second["fit/epochs"] == second["fit/best_epoch"] == first["fit/best_epoch"] < first["fit/epochs"]
    assert second["val/mse"] == first["val/mse"]
    assert second["fit/seconds"] > first["fit/seconds"]
    assert not any(tag.startswith("test/") for tag in first), "the test rows are looked at once"
    assert len(Run.load(refitted.run).part("train")) == 18_000


def test_first_fit_of_a_refit_has_no_row_in_hparams(refitted):
    runs = refitted.run / "validation", refitted.run
    tags = [EventAccumulator(str(run)).Reload().Tags()["scalars"] for run in runs]
    assert ["val/mse" in tags[0], "best/val_mse" in tags[0], "best/val_mse" in tags[1]] == [True, False, True]


def test_refit_uses_the_schedule_of_the_first_fit(refitted):
    done = metrics_of(refitted.run)["fit/epochs"]
    checkpoint = torch.load(refitted.run / "checkpoints" / "last.ckpt", weights_only=True)
    lr = checkpoint["optimizer_states"][0]["param_groups"][0]["lr"]
    cosine = CosineSchedule(final_fraction=0.0)
    assert lr == pytest.approx(0.03 * cosine.factor(done - 1, 20), rel=1e-6)
    assert cosine.factor(done - 1, 20) != cosine.factor(done - 1, done)


@pytest.mark.parametrize("gone", ["the second fit", "both fits"])
def test_interrupted_refit_resumes_to_equal_metrics(command, tmp_path, refitted, gone):
    whole = metrics_of(refitted.run)
    copy = shutil.copytree(refitted.run, tmp_path / "copy")
    for path in copy.iterdir():
        if path.name not in (".hydra", "validation") or (path.name == "validation" and gone == "both fits"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    command(tmp_path, "train", "resume=copy")
    again = metrics_of(copy)
    for timed in ("fit/seconds", "fit/ratings_per_second"):
        del whole[timed], again[timed]
    assert again == whole


def test_refit_cannot_be_extended(command, refitted):
    outcome = command(refitted.folder, "train", f"resume={refitted.run}", "trainer.max_epochs=30", status=2)
    assert "a run with split.refit=true cannot be extended" in outcome.stderr


def test_refit_is_reproduced(command, refitted):
    outcome = command(refitted.folder, "reproduce", f"run={refitted.run}")
    assert "reproduced: every metric is equal to the last digit" in outcome.stdout


def test_refit_with_features_is_reproduced_when_items_have_only_validation_rows(command, tmp_path):
    often = [(user, item, 1 + (user * 7 + item * 3) % 5) for user in range(30) for item in range(10)]
    once = [(item % 30, item, 1 + item % 5) for item in range(10, 70)]
    rows = "\n".join(f"{user},{item},{rating}" for user, item, rating in often + once)
    (tmp_path / "ratings.csv").write_text(f"user_id,item_id,rating\n{rows}\n")
    items = "\n".join(f"{item},title,{'ab'[item % 2]}" for item in range(70))
    (tmp_path / "items.csv").write_text(f"item_id,title,genres\n{items}\n")
    data = ["data=csv", "data.path=ratings.csv", "data.items.path=items.csv", "split.validation=0.3"]
    model = [
        "model=biased_mf",
        "model.item_features=[genres]",
        "split.refit=true",
        "trainer.max_epochs=2",
        "logger=none",
    ]
    trained = command(tmp_path, "train", *data, *model)
    outcome = command(tmp_path, "reproduce", f"run={trained.run}")
    assert "reproduced: every metric is equal to the last digit" in outcome.stdout


def test_sweep_over_folds_is_a_cross_validation(command, tmp_path):
    outcome = command(tmp_path, "train", "-m", "split=kfold", "split.fold=1,2,3", "split.folds=3", *DEBUG)
    runs = sorted(path.parent for path in tmp_path.glob("outputs/sweeps/*/*/*/run.json"))
    identities = [run_json_of(run)["provenance"]["split"] for run in runs]
    assert [identity.rpartition("/")[2] for identity in identities] == ["1", "2", "3"]
    assert len({identity.rpartition("/")[0] for identity in identities}) == 1
    assert identities[0] in command(tmp_path, "evaluate", f"run={runs[0]}").stdout
    errors = [metrics_of(run)["test/rmse"] for run in runs]
    *_, mean, spread, note, folder = outcome.stdout.splitlines()
    assert (mean.split()[0], spread[:5], tmp_path / folder) == ("mean", "± 95%", runs[0].parent)
    assert float(mean.split()[-1]) == pytest.approx(np.mean(errors), abs=1e-4)
    loaded = [Run.load(run) for run in runs]
    share = len(loaded[0].part("test")) / len(loaded[0].part("train"))
    # Nadeau and Bengio; 4.303 is the 97.5% quantile of Student's t with two degrees of freedom
    half_width = 4.303 * np.sqrt((1 / 3 + share) * np.var(errors, ddof=1))
    assert float(spread.split()[-1]) == pytest.approx(half_width, abs=1e-4)
    assert note.endswith("by Nadeau and Bengio's corrected t over splits")
    pairs = [
        set(zip(run.user_ids.ids[part.user], run.item_ids.ids[part.item], strict=True))
        for run in loaded
        for part in [run.part("test")]
    ]
    assert len(set.union(*pairs)) == sum(map(len, pairs)) == 20_000


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"no real ratings in {REAL_DATA}")
def test_published_folds_are_disjoint_and_cover_all_rows():
    data = ["data=movielens_100k", f"data.root={REAL_DATA / 'ml-100k'}", "data.cache=null", "split=movielens_u"]
    options = options_of("train", *data)
    table, tests = options.data.load(), []
    for fold in range(1, 6):
        rows = table.ratings.take(replace(options.split, fold=fold).apply(table).part == TEST)
        tests.append(set(zip(table.user_ids.ids[rows.user], table.item_ids.ids[rows.item], strict=True)))
    assert [len(pairs) for pairs in tests] == [20_000] * 5
    assert len(set.union(*tests)) == 100_000
    lines = (REAL_DATA / "ml-100k" / "u.data").read_text().splitlines()[:20_000]
    assert tests[0] == {tuple(map(int, line.split("\t")[:2])) for line in lines}


def test_cold_and_warm_test_rows_have_separate_metrics(command, tmp_path):
    rows = [(user, item, 1 + (user + item) % 5) for user in range(20) for item in range(20)]
    late = (
        [(user, 99, 1 + user % 5) for user in range(8)]
        + [(77, item, 3) for item in range(3)]
        + [(5, 30, 2), (5, 31, 4)]
    )
    content = [f"{user},{item},{rating},{time}" for time, (user, item, rating) in enumerate(rows + late)]
    (tmp_path / "r.csv").write_text("\n".join(["user_id,item_id,rating,time", *content]))
    outcome = command(
        tmp_path, "train", "data=csv", "data.path=r.csv", "data.columns.timestamp=time", "split=temporal",
        "split.test=0.0484", "split.validation=0", "trainer.max_epochs=2", "logger=none",
    )  # fmt: skip
    metrics = metrics_of(outcome.run)
    run = Run.load(outcome.run)
    part = run.part("test")
    assert len(part) == 20
    assert metrics["test/cold/rows"] == 13
    for error in ("mse", "mae"):
        pooled = 13 * metrics[f"test/cold/{error}"] + 7 * metrics[f"test/warm/{error}"]
        assert pooled / 20 == pytest.approx(metrics[f"test/{error}"])
    assert metrics["test/cold/mse"] == metrics["baseline/bias/test/cold/mse"]
    assert "note: 13 test rows are cold: their user or item has no training ratings" in outcome.stdout
    shown = command(tmp_path, "evaluate", f"run={outcome.run}").stdout
    for group, name in (("warm", "mf"), ("cold", "bias")):
        (line, *_) = (line for line in shown.splitlines() if line.split()[:2] == ["test", group])
        assert line.split()[2] == name, "cold rows are predicted by the bias baseline"
        assert float(line.split()[-3]) == pytest.approx(metrics[f"test/{group}/mse"], abs=1e-4)
    cold = (part.user >= run.record.num_users) | (part.item >= run.record.num_items)
    assert np.array_equal(np.flatnonzero(cold), np.arange(7, 20))
