"""The examples in conf/model/README.md and CONTRIBUTING: equations, a split and a metric in a folder of one's own."""

import json
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "conf" / "model" / "README.md").read_text()


@pytest.fixture
def lab(tmp_path):
    """Write the two files of each example."""
    (tmp_path / "lab" / "model").mkdir(parents=True)
    blocks = re.findall(r"```python\n(.*?)```.*?```yaml\n(.*?)```", PAGE, re.DOTALL)
    for (python, config), name in zip(blocks, ("centered_mf", "popularity_mf"), strict=True):
        (tmp_path / "lab" / f"{name}.py").write_text(python)
        (tmp_path / "lab" / "model" / f"{name}.yaml").write_text(config)
    return tmp_path


def test_documented_equation_trains_and_its_run_evaluates(command, lab):
    chosen = ["--config-dir", "lab", "model=centered_mf", "trainer=debug", "model.embedding_dim=8"]
    trained = command(lab, "train", *chosen)
    assert "model      centered_mf: embedding_dim=8" in trained.stdout
    assert json.loads((trained.run / "metrics.json").read_text())["test/mse"] < 2
    for folder in (["--config-dir", "lab"], []):  # a run remembers the folder
        evaluated = command(lab, "evaluate", *folder, f"run={trained.run}")
        assert "equal to metrics.json to the last digit" in evaluated.stdout
    (lab / "lab").rename(lab / "moved")
    moved = command(lab, "evaluate", "--config-dir", "moved", f"run={trained.run}")
    assert "equal to metrics.json to the last digit" in moved.stdout
    lost = command(lab, "evaluate", f"run={trained.run}", status=2)
    assert lost.stderr.startswith(f"error: {trained.run}/run.json: model_target: there is no module centered_mf; ")
    assert lost.stderr.count("\n") == 1


def test_documented_split_and_metric_are_used(command, tmp_path):
    page = (REPOSITORY / ".github" / "CONTRIBUTING.md").read_text()
    split, metric = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (config,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "lab" / "split").mkdir(parents=True)
    for path, content in {"every_nth.py": split, "split/every_nth.yaml": config, "my_metrics.py": metric}.items():
        (tmp_path / "lab" / path).write_text(content)
    (line,) = re.findall(r"`python scripts/train.py (--config-dir lab split=.*?)`", page)
    trained = command(tmp_path, "train", *line.split(), "model=bias", "trainer=debug", "logger=none")
    assert "split      every_nth " in trained.stdout
    assert 0 < json.loads((trained.run / "metrics.json").read_text())["test/within_half"] < 1


@pytest.mark.parametrize("optimizer", ["adam", "als", "gibbs"])
def test_documented_factor_equation_is_fitted_by(command, lab, optimizer):
    chosen = ["--config-dir", "lab", "model=popularity_mf", f"optimizer={optimizer}", "trainer.max_epochs=12"]
    trained = command(lab, "train", *chosen, "logger=none", *(["optimizer.burn_in=5"] if optimizer == "gibbs" else []))
    metrics = json.loads((trained.run / "metrics.json").read_text())
    assert metrics["test/mse"] < metrics["baseline/bias/test/mse"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model.embeding_dim=8", "unknown key model.embeding_dim; did you mean model.embedding_dim?"),
        ("model.embedding_dim=0", "model.embedding_dim must be at least 1, got 0"),
        ("model.embedding_dim=x", "model.embedding_dim must be an integer, got x"),
    ],
)
def test_options_of_the_documented_equation_are_checked(command, lab, argument, message):
    failed = command(lab, "train", "--config-dir", "lab", "model=centered_mf", argument, status=2)
    assert failed.stderr == f"error: {message}\n"
    assert [path.name for path in lab.iterdir()] == ["lab"]


def test_fits_of_the_documented_equation_are_named(command, lab):
    failed = command(lab, "train", "--config-dir", "lab", "model=centered_mf", "optimizer=gibbs", status=2)
    start, _, fits = failed.stderr.partition(", got model=centered_mf, which needs optimizer=adam, ")
    assert start.startswith("error: optimizer=gibbs fits best, biased_mf, ")
    # other tests in this process may have added fits of their own
    assert {"adamw", "sgd", "sparse_adam"} <= set(re.findall(r"\w+", fits))
    assert not {"als", "block_sgd", "gibbs"} & set(re.findall(r"\w+", fits))


def test_broken_equation_file_fails_only_when_used(command, lab):
    (lab / "lab" / "centered_mf.py").write_text("class CenteredMFOptions:\n    embedding_dim: int = (\n")
    command(lab, "train", "--config-dir", "lab", "--help")
    command(lab, "train", "--config-dir", "lab", "trainer=debug", "logger=none")
    refused = command(lab, "train", "--config-dir", "lab", "model=centered_mf", status=2)
    assert refused.stderr.startswith("error: model._target_: ")
    assert refused.stderr.count("\n") == 1


def test_error_during_a_run_keeps_the_files_needed_to_resume(command, lab):
    path = lab / "lab" / "centered_mf.py"
    # the trial before the run has three rows
    refusal = "if len(user) > 3:\n            raise UserError('no')\n        return self.rating_mean +"
    python = path.read_text().replace("return self.rating_mean +", refusal)
    path.write_text(python.replace("from ratinglab.models", "from ratinglab import UserError\nfrom ratinglab.models"))
    failed = command(
        lab,
        "train",
        "--config-dir",
        "lab",
        "model=centered_mf",
        "trainer.max_epochs=1",
        "hydra.run.dir=begun",
        status=2,
    )
    assert failed.stderr == "error: no\n"
    assert (lab / "begun" / "run.json").exists()
    assert (lab / "begun" / ".hydra" / "overrides.yaml").exists()
