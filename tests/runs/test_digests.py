"""Damage to the files of a run is found and named; a kill between two writes leaves a whole run."""

import errno
import json
import os
import shutil
from io import BytesIO

import pytest
import torch
from fuzz_runs import Case, damage
from run_folders import metrics_of

from ratinglab import files
from ratinglab.errors import RunFailedError, UserError
from ratinglab.inference.run import Run
from ratinglab.runs.digests import check_archive, check_file, seal_archive, write_with_digests

BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def other(command, tmp_path_factory):
    """Train a run of the same shapes as `quick`, from other weights."""
    return command(tmp_path_factory.mktemp("other"), "train", "trainer=debug", "logger=none", "seed=5").run


@pytest.fixture
def run(quick, tmp_path):
    return shutil.copytree(quick.run, tmp_path / "run")


def use(folder) -> None:
    """Read every file that predictions, lists and comparisons depend on."""
    loaded = Run.load(folder)
    loaded.recommend(42, k=2)
    loaded.evaluate()
    assert loaded.metrics


@pytest.mark.parametrize("how", ["absent", "empty", "truncated", "flipped", "folder", "list", "other run"])
@pytest.mark.parametrize("name", ["run.json", "digests.json", "users.parquet", "ratings.parquet", "metrics.json", BEST])
def test_damaged_file_is_named_in_one_line(run, other, name, how):
    if not damage(Case("adam", name, how, 1), run, other):
        pytest.skip("both runs have the same file")
    # of the digests of another run, the first file that is read differs
    with pytest.raises(UserError, match="run.json" if (name, how) == ("digests.json", "other run") else name) as error:
        use(run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["part", "weight", "nan", "scaled", "epochs"])
def test_rewritten_checkpoint_is_refused(run, other, how):
    assert damage(Case("adam", BEST, how, 1), run, other)
    message = r"best\.ckpt is damaged.*; last\.ckpt is intact, from epoch 2$"
    with pytest.raises(UserError, match=message):
        Run.load(run)


@pytest.mark.parametrize("name", ["best.ckpt", "ratings.parquet"])
def test_finished_run_without_a_file_is_not_called_finished(command, run, name):
    next(run.rglob(name)).unlink()
    found = command(run.parent, "train", "resume=run", status=None)
    assert "already finished" not in found.stdout
    assert name in found.stderr + found.stdout
    if name == "ratings.parquet":  # the data has all of it
        use(run)
    else:
        assert found.status == 2


def test_run_with_a_damaged_last_checkpoint_predicts_but_is_not_extended(command, run):
    (run / LAST).write_bytes((run / LAST).read_bytes()[:-100])
    use(run)
    found = command(run.parent, "train", "resume=run", "trainer.max_epochs=4", status=2)
    assert "last.ckpt is damaged" in found.stderr
    assert "best.ckpt is intact, from epoch " in found.stderr


@pytest.mark.parametrize(
    "changed",
    [
        {"num_users": "many"},
        {"num_items": True},
        {"num_users": 0},
        {"rating_mean": float("nan")},
        {"scale": [5, 1]},
        {"model_options": [1]},
        {"provenance": {}},
        {"monitor": "val/none"},
        {"ranking": {}},
    ],
)
def test_edited_record_is_refused(run, changed):
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(UserError, match=r"run\.json is damaged: its digest differs from the one recorded"):
        Run.load(run)


@pytest.mark.parametrize("name", ["metrics.json", "run.json", "ratings.parquet"])
def test_file_of_a_folder_without_digests_is_refused(run, name):
    (run / "digests.json").unlink()
    with pytest.raises(UserError, match=r"digests\.json is missing: the files of the run cannot be checked"):
        check_file(run / name)


def test_kill_between_the_digest_and_the_file_leaves_both_valid(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    write_with_digests(tmp_path, {}, written=["a"])
    with monkeypatch.context() as patch:
        patch.setattr("ratinglab.runs.digests.write_bytes", _write_all_but(tmp_path / "a"))
        for content in (b"killed", b"killed again"):
            with pytest.raises(KeyboardInterrupt):
                write_with_digests(tmp_path, {"a": content})
            check_file(tmp_path / "a")
    write_with_digests(tmp_path, {"a": b"new"})
    check_file(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"killed")
    with pytest.raises(UserError, match="a is damaged: its digest differs"):
        check_file(tmp_path / "a")


def _write_all_but(path):
    def write(each, content):
        if each == path:
            raise KeyboardInterrupt
        files.write_bytes(each, content)

    return write


def test_damage_to_an_archive_is_found_or_changes_nothing(tmp_path):
    archive, path = BytesIO(), tmp_path / "a"
    torch.save({"a": torch.arange(100), "b": 1}, archive)
    seal_archive(archive)
    whole = archive.getvalue()

    def is_found(content) -> bool:
        path.write_bytes(content)
        try:
            check_archive(path)
        except UserError:
            return True
        loaded = torch.load(path, weights_only=True)
        assert torch.equal(loaded["a"], torch.arange(100))
        assert loaded["b"] == 1
        return False

    assert not is_found(whole)
    directory = whole.index(b"PK\1\2")
    places = [*range(0, directory, 7), *range(directory, len(whole))]
    flipped = (whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :] for place in places)
    assert sum(map(is_found, flipped)) > len(places) / 2
    # bit 4 of an entry's attributes: torch would take the part for a folder, and leave its tensor as allocated
    assert is_found(whole[: directory + 38] + bytes([whole[directory + 38] ^ 16]) + whole[directory + 39 :])
    assert all(is_found(whole[:size]) for size in (*range(0, directory, 70), *range(directory, len(whole))))
    assert all(is_found(whole + added) for added in (b"\0", bytes(100), whole[:100], whole[directory:]))


def test_run_that_lost_its_best_epoch_to_a_full_disk_says_so(train_here, monkeypatch):
    own, written = os.replace, []

    def fail_twice(source, target):
        written.append(str(target).endswith("best.ckpt"))
        if written[-1] and sum(written) in (3, 4):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        own(source, target)

    monkeypatch.setattr(files.os, "replace", fail_twice)
    with pytest.raises(RunFailedError) as error:
        train_here("model=biased_mf", "trainer.max_epochs=3", "optimizer.lr=0.02", "data.batch_size=1000")
    assert str(error.value).endswith("; best.ckpt is intact, from epoch 1; last.ckpt is intact, from epoch 3")


def test_folder_in_the_place_of_a_file_to_write_is_one_line(run, command):
    (run / "predictions.parquet").unlink()
    (run / "predictions.parquet").mkdir()
    outcome = command(run.parent, "train", f"resume={run}", "trainer.max_epochs=3", status=1)
    assert outcome.stderr == f"error: {run}/predictions.parquet: Is a directory\n"


@pytest.mark.parametrize(("how", "state"), [("absent", "is missing"), ("flipped", "is damaged: its digest differs")])
def test_lost_or_damaged_metrics_are_written_again_with_a_note(run, other, command, how, state):
    before = metrics_of(run)
    assert damage(Case("adam", "metrics.json", how, 1), run, other)
    note = next(line for line in command(run.parent, "train", f"resume={run}").stdout.splitlines() if "note" in line)
    assert note.startswith(f"note: {run}/metrics.json {state}")
    assert note.endswith("; it will be rewritten")
    assert {**metrics_of(run), "fit/seconds": 0} == {**before, "fit/seconds": 0}


def test_run_whose_record_is_lost_is_named_by_the_report(run, command):
    (run / "run.json").unlink()
    outcome = command(run.parent, "report", run.name, status=2)
    assert outcome.stderr == "error: there is no finished run in run (left out: run has no run.json)\n"


def test_file_that_cannot_be_read_is_not_called_damaged(run):
    (run / "run.json").unlink()
    (run / "run.json").mkdir()  # as root, the tests can read any file
    with pytest.raises(UserError, match=r"run\.json cannot be read: Is a directory$"):
        check_file(run / "run.json")
