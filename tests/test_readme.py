"""README and the pages it links to: every command runs, here or in .ci/run."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REAL_DATA, environment

from ratinglab.splits.split import TEST

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "conf").glob("*/README.md"))]
BENCHMARKS = REPOSITORY / "scripts" / "benchmarks" / "README.md"
COMMANDS = [
    line
    for page in PAGES
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
]
BY_CI = [line for line in COMMANDS if line.startswith("pip install")]
BY_TEST_SWEEP = ["tensorboard --logdir outputs  # at http://localhost:6006"]
BY_TEST_SEARCHES = [line for line in COMMANDS if " hydra/" in line]
EXAMPLE_RUN = "outputs/2026-11-24/10-15-00-a1b2"


@pytest.fixture
def folder(tmp_path, biased):
    """Make a folder like a checkout, with the run and the files that the pages name."""
    for name in ("scripts", "conf"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    ratings = [
        f"{user},{item},{1 + (user * user + 7 * item * item + 3 * user * item) % 11 % 5}"
        for user in range(30)
        for item in range(20)
        if (user + item) % 3
    ]
    rows = [f"{row},{1_000_000_000 + 40_000 * number}" for number, row in enumerate(ratings)]
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows]))
    (tmp_path / "u.data").write_text("\n".join(ratings).replace(",", "\t"))
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title", *(f"{item},Film {item}" for item in range(20))]))
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n42,7\n")
    if REAL_DATA.is_dir():
        (tmp_path / "ml-100k").symlink_to(REAL_DATA / "ml-100k")
    (tmp_path / EXAMPLE_RUN).parent.mkdir(parents=True)
    shutil.copytree(biased.run, tmp_path / EXAMPLE_RUN)
    return tmp_path


@pytest.mark.parametrize("line", [line for line in COMMANDS if line not in BY_CI + BY_TEST_SWEEP + BY_TEST_SEARCHES])
def test_documented_command_runs(folder, command, line):
    if "ml-100k" in line and not REAL_DATA.is_dir():
        pytest.skip(f"no real ratings in {REAL_DATA}")
    program, script, *arguments = shlex.split(line)
    assert program == "python"
    assert script.startswith("scripts/")
    if script.endswith("train.py"):  # tests only that the command runs
        past_burn_in = {"recipe=biased_mf_gibbs": 31, "recipe=best": 51}
        arguments.append(f"trainer.max_epochs={max(past_burn_in.get(argument, 2) for argument in arguments)}")
        arguments += [] if "logger" in line else ["logger=none"]
    if "-m" in arguments:
        arguments = [",".join(argument.split(",")[:2]) for argument in arguments]
    command(folder, Path(script).stem, *arguments)


@pytest.fixture(scope="module")
def python_example():
    """The README's example of the Python API, with 31 sweeps instead of 300."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return block.replace("ratinglab.train(", 'ratinglab.train("trainer.max_epochs=31", ')


@pytest.mark.filterwarnings("error::FutureWarning:ratinglab")
def test_readme_python_runs(folder, cache, python_example, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RATINGLAB_DATA", str(cache))
    exec(python_example, {})


def test_documented_table_adds_ids_to_the_predictions_of_a_run(folder, monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "conf" / "split" / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder)
    names = {}
    exec(block, names)
    table, kept = names["table"], pd.read_parquet(Path(EXAMPLE_RUN) / "predictions.parquet")
    kept = kept[kept["part"] == TEST].drop(columns="part").reset_index(drop=True)
    pd.testing.assert_frame_equal(table[["rating", "prediction"]], kept)
    np.testing.assert_array_equal(names["run"].predict(table["user_id"], table["item_id"]), table["prediction"])


def test_readme_python_runs_in_a_notebook(folder, cache, python_example):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    # what a notebook shows; test_readme_python_runs has the other lines
    elsewhere = ("run.fold_in(", "ratinglab.")
    lines = [line for line in python_example.splitlines() if line and not line.startswith(elsewhere)]
    cells = map(nbformat.v4.new_code_cell, [*lines, "run", "module.predictor"])
    notebook = nbformat.v4.new_notebook(cells=[*cells])
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment(cache))
    outputs = {cell.source: cell.outputs for cell in notebook.cells}
    assert "text/html" in outputs["run"][0].data
    (listed,) = next(cell for source, cell in outputs.items() if source.startswith("run.recommend("))
    assert "Film " in listed.data["text/html"]
    (training,) = (cell_outputs for source, cell_outputs in outputs.items() if "ratinglab.train(" in source)
    printed = "".join(output.get("text", "") for output in training)
    assert "epoch 1/31   train/mse" not in printed, "a notebook has a bar"


def test_ci_runs_the_two_setup_commands():
    script = (REPOSITORY / ".ci" / "run").read_text()
    patterns = re.findall(r"grep -m 1 ['\"](.*?)['\"] README.md", script)
    matching = [[line for line in README.splitlines() if re.match(pattern, line)] for pattern in patterns]
    assert [lines[0] for lines in matching] == BY_CI


@pytest.mark.parametrize(
    ("page", "group"),
    [(REPOSITORY / "README.md", path.name) for path in (REPOSITORY / "conf").iterdir() if any(path.glob("*.yaml"))],
)
def test_choices_in_the_table_exist(page, group):
    (row,) = re.findall(rf"^\| `{group}` \|.*\| (.*) \|$", page.read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) <= {path.stem for path in (REPOSITORY / "conf" / group).glob("*.yaml")}


@pytest.mark.parametrize("group", ["data", "split", "model", "protocol", "logger"])
def test_page_of_a_group_lists_each_choice(group):
    page = (REPOSITORY / "conf" / group / "README.md").read_text()
    choices = {path.stem for path in (REPOSITORY / "conf" / group).glob("*.yaml")} - {"none"}
    assert {
        name for name in choices if f"`{name}`" not in page and f"`{name.removeprefix('movielens_')}`" not in page
    } == set()


@pytest.mark.parametrize("page", [*PAGES, BENCHMARKS, REPOSITORY / ".github" / "CONTRIBUTING.md"])
def test_link_and_picture_targets_exist(page):
    targets = re.findall(r"\]\(([^):#]+)\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_readme_caps_torch_like_pyproject():
    (cap,) = re.findall(r'"torch>=[\d.]+,(<[\d.]+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert f"pip install 'torch{cap}' --index-url" in README


def test_readme_has_at_most_200_lines():
    assert len(README.splitlines()) <= 200
