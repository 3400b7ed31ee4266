"""Commands where locale, environment and permissions differ from the developers' machines."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from conftest import NO_FIGURES, REPOSITORY, environment

from ratinglab.config.hydra_api import IS_1_3
from ratinglab.config.resolvers import cache_folder
from ratinglab.errors import UserError
from ratinglab.kernels import compiled
from ratinglab.process.locks import lock_folder

SLURM = {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "lab", "SLURM_PROCID": "3", "SLURM_LOCALID": "3"}


@pytest.mark.slow
def test_run_trains_under_a_windows_locale_in_an_interactive_slurm_allocation(cache, tmp_path):
    if shutil.which("localedef") is None:
        pytest.skip("this machine cannot make a locale")
    locale = subprocess.run(["localedef", "-i", "en_US", "-f", "CP1252", str(tmp_path / "en_US.CP1252")], check=False)
    if locale.returncode != 0:
        pytest.skip("this machine has no en_US")
    foreign = {"LOCPATH": str(tmp_path), "LC_ALL": "en_US.CP1252", "PYTHONUTF8": "0", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "train.py", "trainer=debug", "hydra.run.dir='~/run'", *NO_FIGURES],
        env={**environment(cache), **foreign, **SLURM},
        cwd=tmp_path,
        capture_output=True,
        encoding="cp1252",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "run"
    assert "density" in (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert not (tmp_path / "~").exists()
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


TWO_TRAININGS = """
import os, runpy, sys

script, *arguments = sys.argv[1:]
for argument in arguments:
    sys.argv, status = [script, "trainer=debug", "hydra.run.dir=run", argument], 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        status = end.code
    print(f"status {status}, left {os.listdir()}")
"""
"""Code that trains once per argument: starting and importing everything takes longer than training."""


@pytest.mark.slow
@pytest.mark.skipif(not IS_1_3, reason="Hydra 1.4.0rc3 cannot save a path that the locale cannot decode")
def test_folder_that_is_not_ascii_trains_in_the_c_locale(cache, tmp_path):
    folder = tmp_path / "é"
    folder.mkdir()
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", TWO_TRAININGS, REPOSITORY / "scripts" / "train.py", "logger=tensorboard", "logger=none"],
        env={**environment(cache), **plain},
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("status")] == [
        "status 2, left []",
        "status 0, left ['run']",
    ], done.stderr
    assert done.stderr.startswith("error: logger: in this locale TensorBoard cannot write to ")


def test_loops_are_compiled_uncached_where_nothing_can_be_written(monkeypatch):
    def njit(*, cache):
        raise RuntimeError("cannot cache function '<lambda>': no locator available for file 'compiled.py'")

    assert compiled.CACHE
    monkeypatch.setattr(numba, "njit", njit)
    assert not compiled._can_cache()


def test_read_only_home_means_no_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("RATINGLAB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == str(tmp_path / "cache" / "ratinglab")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert cache_folder() is None


def test_demo_data_need_no_cache_folder(command, tmp_path):
    outcome = command(tmp_path, "inspect_data", "data=demo", "data.cache=null")
    assert outcome.stdout.startswith("demo: 100,000 ratings")


def test_run_that_cannot_be_written_is_refused_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError) as error:
        lock_folder(tmp_path, key="resume").__enter__()
    assert str(error.value) == f"resume: {tmp_path} cannot be written to: Permission denied"
    assert list(tmp_path.iterdir()) == []
