"""Runs on MovieLens, if available: its license forbids redistribution, so the checkout does not contain it."""

import json
import re

import pytest
from conftest import REAL_DATA

pytestmark = pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"no real ratings in {REAL_DATA}")


def test_experiment_on_u1_has_the_published_split_and_a_low_error(command, tmp_path):
    few = ["trainer.max_epochs=8", "optimizer.lr=0.003", "logger=none"]  # of 30 epochs at 0.001
    outcome = command(tmp_path, "train", "experiment=movielens_100k_u1", f"data.root={REAL_DATA / 'ml-100k'}", *few)
    assert "100,000 ratings of 943 users over 1,682 items, density 6.30%, scale 1 to 5" in outcome.stdout
    assert "80,000 train, 0 validation, 20,000 test" in outcome.stdout
    metrics = json.loads((outcome.run / "metrics.json").read_text())
    assert metrics["test/rmse"] <= 0.925


def test_recommendations_of_latest_small_have_titles(command, tmp_path):
    folder = REAL_DATA / "ml-latest-small"
    outcome = command(
        tmp_path,
        "train",
        "data=csv",
        f"data.path={folder / 'ratings.csv'}",
        "data.columns.user=userId",
        "data.columns.item=movieId",
        f"data.items.path={folder / 'movies.csv'}",
        "data.items.item=movieId",
        "model=biased_mf",
        "trainer.max_epochs=1",
        "logger=none",
    )
    assert "100,004 ratings of 671 users over 9,066 items" in outcome.stdout
    stdout = command(tmp_path, "recommend", f"run={outcome.run}", "user=15").stdout
    assert "Usual Suspects, The (1995)" in stdout.split("recommended")[0]


@pytest.mark.parametrize(
    ("recipe", "protocol", "data", "burn_in", "figure", "rmse"),
    [
        ("timesvdpp_gibbs", "movielens_u1", "ml-100k", 15, "Cornac MF", 0.916),
        ("svdpp_gibbs", "latest_small_80_20", "ml-latest-small", 10, "Cornac MF", 0.875),
    ],
)
def test_recipe_beats_a_figure_of_the_protocol_with_20_samples(
    command, tmp_path, recipe, protocol, data, burn_in, figure, rmse
):
    outcome = command(
        tmp_path,
        "train",
        f"protocol={protocol}",
        f"recipe={recipe}",
        f"data.root={REAL_DATA / data}",
        f"optimizer.burn_in={burn_in}",
        f"trainer.max_epochs={burn_in + 20}",
        "logger=none",
    )
    lines = outcome.stdout.splitlines()
    (this_run,) = [line for line in lines if line.startswith("this run")]
    assert re.search(r"\d  .* comparable( with systems that use times and item features too)?$", this_run)
    assert lines.index(this_run) < next(number for number, line in enumerate(lines) if figure in line)
    assert json.loads((outcome.run / "metrics.json").read_text())["test/rmse"] <= rmse
