"""The text of --help, by which a new user starts."""

import re

import pytest


@pytest.fixture(scope="module")
def shown(command, tmp_path_factory):
    def run(script, *arguments):
        return command(tmp_path_factory.mktemp("help"), script, "--help", *arguments).stdout

    return run


def test_it_lists_choices_and_keys_with_what_they_are(shown):
    text = shown("train")
    assert re.search(r"^model: Equation that predicts a rating\.$", text, re.M)
    assert re.search(r"^  \* mf  +The textbook model: the dot product of two embeddings\.$", text, re.M)
    assert re.search(r"^    svdpp  +SVD\+\+", text, re.M)
    assert re.search(r"^    model\.embedding_dim=32  +Number of latent factors\.", text, re.M)
    assert re.search(r"^    seed=0  +Seed of the initial weights", text, re.M)
    assert "_target_" not in text
    assert "hydra." not in text.replace("--hydra-help", "")
    assert max(map(len, text.splitlines())) <= 120


def test_it_shows_the_keys_of_what_is_chosen(shown):
    text = shown("train", "recipe=svdpp_gibbs", "optimizer.thin=3")
    assert re.search(r"^  \* svdpp_gibbs ", text, re.M)
    assert re.search(r"^    model\.implicit=both  +Side whose factors", text, re.M)
    assert re.search(r"^    optimizer\.thin=3 ", text, re.M)
    assert "    optimizer.lr=" not in text


def test_every_command_has_one(shown):
    text = shown("predict")
    assert re.search(r"^    input=\?\?\?  +File with a header.*\n? .*Must", text, re.M)
    assert re.search(r"^    columns\.user=user_id  +Column of the user ids\.$", text, re.M)
    assert " -m " not in text
    assert "* demo" in shown("inspect_data")


def test_choices_of_a_folder_of_ones_own_are_listed(shown, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "# My equation.\n_target_: nowhere.Options\n\n# How wide.\nwidth: 3\n"
    )
    text = shown("train", "--config-dir", str(tmp_path), "model=mine")
    assert re.search(r"^  \* mine  +My equation\.$", text, re.M)
    assert re.search(r"^    model\.width=3  +How wide\.$", text, re.M)
