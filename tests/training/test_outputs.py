"""Output files of commands: never the input or a file of a run; links and streams are followed."""

import hashlib
import subprocess
import sys

import pytest
from conftest import REPOSITORY, environment


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n42,7\n42,8\n")
    return tmp_path


def contents(run):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("script", "arguments", "names"),
    [
        ("predict", ["input=pairs.csv", "output={}"], ["run.json", "new.csv", "checkpoints/best.ckpt"]),
        ("recommend", ["user=42", "output={}"], ["run.json", "checkpoints/new.csv"]),
        ("recommend", ["output={}"], ["new.csv", "checkpoints/best.ckpt"]),
        ("similar", ["item=42", "output={}"], ["new.csv"]),
    ],
)
def test_output_inside_a_run_folder_is_refused(command, folder, quick, script, arguments, names):
    before = contents(quick.run)
    for output in (quick.run / name for name in names):
        given = [argument.format(output) for argument in arguments]
        outcome = command(folder, script, f"run={quick.run}", *given, status=2)
        assert outcome.stderr == f"error: output must not be inside the folder of a run, got {output}\n"
    assert contents(quick.run) == before


def test_figure_inside_a_run_folder_is_refused(command, folder, quick):
    outcome = command(folder, "inspect_data", "data=demo", f"figure={quick.run}/data.png", status=2)
    assert outcome.stderr.startswith("error: figure must not be inside the folder of a run, got ")


def test_link_into_a_run_folder_is_refused(command, folder, quick):
    before = contents(quick.run)
    (folder / "link.csv").symlink_to(quick.run / "run.json")
    outcome = command(folder, "predict", f"run={quick.run}", "input=pairs.csv", "output=link.csv", status=2)
    assert "must not be inside the folder of a run" in outcome.stderr
    assert contents(quick.run) == before


@pytest.mark.parametrize("output", ["pairs.csv", "./pairs.csv", "hard.csv", "soft.csv"])
def test_output_equal_to_the_input_is_refused(command, folder, quick, output):
    (folder / "hard.csv").hardlink_to(folder / "pairs.csv")
    (folder / "soft.csv").symlink_to("pairs.csv")
    outcome = command(folder, "predict", f"run={quick.run}", "input=pairs.csv", f"output={output}", status=2)
    assert outcome.stderr == f"error: output must differ from the input file, got {output}\n"
    assert (folder / "pairs.csv").read_text() == "user_id,item_id\n42,7\n42,8\n"


def test_output_link_is_followed(command, folder, quick):
    (folder / "there").mkdir()
    (folder / "link.csv").symlink_to("there/predictions.csv")
    command(folder, "predict", f"run={quick.run}", "input=pairs.csv", "output=link.csv")
    assert (folder / "link.csv").is_symlink()
    assert len((folder / "there" / "predictions.csv").read_text().splitlines()) == 3
    assert sorted(path.name for path in (folder / "there").iterdir()) == ["predictions.csv"]


def test_rows_and_messages_do_not_overwrite_each_other_in_one_file(folder, cache, quick):
    script = REPOSITORY / "scripts" / "predict.py"
    line = f"(echo before; {sys.executable} {script} run={quick.run} input=pairs.csv output=/dev/stdout; echo after)"
    subprocess.run(f"{line} > all.txt 2>&1", shell=True, check=True, cwd=folder, env=environment(cache))
    lines = (folder / "all.txt").read_text().splitlines()
    assert [each.split(",")[0] for each in lines[:4]] == ["before", "user_id", "42", "42"]
    assert lines[4:] == ["2 predictions in /dev/stdout", "after"]


def test_output_to_stdout_contains_only_rows(command_apart, folder, quick):
    outcome = command_apart(folder, "predict", f"run={quick.run}", "input=pairs.csv", "output=/dev/stdout")
    header, *rows = outcome.stdout.splitlines()
    assert header == "user_id,item_id,prediction,basis"
    assert [row.rsplit(",", 2)[0] for row in rows] == ["42,7", "42,8"]
    assert outcome.stderr.startswith("2 predictions in /dev/stdout\n")
    listed = command_apart(folder, "recommend", f"run={quick.run}", "user=42", "k=2", "output=/dev/stdout")
    assert [line.count(",") > 2 for line in listed.stdout.splitlines()] == [True] * 3
