"""A run trained again from its own record."""

import json

import pytest


@pytest.fixture
def run(command, tmp_path):
    rows = [f"{user},{item},{1 + user * item % 5}" for user in range(30) for item in range(20)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    data = ["data=csv", "data.path=ratings.csv"]
    return command(tmp_path, "train", "trainer=debug", "logger=none", *data, "model=biased_mf", "seed=3").run


def test_the_same_comes_out_in_a_run_of_its_own(command, tmp_path, run):
    outcome = command(tmp_path, "reproduce", f"run={run.relative_to(tmp_path)}")
    assert outcome.stdout.splitlines()[-1] == "reproduced: every metric is equal to the last digit"
    again = tmp_path / outcome.stdout.splitlines()[-2]
    assert again != run
    assert json.loads((again / "run.json").read_text())["model"] == "biased_mf"


def test_what_differs_is_said(command, tmp_path, run):
    path = run / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test/mse": 0.0}))
    outcome = command(tmp_path, "reproduce", f"run={run}")
    assert outcome.stdout.splitlines()[-1].startswith("not equal: the largest difference is")
    assert "(test/mse)" in outcome.stdout


def test_data_that_has_changed_is_refused(command, tmp_path, run):
    path = tmp_path / "ratings.csv"
    path.write_text(path.read_text() + "\n29,99,1.5")
    outcome = command(tmp_path, "reproduce", f"run={run}", status=2)
    assert outcome.stderr.startswith("error: run: the data has changed since")
    assert len(list(tmp_path.rglob("run.json"))) == 1


@pytest.mark.parametrize("arguments", [[], ["run=x", "seed=1"], ["run=x", "-m"]])
def test_it_takes_a_run_and_nothing_else(command, tmp_path, arguments):
    outcome = command(tmp_path, "reproduce", *arguments, status=2)
    assert outcome.stderr == "error: reproduce takes run=FOLDER, and nothing else\n"
    assert list(tmp_path.iterdir()) == []
