"""Paths with spaces, `=`, `,` and other alphabets, typed without quotes."""

import pytest
from run_folders import metrics_of

FOLDER = "my = data, ünïcode 评分"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder with special characters in its name, and files with such names in it."""
    folder = tmp_path_factory.mktemp("paths") / FOLDER
    folder.mkdir()
    rows = [f"{user},{item},{1 + user * item % 5}" for user in range(30) for item in range(20)]
    (folder / "ratings a=1,b.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    (folder / "títles, all.csv").write_text("item_id,title\n1,Heat\n")
    (folder / "pairs {x}.csv").write_text("user_id,item_id\n1,2\n")
    return folder


LIMITS = ["trainer.max_epochs=2", "logger=none"]
DATA = ["data=csv", "data.path=ratings a=1,b.csv", "data.items.path=títles, all.csv", *LIMITS]
RUN = "outputs/a run, α=0.1"


@pytest.fixture(scope="module")
def run(command, folder):
    return command(folder, "train", *DATA, f"hydra.run.dir={RUN}").run


def test_train_writes_to_a_folder_with_special_characters(folder, run):
    assert run == folder / RUN
    assert (run / "metrics.json").exists()


@pytest.mark.parametrize(
    ("script", "arguments", "shown"),
    [
        ("evaluate", [], "equal to metrics.json"),
        ("recommend", ["user=1", "k=20"], "recommended to user 1"),
        ("predict", ["input=pairs {x}.csv", "output=out, put=1.csv"], "1 prediction in out, put=1.csv"),
        ("reproduce", [], "reproduced: every metric is equal"),
        ("reproduce", ["data.path=ratings a=1,b.csv"], "reproduced: every metric is equal"),
    ],
)
def test_commands_accept_a_run_folder_with_special_characters(command, folder, run, script, arguments, shown):
    assert shown in command(folder, script, f"run={RUN}", *arguments).stdout


def test_absolute_path_of_a_run_may_have_special_characters(command, folder, run):
    assert "equal to metrics.json" in command(folder, "evaluate", f"run={run}").stdout


def test_resume_accepts_a_run_folder_with_special_characters(command, run, folder):
    command(folder, "train", f"resume={RUN}", "trainer.max_epochs=3")
    assert metrics_of(run)["fit/epochs"] == 3


def test_path_with_a_comma_is_one_file_without_quotes(command, folder):
    (folder / "a,b.csv").write_text((folder / "ratings a=1,b.csv").read_text())
    assert "data       a,b.csv: 600 ratings" in command(folder, "train", *DATA, "data.path=a,b.csv").stdout


def test_sweep_accepts_quoted_paths_with_special_characters(command, folder):
    quoted = [f"{key}='{value}'" for key, value in (text.split("=", 1) for text in DATA)]
    command(folder, "train", "-m", *quoted, "seed=1,2", "hydra.sweep.dir='my sweep, β=1'")
    for record in (runs := list((folder / "my sweep, β=1").glob("*/run.json"))):
        assert "equal" in command(folder, "evaluate", f"run={record.parent.relative_to(folder)}").stdout
    assert len(runs) == 2
