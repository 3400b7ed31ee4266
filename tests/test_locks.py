"""Locks of folders, on a disk that becomes read-only."""

import errno
import os
from pathlib import Path

from ratinglab.locks import locked


def test_lock_ends_where_the_disk_has_become_read_only(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch, locked(tmp_path, key="resume"):
        patch.setattr(Path, "unlink", refuse)
    with locked(tmp_path, key="resume"):  # the lock has been released
        pass
