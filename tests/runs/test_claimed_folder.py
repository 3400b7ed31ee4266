"""Folders of runs: no file of the user's is used or removed, and a mistake leaves none of ours."""

import pytest

from ratinglab.errors import UserError
from ratinglab.runs.claimed_folder import claim_folder


@pytest.mark.parametrize("name", ["notes", "notes.txt", ".hidden", "folder/", "run.json"])
def test_folder_that_holds_anything_is_refused_and_stays_as_it_is(tmp_path, name):
    folder = tmp_path / "run"
    (folder / name).parent.mkdir(parents=True)
    if name.endswith("/"):
        (folder / name).mkdir()
    else:
        (folder / name).write_text("mine")
    refused = pytest.raises(UserError, match=r"^hydra\.run\.dir must be a new or empty folder, got \S+run$")
    with refused, claim_folder(folder, key="hydra.run.dir"):
        raise AssertionError("the folder is taken")
    assert [str(path.relative_to(folder)) for path in folder.rglob("*")] == [name.rstrip("/")]


@pytest.mark.parametrize("exists", [False, True])
def test_mistake_removes_the_files_of_a_run_that_never_started(tmp_path, exists):
    folder = tmp_path / "new" / "run"
    if exists:
        folder.mkdir(parents=True)
    with pytest.raises(UserError, match="too late"), claim_folder(folder, key="hydra.run.dir"):  # noqa: PT012
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "config.yaml").write_text("seed: 0")
        (folder / "train.log").write_text("")
        raise UserError("too late")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == (
        ["new", "new/run"] if exists else []
    )


def test_fault_of_ours_keeps_the_files(tmp_path):
    with pytest.raises(ZeroDivisionError), claim_folder(tmp_path / "run", key="hydra.run.dir"):  # noqa: PT012
        (tmp_path / "run" / "train.log").write_text("a traceback")
        raise ZeroDivisionError
    assert (tmp_path / "run" / "train.log").read_text() == "a traceback"
