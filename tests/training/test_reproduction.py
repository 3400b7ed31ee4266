"""Reproduction of a run from its own record."""

import pytest
from run_folders import edit_metrics, run_json_of


@pytest.fixture
def run(command, tmp_path):
    rows = [f"{user},{item},{1 + user * item % 5}" for user in range(30) for item in range(20)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    data = ["data=csv", "data.path=ratings.csv"]
    return command(tmp_path, "train", "trainer=debug", "logger=none", *data, "model=biased_mf", "seed=3").run


def test_reproduce_gives_equal_metrics_in_a_new_folder(command, tmp_path, run):
    outcome = command(tmp_path, "reproduce", f"run={run.relative_to(tmp_path)}")
    assert outcome.stdout.splitlines()[-1] == "reproduced: every metric is equal to the last digit"
    again = tmp_path / outcome.stdout.splitlines()[-2]
    assert again != run
    assert run_json_of(again)["model"] == "biased_mf"


def test_reproduce_reports_the_largest_difference(command, tmp_path, run):
    edit_metrics(run, **{"test/mse": 0.0})
    outcome = command(tmp_path, "reproduce", f"run={run}")
    assert outcome.stdout.splitlines()[-1].startswith("not reproduced: the largest difference is")
    assert "(test/mse)" in outcome.stdout


def test_metrics_that_only_the_original_has_are_named(command, tmp_path, run):
    edit_metrics(run, **{"test/added": 0.0})  # as by report --test, for a job of a search
    *_, note, last = command(tmp_path, "reproduce", f"run={run}").stdout.splitlines()
    assert note == "note: not measured again, and so not compared: test/added"
    assert last == "reproduced: every metric is equal to the last digit"


def test_missing_validation_metrics_are_no_reproduction(command, tmp_path, run):
    edit_metrics(run, **{"val/added": 0.0})
    last = command(tmp_path, "reproduce", f"run={run}").stdout.splitlines()[-1]
    assert last == "not reproduced: metrics are missing"


def test_reproduce_refuses_changed_data(command, tmp_path, run):
    path = tmp_path / "ratings.csv"
    path.write_text(path.read_text() + "\n29,99,1.5")
    outcome = command(tmp_path, "reproduce", f"run={run}", status=2)
    assert outcome.stderr.startswith("error: run: the data have changed since")
    assert len(list(tmp_path.rglob("run.json"))) == 1


def test_reproduce_does_not_sweep(command, tmp_path, run):
    before = sorted(tmp_path.rglob("*"))
    outcome = command(tmp_path, "reproduce", f"run={run}", "-m", status=2)
    assert outcome.stderr == "error: reproduce trains a single run: leave out -m\n"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("arguments", [[], ["run=x", "seed=1"]])
def test_reproduce_accepts_only_the_run_argument(command, tmp_path, arguments):
    outcome = command(tmp_path, "reproduce", *arguments, status=2)
    assert outcome.stderr == (
        "error: reproduce takes run=FOLDER and, if the data have been moved, their new path, as in data.path=FILE\n"
    )
    assert list(tmp_path.iterdir()) == []
