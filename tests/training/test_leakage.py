"""No test row reaches a fit: weights and predictions stay the same whatever the test part holds."""

import numpy as np
import pandas as pd
import pytest
import torch
from run_folders import run_json_of

from ratinglab.inference.run import Run

pytestmark = pytest.mark.slow

DAY = 86_400
DATA = [
    "data=csv", "data.path=[test.csv,train.csv]", "data.columns.timestamp=timestamp", "data.cache=null",
    "split=files", "split.validation=0", "split.test_files=test.csv",
]  # fmt: skip
GIBBS = ["optimizer=gibbs", "optimizer.burn_in=2", "trainer.max_epochs=5"]
FITS = {
    "biased_mf by gibbs": ["model=biased_mf", *GIBBS],
    "svdpp by gibbs": ["model=svdpp", "model.implicit=both", *GIBBS],
    "timesvdpp by gibbs": ["model=timesvdpp", "model.implicit=both", *GIBBS],
    "svdpp by adam": ["model=svdpp", "optimizer=adam", "trainer.max_epochs=3"],
    "biased_mf by als": ["model=biased_mf", "optimizer=als", "trainer.max_epochs=3"],
    "timesvdpp by als": ["model=timesvdpp", "optimizer=als", "trainer.max_epochs=3"],
}


def rows_in_parts() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make 450 training rows and 150 test rows of 30 users and 25 items, ratings 2 to 4.

    Users 0 and 1 and item 0 have only test rows. The parts share most users' days.
    """
    random = np.random.default_rng(0)
    pair = random.permutation(30 * 25)[:600]
    user, item = np.divmod(pair, 25)
    exact = 3 + random.normal(size=30)[user] + random.normal(size=25)[item]
    frame = pd.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "rating": np.clip(np.round(exact), 2, 4),
            "timestamp": random.integers(10, 14, 600) * DAY,
        }
    )
    only_test = (user < 2) | (item == 0)
    is_test = only_test | (np.cumsum(~only_test) <= 150 - only_test.sum())
    return frame[~is_test], frame[is_test].reset_index(drop=True)


@pytest.fixture
def train_on(train_here, tmp_path, monkeypatch):
    """Train in this process on the training rows and given test rows: train_on(test, *overrides)."""
    monkeypatch.chdir(tmp_path)

    def run(test: pd.DataFrame, *overrides: str) -> Run:
        rows_in_parts()[0].to_csv("train.csv", index=False)
        test.to_csv("test.csv", index=False)
        return Run.load(train_here(*DATA, *overrides))

    return run


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    """Read all weights and samples of a run's last checkpoint."""

    def flat(content, name: str) -> dict[str, torch.Tensor]:
        if isinstance(content, torch.Tensor):
            return {name: content}
        entries = content.items() if isinstance(content, dict) else enumerate(content)
        return {key: each for number, entry in entries for key, each in flat(entry, f"{name}.{number}").items()}

    return flat(torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"], "")


def predictions_of(run: Run) -> dict[tuple[int, int], float]:
    """Map each test pair to the run's prediction."""
    predicted = run.predictions("test")
    user, item = run.user_ids.ids[predicted.rows.user], run.item_ids.ids[predicted.rows.item]
    return dict(zip(zip(user, item, strict=True), predicted.predicted.tolist(), strict=True))


def with_other_ratings(test: pd.DataFrame) -> pd.DataFrame:
    """Change all test ratings, some of them beyond the scale of the training ratings."""
    return test.assign(rating=np.arange(len(test)) % 13 - 3)


def without_half(test: pd.DataFrame) -> pd.DataFrame:
    """Remove every other test row."""
    return test[::2]


def with_other_times(test: pd.DataFrame) -> pd.DataFrame:
    """Move every other test row to a time long before or after all training rows."""
    moved = test.index % 2 == 1
    return test.assign(timestamp=test["timestamp"].where(~moved, (test.index % 4) * 300 * DAY))


@pytest.mark.parametrize("fit", FITS)
def test_test_rows_do_not_change_weights_or_predictions(train_on, fit):
    _, test = rows_in_parts()
    expected = train_on(test, *FITS[fit])
    weights, predictions = weights_of(expected), predictions_of(expected)
    assert len(weights) > 3
    kept = set(zip(test["user_id"][::2], test["item_id"][::2], strict=True))
    for change in (with_other_ratings, without_half, with_other_times):
        run = train_on(change(test), *FITS[fit])
        changed = weights_of(run)
        assert changed.keys() == weights.keys()
        assert [name for name in weights if not torch.equal(changed[name], weights[name])] == [], change.__name__
        found = predictions_of(run)
        same = kept if change is with_other_times else kept & found.keys() if change is without_half else found.keys()
        assert len(same) >= 75
        assert {pair: found[pair] for pair in same} == {pair: predictions[pair] for pair in same}, change.__name__


@pytest.mark.parametrize(
    ("overrides", "scale"),
    [([], [2, 4]), (["data.scale.lowest=-3"], [-3, 4]), (["data.scale.lowest=-4", "data.scale.highest=12"], [-4, 12])],
)
def test_predictions_are_clipped_to_the_scale_outside_test(train_on, overrides, scale):
    _, test = rows_in_parts()
    fit = ["model=biased_mf", "optimizer=als", "trainer.max_epochs=3", "model.regularization=0.01"]
    run = train_on(with_other_ratings(test), *fit, *overrides)
    assert run_json_of(run.folder)["scale"] == scale
    predicted = run.predictions("test").predicted
    assert (predicted.max() == 4) == (scale[1] == 4), "some predictions reach the scale's end"
    assert (predicted.min() == 2) == (scale[0] == 2)


def test_validation_rows_are_part_of_the_scale(train_on):
    _, test = rows_in_parts()
    test[:10].assign(rating=5).to_csv("validation.csv", index=False)
    files = ["data.path=[test.csv,train.csv,validation.csv]", "split.validation_files=validation.csv"]
    run = train_on(with_other_ratings(test[10:]), *files, "model=mean")
    assert run.record.scale == (2, 5)


def test_header_notes_test_ratings_outside_the_scale(train_on, caplog):
    _, test = rows_in_parts()
    caplog.set_level("INFO")
    train_on(test, "trainer.max_epochs=1")
    assert "lie outside" not in caplog.text
    train_on(with_other_ratings(test), "trainer.max_epochs=1", "clip_predictions=false")
    assert "lie outside" not in caplog.text
    train_on(with_other_ratings(test), "trainer.max_epochs=1")
    assert "note: some test ratings lie outside the scale of the other ratings, 2 to 4, to which " in caplog.text
