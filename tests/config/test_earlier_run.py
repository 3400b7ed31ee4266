"""Runs with files from outside the package, resumed and reproduced from their own configuration."""

import json
import shutil

import pytest
from equal_runs import assert_equal_runs
from run_folders import edit_saved

from ratinglab.runs.digests import write_with_digests
from ratinglab.runs.record import read_record

SPLIT = """
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ratinglab.options import at_least
from ratinglab.splits.split import TEST, TRAIN, SplitOptions


@dataclass
class EveryNth(SplitOptions):
    name: ClassVar[str] = "every_nth"

    step: int = field(metadata=at_least(2))

    def assign(self, table):
        part = np.full(len(table.ratings), TRAIN)
        part[:: self.step] = TEST
        return part
"""
YAML = "# Every n-th row for test.\n_target_: own_splits.EveryNth\n\nrefit: false\nstep: 10\n"


@pytest.fixture
def config_dir(tmp_path):
    (tmp_path / "own" / "split").mkdir(parents=True)
    (tmp_path / "own" / "own_splits.py").write_text(SPLIT)
    (tmp_path / "own" / "split" / "every_nth.yaml").write_text(YAML)
    return ["--config-dir", "own", "split=every_nth"]


def test_run_with_a_custom_split_resumes_and_reproduces(command, tmp_path, config_dir):
    plain = ["trainer=debug", "logger=none", "hydra.run.dir=run"]
    run = command(tmp_path, "train", *config_dir, "split.step=4", *plain).run
    first = json.loads((run / "metrics.json").read_text())
    assert "split      every_nth" in (run / "train.log").read_text()
    resumed = command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=3")
    assert resumed.run.resolve() == run.resolve()
    assert json.loads((run / "metrics.json").read_text())["fit/epochs"] == first["fit/epochs"] + 1
    reproduction = command(tmp_path, "reproduce", f"run={run}")
    assert reproduction.stdout.splitlines()[-1].endswith("equal to the last digit")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("split.step=1", "split.step must be at least 2, got 1"),
        ("split.step=x", "split.step must be an integer, got x"),
        ("split.setp=3", "unknown key split.setp; did you mean split.step?"),
    ],
)
def test_options_of_a_custom_split_are_checked(command, tmp_path, config_dir, argument, message):
    assert command(tmp_path, "train", *config_dir, argument, status=2).stderr == f"error: {message}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_sweep_accepts_a_custom_split(command, tmp_path, config_dir):
    done = command(tmp_path, "train", "-m", *config_dir, "split.step=5,10", "trainer.max_epochs=1", "logger=none")
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/*/metrics.json"))) == 2
    assert done.stderr == ""


def test_run_with_a_removed_option_is_refused(command, tmp_path, quick):
    run = shutil.copytree(quick.run, tmp_path / "run")
    edit_saved(run, "config.yaml", lambda text: text.replace("  devices: 1\n", "  devices: 1\n  fast: true\n"))
    message = "has the option trainer.fast, which no longer exists, so the run cannot be resumed or reproduced"
    for arguments in (["train", f"resume={run}", "trainer.max_epochs=3"], ["reproduce", f"run={run}"]):
        key = arguments[1].split("=")[0]
        assert command(tmp_path, *arguments, status=2).stderr == f"error: {key}: {run.resolve()} {message}\n"


@pytest.fixture(scope="module")
def first_shop(command, tmp_path_factory):
    """Train in a folder on its ratings.csv, with a recipe of the user's own."""
    shop = tmp_path_factory.mktemp("first") / "shop"
    (shop / "own" / "recipe").mkdir(parents=True)
    (shop / "own" / "recipe" / "small.yaml").write_text("# @package _global_\nmodel:\n  embedding_dim: 3\n")
    rows = [f"{user},{item},{(user * item) % 5 + 1}" for user in range(12) for item in range(10)]
    (shop / "ratings.csv").write_text("\n".join(["user_id,item_id,rating", *rows]) + "\n")
    command(
        shop, "train", "--config-dir", "own", "recipe=small", "data=csv", "data.path=ratings.csv", "logger=none",
        "trainer.max_epochs=2", "hydra.run.dir=run"
    )  # fmt: skip
    return shop


@pytest.fixture
def shop(first_shop, tmp_path):
    """Copy the folder to `shop`, as if the run had been trained there."""
    shop = shutil.copytree(first_shop, tmp_path / "shop")
    for name in (".hydra/hydra.yaml", ".hydra/overrides.yaml", "run.json"):
        path = shop / "run" / name
        path.write_text(path.read_text().replace(str(first_shop), str(shop)))
    write_with_digests(shop / "run", {}, written=["run.json"])
    return shop


def test_run_resumes_and_reproduces_elsewhere_without_its_yaml_files(command, tmp_path, shop):
    shutil.rmtree(shop / "own")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "ratings.csv").write_text("another file\n")  # a relative path is relative to where the run was started
    command(elsewhere, "train", f"resume={shop / 'run'}", "trainer.max_epochs=3")
    reproduction = command(elsewhere, "reproduce", f"run={shop / 'run'}")
    assert reproduction.stdout.splitlines()[-1].endswith("equal to the last digit")
    assert read_record(shop / "run").model_options["embedding_dim"] == 3


def test_reproduction_resumes_and_reproduces_like_its_original(command, shop):
    reproduction = command(shop, "reproduce", "run=run", "data.path=ratings.csv").stdout.splitlines()[-2]
    extended = command(shop, "train", f"resume={reproduction}", "trainer.max_epochs=3")
    assert extended.stdout.splitlines()[-1] == reproduction, "it is not compared with a run of fewer epochs"
    assert "reproduced" not in extended.stdout
    command(shop, "train", "resume=run", "trainer.max_epochs=3")
    third = command(shop, "reproduce", f"run={reproduction}")
    assert third.stdout.splitlines()[-1].endswith("equal to the last digit")
    assert_equal_runs(shop / reproduction, shop / "run")


def test_run_whose_data_has_moved_resumes_from_the_new_path(command, tmp_path, shop):
    (shop / "ratings.csv").rename(tmp_path / "moved.csv")
    missing = command(shop, "train", "resume=run", "trainer.max_epochs=3", status=2)
    assert missing.stderr.startswith("error: data.path: there is no file")
    (tmp_path / "other.csv").write_text("user_id,item_id,rating\n" + "".join(f"{n},1,{n % 2}\n" for n in range(30)))
    other = command(shop, "train", "resume=run", "data.path=../other.csv", "trainer.max_epochs=3", status=2)
    assert other.stderr.startswith("error: resume: the data have changed since")
    command(shop, "train", "resume=run", "data.path=../moved.csv", "trainer.max_epochs=3")
    reproduction = command(shop, "reproduce", "run=run", "data.path=../moved.csv")
    assert reproduction.stdout.splitlines()[-1].endswith("equal to the last digit")


def test_reproduction_on_moved_data_resumes_elsewhere(command, tmp_path, shop):
    (tmp_path / "other").mkdir()
    (shop / "ratings.csv").rename(tmp_path / "other" / "b[1].csv")
    done = command(tmp_path / "other", "reproduce", f"run={shop / 'run'}", "data.path='b[1].csv'")
    reproduction = tmp_path / "other" / done.stdout.splitlines()[-2]
    command(tmp_path, "train", f"resume={reproduction}", "trainer.max_epochs=3")


def test_titles_in_a_moved_file_of_ratings_move_with_it(command, tmp_path):
    rows = [f"{user},{item},Film {item},{(user * item) % 5 + 1}" for user in range(12) for item in range(10)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,title,rating", *rows]) + "\n")
    in_ratings = ["data.path=ratings.csv", "data.items.path=ratings.csv"]
    command(tmp_path, "train", "data=csv", *in_ratings, "trainer=debug", "logger=none", "hydra.run.dir=run")
    (tmp_path / "ratings.csv").rename(tmp_path / "moved.csv")
    command(tmp_path, "train", "resume=run", "data.path=moved.csv", "trainer.max_epochs=3")
    reproduction = command(tmp_path, "reproduce", "run=run", "data.path=moved.csv")
    assert reproduction.stdout.splitlines()[-1].endswith("equal to the last digit")


def test_path_that_was_null_may_be_set(command, tmp_path):
    run = command(tmp_path, "train", "trainer=debug", "logger=none", "data.cache=null", "hydra.run.dir=run").run
    command(tmp_path, "train", f"resume={run}", "data.cache=.", "trainer.max_epochs=3")
    command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=4")


LACKS, IS_OTHER = "groups of options are missing", "its content has the wrong type"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", IS_OTHER),
        ("[1]", IS_OTHER),
        ("seed: 0\ndata:\n  name: x\n", LACKS),
        ("a: [", "while parsing a flow node "),
        ("seed: ${", "no viable alternative at input "),
    ],
)
def test_damaged_configuration_is_refused(command, shop, content, reason):
    path = shop / "run" / ".hydra" / "config.yaml"
    edit_saved(shop / "run", "config.yaml", lambda _: content)
    for script, key in (("train", "resume"), ("reproduce", "run")):
        outcome = command(shop, script, f"{key}=run", status=2)
        assert outcome.stderr.startswith(f"error: {key}: {path} is damaged: {reason}")
        assert outcome.stderr.count("\n") == 1


def test_run_is_resumed_and_reproduced_without_the_files_of_hydra(command, shop):
    shutil.rmtree(shop / "run" / ".hydra")
    command(shop, "train", "resume=run", "trainer.max_epochs=3")
    reproduction = command(shop, "reproduce", "run=run")
    assert reproduction.stdout.splitlines()[-1].endswith("equal to the last digit")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (
            "train",
            ["resume=run", "trainer.max_epochs=3,4"],
            "trainer.max_epochs=3,4: trainer.max_epochs takes one value",
        ),
        ("train", ["resume=run", "resume=run"], "resume=run: resume takes one value"),
        (
            "train",
            ["resume=run", "+data.path=ratings.csv"],
            "+data.path=ratings.csv: a key cannot be added; try data.path=ratings.csv",
        ),
        ("reproduce", ["run=run", "data.path=a,b"], "data.path=a,b: data.path takes one value"),
        (
            "train",
            ["resume=run", "--cfg", "job"],
            "--cfg shows the configuration of a new run; that of this run is in {run}/.hydra/config.yaml",
        ),
        ("train", ["-m", "seed=1,2", "--cfg", "job"], "--cfg shows the configuration of one run: leave out -m"),
    ],
)
def test_mistake_beside_an_earlier_run_is_one_line(command, shop, script, arguments, message):
    outcome = command(shop, script, *arguments, status=2)
    assert outcome.stderr == f"error: {message.format(run=shop / 'run')}\n"


def test_resume_refuses_a_path_key_that_the_run_lacks(command, shop):
    outcome = command(shop, "train", "resume=run", "data.root=.", status=2)
    assert outcome.stderr == "error: data.root=.: the run has no key data.root\n"
