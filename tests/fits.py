"""A fit by Lightning's Trainer and nothing beside it."""

import torch
from pytorch_lightning import LightningModule, Trainer

from ratinglab.datamodule import RatingDataModule


def run_fit(module: LightningModule, data: RatingDataModule, *, epochs: int, threads: int) -> None:
    """Fit on the cpu, with so many threads."""
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        trainer.fit(module, datamodule=data)
    finally:
        torch.set_num_threads(before)
