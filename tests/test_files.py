"""Paths, atomic writes, and removal of temporary files."""

import errno
import os

import pytest

from ratinglab.errors import UserError
from ratinglab.files import atomic_folder, remove_temporary_files, user_path, write_atomically, write_output


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_text("old")
    return tmp_path / "file"


def test_write_whole_replaces_the_file_and_keeps_its_permissions(path):
    mode = path.stat().st_mode
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_text() == "new"
    assert path.stat().st_mode == mode
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(path, monkeypatch, fails):
    if fails != "write":
        monkeypatch.setattr(os, fails, full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, full_disk if fails == "write" else lambda file: file.write(b"new"))
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot sync folders")
def test_file_is_synced_before_it_gets_its_name_and_the_folder_afterwards(path, monkeypatch):
    """A power loss would otherwise leave an empty file."""
    synced = []

    def sync(descriptor):
        synced.append("folder" if os.path.samestat(os.fstat(descriptor), path.parent.stat()) else path.read_text())

    monkeypatch.setattr(os, "fsync", sync)
    write_atomically(path, lambda file: file.write(b"new"))
    assert synced == ["old", "folder"]
    assert path.read_text() == "new"


def test_leftovers_of_a_killed_process_are_removed(path):
    (path.parent / ".file.123.tmp").write_text("half")
    remove_temporary_files(path.parent)
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["~nosuchuser/x", "x" * 300])
def test_invalid_path_is_refused_with_its_key(text):
    with pytest.raises(UserError, match=r"^key: .* is not a valid path: "):
        user_path(text, key="key")


def test_whole_folder_appears_at_the_end(tmp_path):
    for name in ("new", "empty"):
        with atomic_folder(tmp_path / name, key="output") as folder:
            (folder / "file").write_text("x")
            assert not (tmp_path / "new").exists() or name == "empty"
        (tmp_path / "empty").mkdir(exist_ok=True)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "empty", "empty/file", "new", "new/file",
    ]  # fmt: skip


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_failed_folder_leaves_nothing_behind(tmp_path, error):
    expected = KeyboardInterrupt if error is KeyboardInterrupt else UserError

    def write() -> None:
        with atomic_folder(tmp_path / "new", key="output") as folder:
            (folder / "file").write_text("x")
            raise error

    with pytest.raises(expected):
        write()
    assert list(tmp_path.iterdir()) == []


def test_error_of_a_file_that_is_read_meanwhile_names_that_file(tmp_path):
    def write(_: object) -> None:
        (tmp_path / "missing").read_bytes()

    with pytest.raises(UserError, match=rf"^{tmp_path}/missing: No such file or directory$"):
        write_output(tmp_path / "new", write, key="output")
    with pytest.raises(UserError, match=rf"^{tmp_path}/missing: "), atomic_folder(tmp_path / "new", key="output"):
        write(None)
    assert list(tmp_path.iterdir()) == []
