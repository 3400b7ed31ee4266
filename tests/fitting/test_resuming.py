"""A fit that goes on from a checkpoint ends with the bits of one that was never cut off, whatever fits the equation."""

import pytest
import torch
from equations import options_of
from fits import Fitted, fit
from tables import table_with_features

from ratinglab.fitting.checkpoints import BestAndLast
from ratinglab.fitting.optimizers import ALS, SGD, Adam, AdamW, BlockSGD, Gibbs, Noise, SparseAdam

FITS = {
    "adam": Adam(lr=0.05, weight_decay=0.0, beta1=0.9, beta2=0.999),
    "adamw": AdamW(lr=0.05, weight_decay=0.1, beta1=0.9, beta2=0.999),
    "sgd": SGD(lr=0.05, weight_decay=0.0, momentum=0.9),
    "sparse_adam": SparseAdam(lr=0.05, beta1=0.9, beta2=0.999),
    "block_sgd": BlockSGD(lr=0.05, slices=4, adaptive=False),
    "block_sgd, adaptive": BlockSGD(lr=0.05, slices=4, adaptive=True),
    "als": ALS(),
    "gibbs": Gibbs(burn_in=2, noise=Noise.own, thin=1),
}
FEATURES = {"user_features": ["group", "age"], "item_features": ["genres"]}
CASES = [
    *((name, "biased_mf", {}) for name in FITS),
    *((name, "biased_mf", FEATURES) for name in ("adam", "als", "gibbs")),
    *((name, "timesvdpp", {"item_features": ["genres"]}) for name in ("adam", "als", "gibbs")),
]


def fitted(name: str, model, *, epochs: int, folder=None, checkpoint=None) -> Fitted:
    writes = [] if folder is None else [BestAndLast(folder, monitor=None, last_every_seconds=1e9)]
    batch_size = 50 if FITS[name].takes_batches else None
    return fit(
        model,
        FITS[name],
        table_with_features(),
        epochs=epochs,
        batch_size=batch_size,
        lr_factor=lambda epoch: 0.8**epoch,
        callbacks=writes,
        checkpoint=checkpoint,
    )


@pytest.mark.parametrize(
    ("name", "equation", "options"), CASES, ids=[f"{equation}, {name}, {len(more)}" for name, equation, more in CASES]
)
def test_a_fit_that_goes_on_ends_at_the_same_bits(tmp_path, name, equation, options):
    model = options_of(equation, embedding_dim=3, **options)
    whole = fitted(name, model, epochs=5, folder=tmp_path / "whole")
    fitted(name, model, epochs=3, folder=tmp_path / "cut")
    resumed = fitted(name, model, epochs=5, folder=tmp_path / "again", checkpoint=tmp_path / "cut" / "last.ckpt")
    assert resumed.module.epochs_done == 5
    assert torch.equal(resumed.weights, whole.weights)
    assert resumed.module.train_mse() == whole.module.train_mse()
    one, two = (torch.load(tmp_path / folder / "last.ckpt", weights_only=True) for folder in ("whole", "again"))
    assert str(one["state_dict"]) == str(two["state_dict"])
    assert str(one["optimizer_states"]) == str(two["optimizer_states"])
    assert not torch.equal(whole.weights, fitted(name, model, epochs=3).weights)
