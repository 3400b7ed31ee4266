"""The state of this process after a command in it."""

import sys
from importlib import import_module

import in_process
from in_process import act_as_command


def test_only_modules_of_config_dir_are_dropped(tmp_path, monkeypatch):
    for folder in ("lab", "library"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"of_{folder}.py").touch()
    monkeypatch.setattr(in_process, "INSTALLED", [*in_process.INSTALLED, str(tmp_path / "library")])
    monkeypatch.syspath_prepend(tmp_path / "library")  # as with the packages of another environment
    with act_as_command("ratinglab", folder=tmp_path):
        sys.path.insert(0, str(tmp_path / "lab"))
        import_module("of_lab")
        import_module("of_library")
    assert "of_lab" not in sys.modules
    assert sys.modules.pop("of_library", None) is not None
