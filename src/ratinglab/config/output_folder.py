"""The folder that Hydra's app writes to: hydra.run.dir of a single run, hydra.sweep.dir of a sweep."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from ratinglab.config.composed_job import ComposedJob
from ratinglab.config.error_messages import translate_exceptions
from ratinglab.config.hydra_api import hide_hydra_app
from ratinglab.files import user_path
from ratinglab.options import quote_for_hydra
from ratinglab.runs.claimed_folder import claim_folder

Kind = Literal["run", "sweep"]


def output_folder(hydra: DictConfig, kind: Kind) -> Path:
    """Return the absolute path of hydra.run.dir or hydra.sweep.dir."""
    return user_path(str(hydra[kind].dir), key=f"hydra.{kind}.dir").absolute()


def output_folder_of_call(job: ComposedJob, kind: Kind) -> Path:
    """Return `output_folder` for a call from Python, outside of Hydra's app.

    Raises:
        UserError: the key cannot be resolved.
    """
    with translate_exceptions(job.conf), hide_hydra_app():
        return output_folder(job.hydra, kind)


@contextmanager
def claim_output_folder(folder: Path, kind: Kind, *, is_resumed: bool = False) -> Iterator[str]:
    """Create and lock the folder for the duration of a `with` block. It must be new, empty, resumed or continued.

    Yields the override that makes Hydra's app write to this folder: Hydra does not expand `~`, and could put a later
    time into the name.
    """
    key = f"hydra.{kind}.dir"
    with claim_folder(folder, key=key, is_resumed=is_resumed, is_sweep=kind == "sweep"):
        try:
            yield f"{key}={quote_for_hydra(str(folder))}"
        finally:
            logging.shutdown()  # closes the logs of runs that `claim_folder` removes
