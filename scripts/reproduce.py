"""Train a run again from its record, in a new folder, and compare the metrics.

  python scripts/reproduce.py run=outputs/…

Keys (KEY=VALUE):
    run=???          Folder of the run, or latest or best, as in evaluate.py. Must be given.
    data.path=…      Path of the data, if it has moved since; data.root=… for MovieLens.
"""

from pathlib import Path

from ratinglab.config.command import command
from ratinglab.config.rerun import reproduced_run
from ratinglab.experiment.root_options import TrainOptions


@command(
    config_folder=Path(__file__).parents[1] / "conf",
    config_name="train",
    positional="run",
    find_run=reproduced_run,
    usage=__doc__,
)
def main(options: TrainOptions, run_folder: Path) -> None:
    """Reproduce one run."""
    from ratinglab.experiment.training import train  # torch and Lightning take seconds: keep --help fast

    train(options, run_folder)


if __name__ == "__main__":
    main()
