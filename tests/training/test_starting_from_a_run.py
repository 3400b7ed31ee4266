"""from=RUN: a new run that starts from the best weights of another."""

import pytest
import torch
from documented import options_of
from run_folders import edit_record, run_json_of

from ratinglab.training.training import build_lightning

OPTIONS = ["logger=none", "trainer.max_epochs=3", "model=biased_mf"]


def weights(run, name="best"):
    content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return {key.removeprefix("predictor.model."): value for key, value in content.items() if ".model." in key}


@pytest.fixture(scope="module")
def first(command, tmp_path_factory):
    return command(tmp_path_factory.mktemp("first"), "train", *OPTIONS, "hydra.run.dir=run").run


def test_run_starts_from_the_best_weights_with_a_new_lr(command, tmp_path, first):
    outcome = command(tmp_path, "train", *OPTIONS, f"from={first}", "optimizer.lr=1e-9", "trainer.max_epochs=1")
    assert f"from       {first}, after 3 epochs" in outcome.stdout
    old, new = weights(first), weights(outcome.run, "last")
    assert all(torch.allclose(old[key], new[key], atol=1e-6) for key in old)
    assert any(not torch.equal(old[key], new[key]) for key in old)


def test_sampler_starts_from_a_gradient_fit_and_a_gradient_fit_from_a_sample(command, tmp_path, first):
    sampled = command(
        tmp_path, "train", *OPTIONS, "optimizer=gibbs", "optimizer.burn_in=1", f"from={first}", "hydra.run.dir=sampled"
    ).run
    draw = {key.removeprefix("equation."): value for key, value in weights(sampled).items() if "equation." in key}
    again = command(tmp_path, "train", *OPTIONS, "from=sampled", "optimizer.lr=1e-9", "trainer.max_epochs=1").run
    assert all(torch.allclose(draw[key], value, atol=1e-6) for key, value in weights(again).items())


def test_killed_run_that_started_from_another_resumes_and_reproduces(command, tmp_path, first):
    run = command(tmp_path, "train", *OPTIONS, f"from={first}", "hydra.run.dir=run").run
    whole = weights(run, "last")
    for path in [*(run / "checkpoints").iterdir(), run / "metrics.json"]:
        path.unlink()
    command(tmp_path, "train", "resume=run")
    assert all(torch.equal(whole[key], value) for key, value in weights(run, "last").items())
    assert command(tmp_path, "reproduce", "run").stdout.splitlines()[-1].endswith("equal to the last digit")


def test_two_fits_start_from_the_two_fits_of_the_other_run(command, cache, tmp_path, monkeypatch):
    refit = [*OPTIONS, "split.refit=true", "trainer.max_epochs=2"]
    first = command(tmp_path, "train", *refit, "hydra.run.dir=first").run
    second = command(tmp_path, "train", *refit, "from=first", "optimizer.lr=1e-9", "hydra.run.dir=second").run
    for folder in (".", "validation"):
        old, new = weights(first / folder), weights(second / folder)
        assert all(torch.allclose(old[key], new[key], atol=1e-6) for key in old)
    monkeypatch.setenv("RATINGLAB_DATA", str(cache))
    fit, _ = build_lightning(options_of("train", *refit, f"from={first}"))  # it holds out the validation rows
    start, old = fit.predictor.model.state_dict(), weights(first / "validation")
    assert all(torch.equal(start[key], value) for key, value in old.items())
    outcome = command(tmp_path, "train", *OPTIONS, "from=first", status=2)
    assert outcome.stderr == (
        "error: from: first was fitted on its validation rows too; from=first/validation starts from its "
        "validation fit, which was not\n"
    )
    command(tmp_path, "train", *OPTIONS, "from=first/validation")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["from=nowhere"], "from: there is no folder nowhere"),
        (["from=."], "from: . is not the folder of a run: it has no run.json"),
        (["split.seed=1"], "from: the split has changed since {first} was started: "),
        (["data.seed=1"], "from: the data have changed since {first} was started: "),
        (["model=mf"], "from: {first} was fitted with model=biased_mf, but this run has model=mf"),
        (
            ["model.embedding_dim=3"],
            "from: {first}/checkpoints/best.ckpt holds weights of other shapes: embedding_dim=32, ",
        ),
        (["split.refit=true"], "from: {first} was fitted without split.refit=true, but this run sets it"),
    ],
)
def test_run_with_other_rows_or_another_model_is_refused(command, tmp_path, first, arguments, message):
    outcome = command(tmp_path, "train", *OPTIONS, f"from={first}", *arguments, status=2)
    assert outcome.stderr.startswith(f"error: {message.format(first=first)}")
    assert outcome.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_rating_scale_or_file_are_refused(command, tmp_path, first):
    other = ["data.scale.lowest=-100", "data.scale.highest=100"]
    data = ["data=csv", "data.path=ratings.csv", "model=biased_mf", "logger=none", "trainer.max_epochs=1"]
    rows = [f"{user},{item},{1 + (user + item) % 5}" for user in range(20) for item in range(20)]
    (tmp_path / "ratings.csv").write_text("user_id,item_id,rating\n" + "\n".join(rows))
    run = command(tmp_path, "train", *data).run
    outcome = command(tmp_path, "train", *data, *other, f"from={run}", status=2)
    assert outcome.stderr == (
        f"error: from: {run} was fitted with 1 to 5 as 1 to 5 stars, but this run has -100 to 100\n"
    )
    outcome = command(tmp_path, "train", *OPTIONS, f"from={run}", status=2)
    trained_on = f"from: {run} was trained on ratings.csv, but this run has demo"
    assert outcome.stderr == f"error: {trained_on}: repeat the data settings of {run}\n"


def test_run_of_a_version_without_an_option_is_not_resumed(command, tmp_path):
    arguments = ["optimizer=als", "model=biased_mf", "logger=none", "trainer.max_epochs=2"]
    run = command(tmp_path, "train", *arguments).run
    fit = run_json_of(run)["fit"]
    del fit["optimizer.damping"]
    edit_record(run, fit=fit)
    outcome = command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=3", status=2)
    assert outcome.stderr == (
        f"error: resume: optimizer.damping is 20.0 now, but {run} was started with a version without it\n"
    )
