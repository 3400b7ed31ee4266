"""Runs as Lightning and PyTorch users load them: LightningModule.load_from_checkpoint, torch.load, torch.export."""

import pytest
import torch
from documented import options_of
from fits import split_ratings_of
from pytorch_lightning import Trainer

from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import UserError
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.gibbs.gibbs_fit import GibbsFit
from ratinglab.fitting.gradient import GradientFit
from ratinglab.inference.run import Run

USER = torch.tensor([0, 1, 2, -1, 3, 10**6], dtype=torch.int32)
ITEM = torch.tensor([4, 0, 10**6, 1, -1, -1], dtype=torch.int32)


@pytest.fixture
def run(quick):
    return quick.run


@pytest.fixture(scope="module")
def gibbs(command, tmp_path_factory):
    options = ["model=biased_mf", "optimizer=gibbs", "trainer.max_epochs=4", "optimizer.burn_in=2", "logger=none"]
    return command(tmp_path_factory.mktemp("gibbs"), "train", *options, "split.refit=true").run


@pytest.mark.parametrize("name", ["best", "last"])
def test_load_from_checkpoint_returns_the_fit_with_its_weights(run, name):
    path = run / "checkpoints" / f"{name}.ckpt"
    fit = GradientFit.load_from_checkpoint(path)
    state = torch.load(path)["state_dict"]
    assert all(torch.equal(value, state[key]) for key, value in fit.state_dict().items())
    if name == "best":  # a run predicts from best.ckpt
        assert torch.equal(Run.load(run).predictor(USER, ITEM), fit.predictor.eval()(USER, ITEM))
    optimizer = fit.configure_optimizers()
    assert (type(optimizer), optimizer.param_groups[0]["lr"]) == (torch.optim.Adam, 0.003)


def test_load_from_checkpoint_of_samples_and_of_the_first_of_two_fits(gibbs):
    fit = Fit.load_from_checkpoint(gibbs / "checkpoints" / "best.ckpt")
    assert isinstance(fit, GibbsFit)
    assert torch.equal(Run.load(gibbs).predictor(USER, ITEM), fit.predictor.eval()(USER, ITEM))
    assert isinstance(Fit.load_from_checkpoint(gibbs / "validation" / "checkpoints" / "last.ckpt"), GibbsFit)


def test_loaded_fit_trains_under_a_users_own_trainer(run, cache, monkeypatch):
    monkeypatch.setenv("RATINGLAB_DATA", str(cache))
    options = options_of("train")
    fit = GradientFit.load_from_checkpoint(run / "checkpoints" / "best.ckpt")
    before = fit.predictor.model.user_embedding.weight.clone()
    data = RatingDataModule(split_ratings_of(options.data.load(), options.model), batch_size=1024, fraction=1.0, seed=0)
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(fit, datamodule=data)
    assert fit.train_mse < 2
    assert not torch.equal(before, fit.predictor.model.user_embedding.weight)


def test_load_from_checkpoint_refuses_another_class_and_files_outside_a_run(gibbs, tmp_path):
    with pytest.raises(TypeError, match="is the checkpoint of a GibbsFit, not of a GradientFit"):
        GradientFit.load_from_checkpoint(gibbs / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match=r"it has no run\.json"):
        Fit.load_from_checkpoint(tmp_path / "checkpoints" / "best.ckpt")


def test_exported_predictor_predicts_the_same_for_known_and_unknown_pairs(run, gibbs):
    for folder in (run, gibbs):
        predictor = Run.load(folder).predictor
        batch = {0: torch.export.Dim("batch", min=2)}
        exported = torch.export.export(predictor, (USER[:3], ITEM[:3]), dynamic_shapes=(batch, batch))
        with torch.inference_mode():
            assert torch.equal(exported.module()(USER, ITEM), predictor(USER, ITEM))
