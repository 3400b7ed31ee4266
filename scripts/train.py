"""Fit a model on a table of ratings: see --help."""

from pathlib import Path

from ratinglab.config.command import command
from ratinglab.config.rerun import resumed_run
from ratinglab.experiment.root_options import TrainOptions


@command(config_folder=Path(__file__).parents[1] / "conf", config_name="train", find_run=resumed_run)
def main(options: TrainOptions, run_folder: Path) -> float | None:
    """Train one run."""
    from ratinglab.experiment.training import train  # torch and Lightning take seconds: keep --help fast

    return train(options, run_folder)


if __name__ == "__main__":
    main()
