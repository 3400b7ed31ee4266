"""Set-up of the process and of Lightning, before a fit is built."""

import logging
import warnings
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

from ratinglab.fitting.ranks import check_started
from ratinglab.training.train_options import TrainOptions

IGNORED_WARNINGS = {
    ".*returned `None`, this fit will run with no optimizer.*": "such a fit changes the weights itself",
    ".*does not have many workers.*": "batches are slices of arrays in memory: worker processes would slow them down",
    "Total length of `Blocks` across ranks is zero.*": "a split may hold out no validation rows",
    ".*callbacks used to create the checkpoint.*": "a search's job resumed on its own has no callback for pruning",
    ".*isinstance.treespec, LeafSpec.*": "Lightning itself calls a deprecated function of torch",
    ".*sync_dist=True.*": "fits sum errors over processes themselves",
}
"""Patterns of Lightning's warnings about settings that are intentional here, each with the reason to ignore it."""


def set_up_process(options: TrainOptions, run_folder: Path, *, rank: int) -> None:
    """Set Lightning's rank, silence its warnings about intentional settings, and check the processes of the fit.

    Raises:
        UserError: processes or devices are missing.
    """
    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("callbacks.model_summary", "profilers.profiler"):  # these print what the user has asked for
        logging.getLogger(f"pytorch_lightning.{name}").setLevel(logging.INFO)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    trainer = options.trainer
    check_started(devices=trainer.devices, num_nodes=trainer.num_nodes)
    if trainer.num_processes > 1:
        trainer.build(run_folder=run_folder)  # raises if a device is missing
