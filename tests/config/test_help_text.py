"""Text of --help."""

import re
from pathlib import Path

import pytest

from ratinglab.cli import COMMANDS, OVERVIEW
from ratinglab.config.help_text import find_key_comments, read_file_comment

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def help_of(command, tmp_path_factory):
    def run(script, *arguments):
        return command(tmp_path_factory.mktemp("help"), script, "--help", *arguments).stdout

    return run


def test_help_lists_choices_and_keys_with_descriptions(help_of):
    text = help_of("train")
    assert re.search(r"^model: Equation that predicts a rating, or a score to order lists by\.$", text, re.M)
    assert re.search(r"^  \* mf  +The textbook model: the dot product of two embeddings\.$", text, re.M)
    assert re.search(r"^    svdpp  +SVD\+\+", text, re.M)
    assert re.search(r"^    model\.embedding_dim=32  +Number of latent factors\.", text, re.M)
    assert re.search(r"^    seed=0  +Seed of the initial weights", text, re.M)
    assert "_target_" not in text
    assert "hydra." not in text.replace("--hydra-help", "")
    folder = f"{CONF.parent}/"  # commands name the script as this process was started
    assert max(len(line.replace(folder, "")) for line in text.splitlines()) <= 120


def test_help_shows_the_keys_of_the_chosen_recipe(help_of):
    text = help_of("train", "recipe=svdpp_gibbs", "optimizer.thin=3")
    assert re.search(r"^  \* svdpp_gibbs ", text, re.M)
    assert re.search(r"^    model\.implicit=both  +Side whose factors", text, re.M)
    assert re.search(r"^    optimizer\.thin=3 ", text, re.M)
    assert "    optimizer.lr=" not in text


def test_help_marks_each_choice_of_a_list_and_shows_its_keys(help_of):
    text = help_of("train", "logger=[csv,mlflow]")
    assert re.findall(r"^  \* (csv|mlflow|tensorboard|wandb)  ", text, re.M) == ["csv", "mlflow"]
    assert re.search(r"^    logger\.mlflow\.experiment_name=ratinglab$", text, re.M)
    assert "    logger.tensorboard." not in text
    assert "    logger.csv" not in text, "it has no keys"


def test_help_marks_only_the_choice_among_the_files_that_it_includes(help_of):
    marked = re.findall(r"^  \* (debug|default) ", help_of("train", "trainer=debug"), re.M)
    assert marked == ["debug", "default"], "trainer=debug and callbacks=default"


def test_help_refuses_several_values_without_a_sweep(command, tmp_path):
    refused = command(tmp_path, "train", "--help", "model=mf,svd", status=2)
    assert refused.stderr == "error: model=mf,svd: several values need a sweep: add -m\n"
    assert "model.embedding_dim=32 " in command(tmp_path, "train", "-m", "--help", "model=mf,nmf").stdout


def test_other_commands_have_a_help_text(help_of):
    text = help_of("predict")
    assert re.search(r"^    input=\?\?\?  +File with one user-item pair[^=]*Must", text, re.M)
    assert re.search(r"^    columns\.item=null  +Column of item ids\. With null, it is item_id", text, re.M)
    assert " -m " not in text
    assert "* csv" in help_of("inspect_data")


@pytest.mark.parametrize(
    ("script", "keys"),
    {
        "recommend": "run=RUN user=USER",
        "similar": "run=RUN item=ITEM",
        "predict": "run=RUN input=INPUT",
        "evaluate": "run=RUN",
        "reproduce": "run=RUN",
        "export": "run=RUN",
        "serve": "run=RUN",
        "inspect_data": "data.path=PATH",
    }.items(),
)
def test_help_and_overview_show_arguments_without_a_key(help_of, script, keys):
    names = " ".join(pair.split("=")[1] for pair in keys.split())
    assert re.search(rf"{script}\.py {names} +short for {keys}$", help_of(script), re.M)
    assert re.search(rf"^  {script} {names}  +[A-Z]", OVERVIEW, re.M)


def test_overview_lists_every_command():
    listed = OVERVIEW.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    for line in listed:
        call, summary = re.split("  +", line.strip())
        name = call.split()[0]
        if name not in ("report", "reproduce"):  # they have no primary config of their own
            assert (CONF / f"{name}.yaml").read_text().startswith(f"# {summary}\n")


def test_help_of_hydra_ignores_keys_of_the_run(command, tmp_path):
    text = command(tmp_path, "train", "--hydra-help").stdout
    assert text.startswith("Hydra (")
    assert command(tmp_path, "train", "--hydra-help", "model=mf", "seed=1").stdout == text


def test_help_for_a_sweep_is_that_of_its_first_job(help_of):
    text = help_of("train", "-m", "model=svdpp,mf")
    assert re.search(r"^  \* svdpp  ", text, re.M)


def test_help_lists_choices_of_the_config_dir(help_of, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "# My equation.\n_target_: nowhere.Options\n\n# How wide.\nwidth: 3\n"
    )
    text = help_of("train", "--config-dir", str(tmp_path), "model=mine")
    assert re.search(r"^  \* mine  +My equation\.$", text, re.M)
    assert re.search(r"^    model\.width=3  +How wide\.$", text, re.M)


COMMENTED = """# @package _global_
# What it is.
#
#   an example
defaults:
  # Equation.
  - model: mf
  - override /data: demo

# Not above a key.

# In two
# lines.
model:
  # Inner: with a colon.
  dim: 3  # beside
  plain: "# no comment"
"""


def test_file_comment_and_key_comments_are_parsed():
    assert read_file_comment(COMMENTED) == ["What it is.", "", "  an example"]
    assert find_key_comments(COMMENTED) == {
        ("defaults",): "@package _global_ What it is.  an example",
        ("defaults", "model"): "Equation.",
        ("defaults", "override /data"): "",
        ("model",): "In two lines.",
        ("model", "dim"): "Inner: with a colon.",
        ("model", "plain"): "",
    }
    assert find_key_comments("# nothing\n") == {}
