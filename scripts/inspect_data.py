"""Describe a table of ratings: inspect_data.py data.path=ratings.csv."""

from pathlib import Path

from ratinglab.config.command import command
from ratinglab.experiment.root_options import InspectOptions


@command(config_folder=Path(__file__).parents[1] / "conf", config_name="inspect_data", positional="data.path")
def main(options: InspectOptions, _: Path) -> None:
    """Inspect one table."""
    from ratinglab.experiment.inspection import inspect_data  # pandas takes half a second: keep --help fast

    inspect_data(options)


if __name__ == "__main__":
    main()
