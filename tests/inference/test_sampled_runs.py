"""Runs of optimizer=gibbs: samples on disk, standard deviations, and everything that other runs can do."""

import json
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import NO_FIGURES
from equal_runs import assert_equal_runs
from equations import options_of
from killed_train import write_killed_train
from run_folders import add_samples, write_run_of, write_weights
from tables import table_with_features

from ratinglab.errors import UserError
from ratinglab.inference.run import Run

GIBBS = ["optimizer=gibbs", "model.embedding_dim=4", "optimizer.burn_in=10", "logger=none"]
DATA = ["data=csv", "data.path=ratings.csv"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write half of the ratings of 150 users over 100 items: biases, one factor and noise 0.5, in half steps."""
    folder, random = tmp_path_factory.mktemp("sampled"), np.random.default_rng(0)
    user, item = np.divmod(np.flatnonzero(random.random(150 * 100) < 0.5), 100)
    clean = 3 + random.normal(0, 0.3, 150)[user] + random.normal(0, 0.3, 100)[item]
    clean += random.normal(0, 0.7, 150)[user] * random.normal(0, 0.7, 100)[item]
    rating = np.clip(np.round(2 * (clean + random.normal(0, 0.5, len(user)))) / 2, 0.5, 5)
    table = pd.DataFrame({"user_id": user, "item_id": item, "rating": rating})
    table.to_csv(folder / "ratings.csv", index=False)
    return folder


@pytest.fixture(scope="module", params=["biased_mf", "svdpp"])
def sampled(request, command, folder):
    """Train a run of 30 sweeps."""
    return command(folder, "train", *DATA, *GIBBS, f"model={request.param}", "trainer.max_epochs=30")


def test_train_prints_and_records_the_coverage_of_intervals(sampled):
    assert "optimizer  gibbs: burn_in=10, noise=own, thin=1, max_samples=null, min_gain=0.003, one s" in sampled.stdout
    assert "one sweep per epoch, at most 30 epochs" in sampled.stdout
    metrics = json.loads((sampled.run / "metrics.json").read_text())
    share = f"{metrics['test/coverage_90']:.1%}"
    assert f"intervals  {share} of the warm test ratings lie in their 90% prediction interval\n" in sampled.stdout
    assert 0.8 < metrics["test/coverage_90"] < 0.97
    assert metrics["fit/best_epoch"] == metrics["fit/epochs"] == 30
    assert metrics["test/mse"] < metrics["baseline/bias/test/mse"]
    assert len(Run.load(sampled.run).predictor.model.samples) == 20
    # the error printed in the last epoch is that of the saved run
    (last,) = [line for line in sampled.stdout.splitlines() if line.startswith("epoch 30/30")]
    assert last.endswith(f"val/mse {metrics['val/mse']:.4f}")


def test_a_known_user_folded_in_is_predicted_much_as_in_training(sampled):
    run = Run.load(sampled.run)
    items, ratings = run.item_ids.ids[:100], run.tables.ratings
    trained, folded = [], []
    for user_id in range(10):
        item = ratings.loc[(ratings["user"] == user_id) & (ratings["part"] == 0), "item"].iloc[0]
        rating = ratings.loc[(ratings["user"] == user_id) & (ratings["item"] == item), "rating"].iloc[0]
        refolded = run.fold_in({int(run.item_ids.ids[item]): float(rating)}, user_id=int(run.user_ids.ids[user_id]))
        folded.append(refolded.predict_table(items))
        trained.append(run.predict_table([run.user_ids.ids[user_id]] * 100, items))
    trained, folded = pd.concat(trained), pd.concat(folded)
    assert (trained["prediction"] - folded["prediction"]).std() < 0.15
    assert np.median(folded["standard_deviation"] / trained["standard_deviation"]) == pytest.approx(1, abs=0.1)


def test_samples_that_need_much_memory_give_a_warning(start, tmp_path):
    process = start(
        tmp_path, "train", *GIBBS, "model=biased_mf", "trainer.max_epochs=60000", "optimizer.max_samples=50000"
    )
    lines = process.until("epoch 1/")
    process.end(signal.SIGKILL)
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert "50000 samples take" in warning
    assert "a smaller optimizer.max_samples keeps fewer" in warning


def test_evaluate_and_reproduce_give_equal_metrics(command, sampled):
    assert "equal to metrics.json to the last digit" in command(sampled.folder, "evaluate", f"run={sampled.run}").stdout
    outcome = command(sampled.folder, "reproduce", f"run={sampled.run}")
    assert "every metric is equal to the last digit" in outcome.stdout


@pytest.mark.parametrize("sampled", ["biased_mf"], indirect=True)
@pytest.mark.parametrize("cut_after", [5, 14])  # the first sample is kept in epoch 11
def test_interrupted_run_resumes_to_equal_samples(command, command_apart, tmp_path, sampled, cut_after):
    whole, data = sampled.run, ["data=csv", f"data.path={sampled.folder / 'ratings.csv'}"]
    options = [*data, *GIBBS, f"model={Run.load(whole).record.model}", "trainer.max_epochs=30"]
    dies = write_killed_train(tmp_path, number=2 * cut_after + 1)  # best.ckpt and last.ckpt after every epoch
    every_epoch = ["callbacks.checkpoint.last_every_seconds=0", "hydra.run.dir=cut"]
    command_apart(tmp_path, dies, *options, *every_epoch, status=-signal.SIGKILL)
    if cut_after == 5:
        outcome = command(tmp_path, "recommend", "run=cut", "user=42", status=2)
        assert "holds no sample yet: the run was stopped during burn-in; resume=cut continues it" in outcome.stderr
    assert f"resume     after {cut_after} epochs" in command(tmp_path, "train", "resume=cut").stdout
    one, two = (Run.load(run).predictor.model.get_extra_state() for run in (tmp_path / "cut", whole))
    for name in two:
        assert torch.equal(one[name], two[name]), name
    assert_equal_runs(tmp_path / "cut", whole)


def test_predict_command_writes_standard_deviations(command, sampled, tmp_path):
    pd.DataFrame({"user_id": [42, 42, 999_999], "item_id": [7, 999_999, 7]}).to_csv(tmp_path / "pairs.csv", index=False)
    command(tmp_path, "predict", f"run={sampled.run}", "input=pairs.csv", "output=predictions.csv")
    found = pd.read_csv(tmp_path / "predictions.csv")
    run = Run.load(sampled.run)
    deviation = run.standard_deviation([42, 42, 999_999], [7, 999_999, 7])
    assert found["standard_deviation"].to_numpy() == pytest.approx(deviation, nan_ok=True)
    assert np.isnan(deviation).tolist() == [False, True, True]
    user, item = int(run.user_ids.index_of([42])[0]), int(run.item_ids.index_of([7])[0])
    kept = run.predictor.model.get_extra_state()
    noise = np.sqrt(np.mean(1 / (kept["user_precision"][:, user] * kept["item_precision"][:, item]).numpy()))
    assert noise < deviation[0] < 2 * noise
    (tmp_path / "bad.csv").write_text("user_id,item_id,standard_deviation\n1,2,3\n")
    outcome = command(tmp_path, "predict", f"run={sampled.run}", "input=bad.csv", "output=x.csv", status=2)
    assert "bad.csv already has a column 'standard_deviation'" in outcome.stderr


def test_coverage_is_the_share_of_test_ratings_in_the_interval(sampled):
    run = Run.load(sampled.run)
    test = run.part("test")
    user, item = torch.from_numpy(test.user), torch.from_numpy(test.item)
    mean = run.predictor.predict_unclipped(user, item).numpy()
    deviation = run.predictor.standard_deviation(user, item).numpy()
    inside = (test.rating >= mean - 1.6449 * deviation) & (test.rating <= mean + 1.6449 * deviation)
    warm = ~np.isnan(deviation)
    assert run.evaluate()["test/coverage_90"] == pytest.approx(inside[warm].mean(), abs=2e-4)


def test_intervals_lie_around_predictions_that_are_not_clipped(tmp_path):
    predictor = write_run_of(tmp_path / "run", options_of("biased_mf"), table_with_features(), is_sampled=True)
    add_samples(predictor.model, torch.Generator().manual_seed(2))
    write_weights(tmp_path / "run", {f"predictor.{name}": each for name, each in predictor.state_dict().items()})
    run = Run.load(tmp_path / "run")
    train = run.part("train")
    user, item = torch.from_numpy(train.user), torch.from_numpy(train.item)
    half_width = 1.6449 * run.predictor.standard_deviation(user, item).numpy()
    free, clipped = (
        (np.abs(predict(user, item).detach().numpy() - train.rating) <= half_width).mean()
        for predict in (run.predictor.predict_unclipped, run.predictor)
    )
    assert free != clipped
    frame = pd.DataFrame({"user_id": run.user_ids.ids[user], "item_id": run.item_ids.ids[item], "rating": train.rating})
    assert run.evaluate(frame)["coverage_90"] == pytest.approx(free, abs=2e-4)


def test_run_without_samples_has_no_standard_deviation(quick):
    with pytest.raises(UserError, match="has no samples, so no standard deviation"):
        Run.load(quick.run).standard_deviation([42], [7])


def test_recommend_to_all_equals_recommend_for_each_user(sampled):
    run = Run.load(sampled.run)
    everyone = run.recommend_to_all(k=5)
    for user_id in (42, 7):
        own, listed = run.recommend(user_id, k=5), everyone[everyone["user_id"] == user_id]
        for column in ("prediction", "standard_deviation"):
            assert listed[column].to_numpy() == pytest.approx(own[column].to_numpy(), abs=1e-4)
        deviation = run.standard_deviation([user_id] * len(own), own["item_id"])
        assert own["standard_deviation"].tolist() == deviation.tolist()


def test_tensorboard_uses_the_same_weight_names_as_other_fits(command, tmp_path):
    few = ["optimizer.burn_in=1", "trainer.max_epochs=4"]
    outcome = command(tmp_path, "train", *GIBBS[:2], "model=biased_mf", *few, *NO_FIGURES)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(outcome.run)).Reload()
    tags = events.Tags()["scalars"]
    assert "weights/user_embedding" in tags
    assert "train/lr" not in tags
    assert len(events.Scalars("val/mse")) == 4
