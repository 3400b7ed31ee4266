"""The installed command `ratinglab`: the same commands as the scripts, its own overview, and shell completion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment
from in_process import act_as_command

from ratinglab.cli import COMMANDS, main

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def installed(cache, tmp_path_factory):
    """Run shell lines where `ratinglab` is the installed program."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "ratinglab"
    program.write_text(f"#!{sys.executable}\nfrom ratinglab.cli import main\n\nmain()\n")
    program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"

    def run(line, cwd=folder):
        environ = {**environment(cache), "PATH": path}
        return subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, timeout=60, env=environ)

    return run


def test_each_command_has_a_script():
    assert {path.stem for path in SCRIPTS.glob("*.py")} == COMMANDS.keys()


def test_ratinglab_alone_lists_the_commands(installed):
    overview = installed("ratinglab").stdout
    assert overview == installed("ratinglab --help").stdout
    assert [line.split()[0] for line in overview.split("Commands:\n")[1].split("\n\n")[0].splitlines()] == [*COMMANDS]


def test_unknown_command_is_a_one_line_error_with_the_nearest_name(installed):
    outcome = installed("ratinglab trian model=mf")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("error: unknown command trian: choose from train, ")
    assert outcome.stderr.endswith("; did you mean train?\n")


def test_version(installed):
    versions = installed(f"ratinglab --version; ratinglab train --version; {sys.executable} -m ratinglab --version")
    assert len(set(versions.stdout.splitlines())) == 1
    assert versions.stdout.startswith("ratinglab 0.")


def test_commands_name_each_other_as_they_were_started(installed, quick, tmp_path):
    evaluated = installed(f"ratinglab evaluate {quick.run}")
    assert evaluated.stdout.splitlines()[-1] == "equal to metrics.json to the last digit", evaluated.stderr
    helped = installed("ratinglab predict --help", tmp_path).stdout
    assert "  ratinglab predict run=outputs/… input=pairs.csv" in helped
    assert "scripts/" not in helped
    reproduces = installed(f"ratinglab train reproduces={quick.run}", tmp_path)
    assert reproduces.stderr == "error: reproduces cannot be set: use ratinglab reproduce run=FOLDER\n"


COMPLETIONS = {
    "ratinglab re": {"report", "recommend", "reproduce"},
    "ratinglab train model=b": {"model=best", "model=bias", "model=biased_mf"},
    "ratinglab train model=biased_mf model.embed": {"model.embedding_dim="},
    "ratinglab recommend k": {"k="},
}


def test_bash_completes_commands_choices_and_keys(installed):
    lines = [
        f"COMP_LINE='{typed}' COMP_CWORD={len(typed.split()) - 1}; hydra_bash_completion; echo \"${{COMPREPLY[@]}}\""
        for typed in COMPLETIONS
    ]
    outcome = installed("; ".join(['eval "$(ratinglab -sc install=bash)"', *lines]))
    completions = [set(line.split()) for line in outcome.stdout.splitlines()]
    assert completions == [*COMPLETIONS.values()], outcome.stderr


@pytest.mark.parametrize("arguments", ["", "install=tcsh", "install=bash now"])
def test_other_completion_requests_are_one_line(tmp_path, capsys, arguments):
    with act_as_command("ratinglab", "-sc", *arguments.split(), folder=tmp_path), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    expected = f"error: -sc must be install=bash, =zsh or =fish, got {arguments or 'nothing'}\n"
    assert capsys.readouterr() == ("", expected)


def test_other_programs_can_read_the_configs_as_a_package(installed):
    """As with hydra.searchpath=[pkg://ratinglab.conf] in another Hydra program."""
    code = (
        "from hydra import compose, initialize_config_module\n"
        "with initialize_config_module('ratinglab.conf', version_base='1.3'):\n"
        "    print(compose('train', ['model=biased_mf']).model.embedding_dim)\n"
    )
    assert installed(f'{sys.executable} -c "{code}"').stdout == "32\n"
