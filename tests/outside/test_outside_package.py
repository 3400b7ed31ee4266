"""Extensions outside the package: each is one .py file and one YAML in lab/; a metric is one file, a feature none.

No file of src/ knows them. Every command uses them.
"""

import functools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.config.typed_options import to_options
from ratinglab.inference.run import Run
from ratinglab.training.train_options import TrainOptions
from ratinglab.training.training import train_run

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
TOGETHER = {
    "equation and metric, Gibbs": [*EXTENSIONS["equation, Gibbs"], *EXTENSIONS["metric"]],
    "feature": EXTENSIONS["feature"],
}
"""Extensions used by all commands; one run can have several."""
TIMED = {"fit/seconds", "fit/ratings_per_second"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write ratings of 40 users over 30 items on 60 days, a users table, and pairs to predict."""
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
    outcome = command(folder, "train", "--config-dir", str(LAB), *data, *limits, *(TOGETHER | EXTENSIONS)[name], *more)
    return outcome, outcome.run


@pytest.fixture(scope="module")
def whole(command, folder):
    """Train the run of an extension, once per name."""
    return functools.cache(lambda name: trained(command, folder, name))


def metrics_of(run: Path) -> dict[str, float]:
    values = json.loads((run / "metrics.json").read_text())
    return {tag: value for tag, value in values.items() if tag not in TIMED}


def trained_here(folder: Path, name: str, run: Path, *more: str) -> dict[str, float]:
    """Train a run of an extension in this process and return its metrics."""
    conf = PrimaryConfig("train")
    conf.add_folder(str(LAB))
    data = ["data=csv", f"data.path={folder}/ratings.csv", "data.columns.timestamp=timestamp", "data.batch_size=100"]
    users = [f"data.users.path={folder}/users.csv"] if FEATURES[0] in EXTENSIONS[name] else []
    config, _ = conf.compose([*data, "logger=none", *EXTENSIONS[name], *users, *more])
    run.mkdir(exist_ok=True)
    objective, metrics = train_run(to_options(config, TrainOptions), run, command=[]), metrics_of(run)
    assert objective == (-metrics["val/within_half"] if name == "metric" else metrics["val/mse"])
    return metrics


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTENSIONS)
def test_run_of_an_extension_resumes_bit_for_bit_and_predicts(folder, tmp_path, name):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    metrics = trained_here(folder, name, whole, "trainer.max_epochs=4")
    trained_here(folder, name, cut, "trainer.max_epochs=3")
    assert trained_here(folder, name, cut, "trainer.max_epochs=4", f"resume={cut}") == metrics
    run = Run.load(cut)
    assert run.evaluate() == {tag: value for tag, value in metrics.items() if not tag.startswith("fit/")}
    everyone = run.recommend_to_all(k=3)
    assert everyone["user_id"].nunique() == 40
    assert np.isfinite(run.predict(["u0", "u1", "nobody"], ["i1", "i2", "i1"])).all()


@pytest.mark.parametrize("name", TOGETHER)
def test_every_command_accepts_a_run_of_an_extension(command, folder, whole, name):
    lab = ["--config-dir", str(LAB)]
    outcome, uncut = whole(name)
    assert outcome.stderr == ""
    run = shutil.copytree(uncut, folder / f"{uncut.name}-extended")
    command(folder, "train", *lab, f"resume={run}", "trainer.max_epochs=5")
    assert metrics_of(run)["fit/epochs"] == 5
    evaluated = command(folder, "evaluate", *lab, f"run={run}")
    assert "equal to metrics.json to the last digit" in evaluated.stdout
    everyone, predictions = (folder / f"{run.name}-{of}.csv" for of in ("everyone", "pairs"))
    command(folder, "recommend", *lab, f"run={run}", f"output={everyone}", "k=3")
    assert len({line.split(",")[0] for line in everyone.read_text().splitlines()[1:]}) == 40
    times = ["columns.timestamp=time"] if "weekday_mf" in TOGETHER[name][0] else []
    command(folder, "predict", *lab, f"run={run}", "input=pairs.csv", f"output={predictions}", *times)
    assert len(predictions.read_text().splitlines()) == 4
    assert "note:" not in command(folder, "report", str(run)).stdout


def test_model_for_lists_trains_and_recommends(command, folder, tmp_path):
    chosen = ["model=co_rated", "optimizer=closed_form", "monitor=val/ndcg@5", "logger=none", "data=csv"]
    run = command(tmp_path, "train", "--config-dir", str(LAB), *chosen, f"data.path={folder}/ratings.csv").run
    assert metrics_of(run)["val/ndcg@5"] > 0
    listed = command(tmp_path, "recommend", "--config-dir", str(LAB), f"run={run}", "user=u0", "k=3").stdout
    assert "recommended to user u0, by score" in listed


@pytest.mark.parametrize("name", TOGETHER)
def test_run_of_an_extension_is_reproduced(command, folder, whole, name):
    reproduced = command(folder, "reproduce", "--config-dir", str(LAB), f"run={whole(name)[1]}")
    assert "reproduced: every metric is equal to the last digit" in reproduced.stdout


def test_sweep_ranks_runs_by_a_metric_outside_the_package(command, folder):
    outcome = trained(command, folder, "metric", "-m", "model=biased_mf", "optimizer.lr=0.0001,0.05")[0]
    header, first, second, best = outcome.stdout.splitlines()[-5:-1]
    assert header.split()[:4] == ["optimizer.lr", "val", "≤", "½"]
    assert [first.split()[0], second.split()[0]] == ["0.05", "0.0001"]
    assert float(first.split()[1]) > float(second.split()[1])
    assert best.endswith(" model=biased_mf optimizer.lr=0.05")


def test_report_opens_the_test_rows_of_an_equation_outside_the_package(command, command_apart, folder, tmp_path):
    more = ["-m", "optimizer.lr=0.01,0.05", "test=false", f"hydra.sweep.dir={tmp_path}/sweep"]
    trained(command, folder, "dropout", *more)
    # apart, since this process has imported the equation
    report = command_apart(folder, "report", f"{tmp_path}/sweep", "--test").stdout
    assert re.search(r"^test +RMSE \d\.\d{4}$", report, re.M)


def test_informative_user_feature_lowers_the_error(command, folder):
    plain, mood = (
        metrics_of(
            command(
                folder, "train", "data=csv", "data.path=ratings.csv", "logger=none", "model=biased_mf",
                "optimizer=gibbs", "trainer.max_epochs=40", "trainer.enable_progress_bar=false",
                "split.test=0.9", "split.validation=0.05", *more,
            ).run
        )["test/mse"]
        for more in ([], ["data.users.path=users.csv", "model.user_features=[mood]"])
    )  # fmt: skip
    assert mood < 0.9 * plain


@pytest.mark.parametrize(
    ("file", "old", "new", "arguments", "message"),
    [
        ("dropout_mf.py", ".sum(dim=-1)", ".sum(dim=-1, keepdim=True)", ["model=dropout_mf"],
         "model=dropout_mf: forward must return (3,) floats for 3 rows, got (3, 1) torch.float32"),
        ("dropout_mf.py", "torch.zeros(())", "torch.zeros(3)", ["model=dropout_mf"],
         "model=dropout_mf: penalty must return () floats for 3 rows, got (3,) torch.float32"),
        ("weekday_mf.py", "num_columns=7", "num_columns=3", ["model=weekday_mf", "optimizer=gibbs"],
         "model=weekday_mf, the user side: the design of weekday has column 6 of 3"),
        ("weekday_mf.py", "zero_embedding(7, dim)", "zero_embedding(5, dim)", ["model=weekday_mf", "optimizer=als"],
         "model=weekday_mf, the user side: weekday must have 7 rows of weights, got 5"),
        ("every_nth.py", "TEST, VALIDATION]", "TEST, 7]", ["split=every_nth"],
         "split=every_nth: assign must return 702 part codes, each 0, 1 or 2; got shape (702,) and values [0 2 7]"),
        ("every_nth.py", "TEST, VALIDATION]", "TEST, VALID]", ["split=every_nth"],
         "split=every_nth: {lab}/every_nth.py, line 26: NameError: name 'VALID' is not defined"),
        ("dropout_mf.py", "torch.zeros(())", "torch.zero(())", ["model=dropout_mf"],
         "model=dropout_mf: {lab}/dropout_mf.py, line 42: AttributeError: module 'torch' has no attribute 'zero'"),
        ("weekday_mf.py", "self.item_embedding, self.item_bias", "self.item_embeding, 0", ["model=weekday_mf"],
         "model=weekday_mf: {lab}/weekday_mf.py, line 76: AttributeError: 'WeekdayMF' object has no attribute"),
        ("every_nth.py", "return np.select([place == 0, place == 1], [TEST, VALIDATION], TRAIN)", "return place / 2",
         ["split=every_nth"], "split=every_nth: assign must return an array of integers, got float64"),
        ("every_nth.py", "return np.select([place == 0, place == 1], [TEST, VALIDATION], TRAIN)", "return [None]",
         ["split=every_nth"], "split=every_nth: assign must return an array of integers, got list"),
        ("my_metrics.py", "return float(((predicted - rating).abs() <= 0.5).double().mean())", "return 'good'",
         ["metrics=[mse,my_metrics.within_half]", "monitor=val/within_half"],
         "metrics: within_half must return a number, got str"),
        ("my_metrics.py", '"within_half", label', '"mse", label', ["metrics=[my_metrics.within_half]"],
         "metrics must contain the built-in mse, got [my_metrics.within_half]"),
    ],
)  # fmt: skip
def test_mistake_in_an_extension_gives_a_one_line_error(
    command_apart, folder, tmp_path, file, old, new, arguments, message
):  # apart, since this process has imported the extensions as they are
    lab = tmp_path / "lab"
    shutil.copytree(LAB, lab)
    source = (lab / file).read_text()
    assert old in source
    (lab / file).write_text(source.replace(old, new))
    data = ["data=csv", "data.path=ratings.csv", "data.columns.timestamp=timestamp", "logger=none"]
    outcome = command_apart(folder, "train", "--config-dir", str(lab), *data, *arguments, status=2)
    assert outcome.stderr.startswith(f"error: {message.replace('{lab}', str(lab))}")
    assert outcome.stderr.count("\n") == 1


def test_choice_with_the_name_of_a_built_in_one_is_refused(command, tmp_path):
    (tmp_path / "lab" / "model").mkdir(parents=True)
    (tmp_path / "lab" / "model" / "mf.yaml").write_text("embedding_dim: 3\n")
    outcome = command(tmp_path, "train", "--config-dir", "lab", status=2)
    assert outcome.stderr.endswith("lab/model/mf.yaml needs another name: model=mf is built in\n")


def test_finished_run_is_kept_when_its_equation_has_changed(command_apart, folder, tmp_path):
    lab = tmp_path / "lab"
    shutil.copytree(LAB, lab)
    data = ["data=csv", "data.path=ratings.csv", "logger=none", "trainer.max_epochs=2", "model=dropout_mf"]
    run = command_apart(folder, "train", "--config-dir", str(lab), *data).run
    before = (run / "metrics.json").read_bytes()
    path = lab / "dropout_mf.py"
    path.write_text(path.read_text().replace("user_embedding", "user_table"))
    outcome = command_apart(folder, "train", f"resume={run}", "trainer.max_epochs=3", status=2)
    assert outcome.stderr == f"error: {run}/checkpoints/last.ckpt does not hold the weights of dropout_mf\n"
    assert (run / "metrics.json").read_bytes() == before


def test_target_of_the_wrong_class_is_refused(command, folder, tmp_path):
    lab = tmp_path / "lab"
    shutil.copytree(LAB, lab)
    (lab / "model" / "lost.yaml").write_text("_target_: no_such_module.Options\n")
    (lab / "model" / "other.yaml").write_text("_target_: lbfgs.LBFGSOptions\nlr: 1.0\nmax_iter: 1\n")
    for choice, message in (
        ("lost", "error: model._target_: "),
        ("other", "error: model._target_ must be a subclass of ratinglab.models.equation_options.EquationOptions"),
    ):
        outcome = command(tmp_path, "train", "--config-dir", str(lab), f"model={choice}", status=2)
        assert outcome.stderr.startswith(message)
        assert outcome.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["lab"]
