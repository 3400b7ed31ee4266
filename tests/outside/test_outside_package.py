"""Extensions from outside the package: each is one .py file and one YAML in lab/, a metric one file, a feature none.

No file of src/ knows them. Every command uses them.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

LAB = Path(__file__).parent / "lab"
FEATURES = ["data.users.path=users.csv", "data.users.numeric=[age]", "model.user_features=[age_group,mood]"]
EXTENSIONS = {
    "equation, Adam": ["model=weekday_mf"],
    "equation, Gibbs": ["model=weekday_mf", "optimizer=gibbs", "optimizer.burn_in=2"],
    "equation, ALS": ["model=weekday_mf", "optimizer=als"],
    "dropout": ["model=dropout_mf"],
    "whole rows": ["model=autorec"],
    "fit": ["model=biased_mf", "optimizer=lbfgs"],
    "split": ["split=every_nth"],
    "metric": ["metrics=[mse,rmse,mae,my_metrics.within_half]", "monitor=val/within_half"],
    "feature": ["model=biased_mf", *FEATURES],
    "feature, Gibbs": ["model=svdpp", "optimizer=gibbs", "optimizer.burn_in=2", *FEATURES],
}
TIMED = {"fit/seconds", "fit/ratings_per_second"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of 40 users over 30 items on 60 days, its users, and pairs to predict."""
    folder = tmp_path_factory.mktemp("outside")
    random = np.random.default_rng(0)
    user, item = np.nonzero(random.random((40, 30)) < 0.6)
    mood = np.array(["glad", "sad"])[np.arange(40) % 2]
    day = random.integers(0, 60, len(user))
    clean = 3 + np.where(mood[user] == "glad", 0.8, -0.8) + random.normal(0, 0.5, 30)[item]
    rating = np.clip(np.round(2 * (clean + random.normal(0, 0.4, len(user)))) / 2, 0.5, 5)
    rows = zip(user, item, rating, day * 86_400 + 946_684_800, strict=True)
    lines = [f"u{u},i{i},{r},{t}" for u, i, r, t in rows]
    (folder / "ratings.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *lines]) + "\n")
    users = [f"u{user},{20 + user},{mood[user]}" for user in range(40)]
    (folder / "users.csv").write_text("\n".join(["user_id,age,mood", *users]) + "\n")
    (folder / "pairs.csv").write_text(
        "user_id,item_id,time\nu0,i1,2000-01-05\nu1,i2,2000-01-06\nnobody,i1,2000-01-05\n"
    )
    return folder


def trained(command, folder, name, *more):
    data = ["data=csv", "data.path=ratings.csv", "data.columns.timestamp=timestamp", "logger=none"]
    limits = ["trainer.max_epochs=4", "data.batch_size=100", "trainer.enable_progress_bar=false"]
    outcome = command(folder, "train", "--config-dir", str(LAB), *data, *limits, *EXTENSIONS[name], *more)
    return outcome, outcome.run


def metrics_of(run: Path) -> dict[str, float]:
    values = json.loads((run / "metrics.json").read_text())
    return {tag: value for tag, value in values.items() if tag not in TIMED}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_every_command_uses_an_extension_and_a_resumed_run_ends_at_the_same_bits(command, folder, name):
    lab = ["--config-dir", str(LAB)]
    outcome, whole = trained(command, folder, name)
    assert outcome.stderr == ""
    run = trained(command, folder, name, "trainer.max_epochs=3")[1]
    command(folder, "train", *lab, f"resume={run}", "trainer.max_epochs=4")
    assert metrics_of(run) == metrics_of(whole)
    evaluated = command(folder, "evaluate", *lab, f"run={run}")
    assert "equal to metrics.json to the last digit" in evaluated.stdout
    everyone, predictions = (folder / f"{run.name}-{of}.csv" for of in ("everyone", "pairs"))
    command(folder, "recommend", *lab, f"run={run}", f"output={everyone}", "k=3")
    assert len({line.split(",")[0] for line in everyone.read_text().splitlines()[1:]}) == 40
    times = ["columns.timestamp=time"] if "weekday_mf" in EXTENSIONS[name][0] else []
    command(folder, "predict", *lab, f"run={run}", "input=pairs.csv", f"output={predictions}", *times)
    assert len(predictions.read_text().splitlines()) == 4
    assert "note:" not in command(folder, "report", str(run)).stdout


@pytest.mark.parametrize("name", ["equation, Gibbs", "dropout", "split"])
def test_a_run_of_an_extension_is_reproduced(command, folder, name):
    run = trained(command, folder, name)[1]
    reproduced = command(folder, "reproduce", "--config-dir", str(LAB), f"run={run}")
    assert "reproduced: every metric is equal to the last digit" in reproduced.stdout


def test_a_sweep_ranks_runs_by_a_metric_from_outside(command, folder):
    outcome = trained(command, folder, "metric", "-m", "model=biased_mf", "optimizer.lr=0.0001,0.05")[0]
    header, first, second = outcome.stdout.splitlines()[-4:-1]
    assert header.split()[:4] == ["optimizer.lr", "val", "≤", "½"]
    assert [first.split()[0], second.split()[0]] == ["0.05", "0.0001"]
    assert float(first.split()[1]) > float(second.split()[1])


def test_a_feature_that_explains_users_lowers_the_error(command, folder):
    plain, mood = (
        metrics_of(
            command(
                folder, "train", "data=csv", "data.path=ratings.csv", "logger=none", "model=biased_mf",
                "optimizer=gibbs", "trainer.max_epochs=60", "trainer.enable_progress_bar=false",
                "split.test=0.9", "split.validation=0.05", *more,
            ).run
        )["test/mse"]
        for more in ([], ["data.users.path=users.csv", "model.user_features=[mood]"])
    )  # fmt: skip
    assert mood < 0.9 * plain


def test_a_class_of_the_wrong_kind_is_refused(command, folder, tmp_path):
    lab = tmp_path / "lab"
    shutil.copytree(LAB, lab)
    (lab / "model" / "lost.yaml").write_text("_target_: no_such_module.Options\n")
    (lab / "model" / "other.yaml").write_text("_target_: lbfgs.LBFGSOptions\nlr: 1.0\nmax_iter: 1\n")
    for choice, message in (
        ("lost", "error: model._target_: "),
        ("other", "error: model._target_ must be a subclass of ratinglab.models.declarations.EquationOptions"),
    ):
        outcome = command(tmp_path, "train", "--config-dir", str(lab), f"model={choice}", status=2)
        assert outcome.stderr.startswith(message)
        assert outcome.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["lab"]
