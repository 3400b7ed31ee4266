"""Locks of folders with read-only files, and on a disk that becomes read-only."""

import errno
import os
from pathlib import Path

import pytest

from ratinglab.errors import UserError
from ratinglab.process.locks import LOCK, lock_folder


def test_lock_ends_where_the_disk_has_become_read_only(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch, lock_folder(tmp_path, key="resume"):
        patch.setattr(Path, "unlink", refuse)
    with lock_folder(tmp_path, key="resume"):  # the lock has been released
        assert (tmp_path / LOCK).exists()


@pytest.mark.parametrize(("name", "is_refused"), [("metrics.json", False), ("train.log", True), ("checkpoints", True)])
def test_only_folders_and_files_written_in_place_must_be_writable(tmp_path, monkeypatch, name, is_refused):
    (tmp_path / "checkpoints").mkdir()
    for file in ("metrics.json", "train.log"):
        (tmp_path / file).touch()
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != name)
    if is_refused:
        with pytest.raises(UserError, match=f"^resume: {tmp_path / name} cannot be written to: Permission denied$"):
            lock_folder(tmp_path, key="resume").__enter__()
    else:
        with lock_folder(tmp_path, key="resume"):
            assert (tmp_path / LOCK).exists()
