"""Faulty YAML files in a folder of the user's own: one line each, and nothing left behind."""

import pytest

from ratinglab.config import primary_config
from ratinglab.config.hydra_api import IS_1_3

FILES = {
    "a list": (b"- a\n- b\n", "list.yaml must hold keys and their values, got [a,b]"),
    "one value": (b"17\n", "must hold keys and their values, got 17"),
    "not text": (b"\x9f\xff\x00", "is not UTF-8 text: invalid start byte at byte 0"),
    "broken": (b"a: [1\n", "x.yaml, line 2: "),
    "empty": (b"", "must begin with the line `# @package _global_`"),
    "a key twice": (b"# @package _global_\nseed: 1\nseed: 2\n", "line 3: found duplicate key seed"),
    "a foreign class": (
        b"# @package _global_\nmodel:\n  _target_: os.system\n",
        "model._target_ must be a subclass of",
    ),
    "a header cut short": (b"# @packa\nseed: 1\n", "x.yaml: Expected header format: KEY VALUE, got '@packa'"),
    "a mistyped override": (
        b"# @package _global_\ndefaults:\n  - overide /model: mf\n",
        "defaults list" if IS_1_3 else "x.yaml: Unsupported keyword 'overide' in defaults list",
    ),
    "a default that is a number": (
        b"# @package _global_\ndefaults:\n  - 17\n",
        "x.yaml: Unsupported type in defaults : int",
    ),
    "a run": (b"# @package _global_\nresume: there\n", "sets resume, which only the command line can: resume=there"),
}


@pytest.mark.parametrize("fault", FILES)
def test_faulty_experiment_is_one_line(command, tmp_path, fault):
    content, message = FILES[fault]
    name = "list" if fault == "a list" else "x"
    (tmp_path / "lab" / "experiment").mkdir(parents=True)
    (tmp_path / "lab" / "experiment" / f"{name}.yaml").write_bytes(content)
    outcome = command(tmp_path, "train", "--config-dir", "lab", f"experiment={name}", "logger=none", status=2)
    assert outcome.stderr.count("\n") == 1
    assert message in outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lab"]


def test_line_break_in_a_file_name_makes_no_second_line(command, tmp_path):
    outcome = command(tmp_path, "train", "data=csv", "data.path='a\nb.csv'", status=2)
    assert outcome.stderr == "error: data.path: there is no file a\\nb.csv\n"


def test_missing_folder_of_the_package_is_one_line(command, tmp_path, monkeypatch):
    monkeypatch.setattr(primary_config, "FOLDER", tmp_path / "conf")
    outcome = command(tmp_path, "train", status=2)
    assert outcome.stderr == f"error: there is no folder {tmp_path}/conf: restore it, or install ratinglab again\n"
    assert list(tmp_path.iterdir()) == []
