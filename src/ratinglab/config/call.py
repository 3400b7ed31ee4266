"""Compose and check a run requested from Python, without Hydra's app."""

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from ratinglab.config.arguments import overrides_of_one_job
from ratinglab.config.conf import Conf
from ratinglab.config.hydra_api import initialized, outside_app
from ratinglab.config.mistakes import explained
from ratinglab.config.request import Request, as_in_app
from ratinglab.config.rerun import resumed_run
from ratinglab.config.resolvers import register_resolvers
from ratinglab.experiment.train_options import TrainOptions
from ratinglab.files import user_path
from ratinglab.runs.sweep_folder import SAVED


class Call:
    """A run to train, from the overrides of one call.

    Attributes:
        options: its checked options.
        folder: absolute path of its folder, which may not exist yet.
        sweep_folder: absolute path of a folder for several runs, which may not exist yet.
        is_resumed: whether the folder already holds the run.
    """

    def __init__(self, overrides: Sequence[str], *, config_dir: str | None) -> None:
        """Compose and check the run."""
        register_resolvers()
        conf = Conf("train")
        with explained(conf), outside_app():
            conf.add_folder(config_dir)
            request = Request(conf, overrides_of_one_job(overrides), find_run=resumed_run)
            with initialized():
                job = request.job(request.overrides)
                folders = [(f"hydra.{kind}.dir", str(job.hydra[kind].dir)) for kind in ("run", "sweep")]
        self.options: TrainOptions = job.options
        self.folder, self.sweep_folder = (user_path(path, key=key).absolute() for key, path in folders)
        self.is_resumed = request.rerun is not None
        self._config, self._overrides, self._hydra = job.config, request.overrides, job.hydra
        self._config_dir = conf.extra_folder

    def save(self) -> None:
        """Save the configuration of a new run in its folder, as Hydra's app does."""
        saved = self.folder / SAVED
        saved.mkdir()
        OmegaConf.save(self._config, saved / "config.yaml")
        OmegaConf.save(OmegaConf.create(self._overrides), saved / "overrides.yaml")
        OmegaConf.save(
            DictConfig({"hydra": as_in_app(self._hydra, self.folder, self._config_dir)}), saved / "hydra.yaml"
        )
