"""Resumed fits: the same weights as an uninterrupted fit, bit for bit."""

import pytest
import torch
from documented import options_of
from equations import options_of as equation_options
from fits import Fitted, fit
from tables import table_with_features

from ratinglab.fitting.callbacks.checkpoints import BestAndLast
from ratinglab.runs.run_files import LAST

FITS = [
    "adam",
    "adamw optimizer.weight_decay=0.1",
    "sgd optimizer.momentum=0.9",
    "sparse_adam",
    "block_sgd",
    "als",
    "gibbs optimizer.burn_in=2",
    "gibbs optimizer.burn_in=0 optimizer.max_samples=2",  # thinned before and after the cut
]
FEATURES = {"user_features": ["group", "age"], "item_features": ["genres"]}
CASES = [
    *((fit, "biased_mf", {}) for fit in FITS),
    *((fit, "biased_mf", FEATURES) for fit in ("adam", "als", "gibbs optimizer.burn_in=2")),
    *((fit, "timesvdpp", {"item_features": ["genres"]}) for fit in ("adam", "als", "gibbs optimizer.burn_in=2")),
]


def fitted(chosen: str, model, *, epochs: int, folder=None, checkpoint=None) -> Fitted:
    optimizer = options_of("train", *f"optimizer={chosen}".split()).optimizer
    writes = [] if folder is None else [BestAndLast(folder, monitor=None, last_every_seconds=1e9)]
    return fit(
        model,
        optimizer,
        table_with_features(),
        epochs=epochs,
        batch_size=50 if optimizer.takes_batches else None,
        lr_factor=lambda epoch: 0.8**epoch,
        callbacks=writes,
        checkpoint=checkpoint,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "equation", "features"), CASES, ids=[f"{equation}, {fit}, {len(more)}" for fit, equation, more in CASES]
)
def test_resumed_fit_equals_an_uninterrupted_one_bit_for_bit(tmp_path, chosen, equation, features):
    model = equation_options(equation, embedding_dim=3, **features)
    # with a wrong distance between the samples, epoch 7 would be kept
    epochs, before_cut = (7, 4) if "max_samples" in chosen else (5, 3)
    whole = fitted(chosen, model, epochs=epochs, folder=tmp_path / "whole")
    cut = fitted(chosen, model, epochs=before_cut, folder=tmp_path / "cut")
    last = tmp_path / "cut" / LAST
    resumed = fitted(chosen, model, epochs=epochs, folder=tmp_path / "again", checkpoint=last)
    assert resumed.module.epochs_done == epochs
    assert torch.equal(resumed.weights, whole.weights)
    assert not torch.equal(cut.weights, whole.weights)
    assert resumed.module.train_mse == whole.module.train_mse
    one, two = (torch.load(tmp_path / folder / LAST, weights_only=True) for folder in ("whole", "again"))
    assert str(one["state_dict"]) == str(two["state_dict"])
    assert str(one["optimizer_states"]) == str(two["optimizer_states"])
