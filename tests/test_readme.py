"""Every command in the README runs: here, or in .ci/run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line]
BY_CI = [line for line in COMMANDS if line.startswith("pip install")]
BY_TEST_SWEEP = ["tensorboard --logdir outputs"]
EXAMPLE_RUN = "outputs/2026-11-24/10-15-00-a1b2"


@pytest.fixture
def folder(tmp_path, biased):
    """A place like a checkout, with the run and the files that the README speaks of."""
    for name in ("scripts", "conf"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    ratings = [f"{user},{item},{1 + (user * item) % 5}" for user in range(30) for item in range(20)]
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating", *ratings]))
    (tmp_path / "u.data").write_text("\n".join(ratings).replace(",", "\t"))
    (tmp_path / "movies.csv").write_text("movieId,title\n1,Heat\n")
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n42,7\n")
    (tmp_path / EXAMPLE_RUN).parent.mkdir(parents=True)
    shutil.copytree(biased.run, tmp_path / EXAMPLE_RUN)
    return tmp_path


@pytest.mark.parametrize("line", [line for line in COMMANDS if line not in BY_CI + BY_TEST_SWEEP])
def test_the_command_runs(folder, cache, line):
    program, *arguments = shlex.split(line)
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(cache), check=False,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_python_runs(folder):
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Run.load" in block)
    done = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_ci_runs_the_two_commands_that_set_up(folder):
    script = (REPOSITORY / ".ci" / "run").read_text()
    patterns = re.findall(r"grep -m 1 ['\"](.*?)['\"] README.md", script)
    found = [[line for line in README.splitlines() if re.match(pattern, line)] for pattern in patterns]
    assert [lines[0] for lines in found] == BY_CI


def test_the_choices_in_the_table_are_there():
    for group in (path for path in (REPOSITORY / "conf").iterdir() if path.is_dir()):
        (row,) = re.findall(rf"^\| `{group.name}` \|.*\| (.*) \|$", README, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", row)) <= {path.stem for path in group.glob("*.yaml")}


def test_the_pictures_are_there():
    pages = [REPOSITORY / "README.md", REPOSITORY / "scripts" / "benchmarks" / "README.md"]
    pictures = [
        (page.parent, picture) for page in pages for picture in re.findall(r"!\[.*\]\((.*)\)", page.read_text())
    ]
    assert len(pictures) == 2
    assert all((folder / picture).is_file() for folder, picture in pictures)
