"""Recommend items to one user or all: recommend.py run=outputs/… user=42 k=10."""

from pathlib import Path

from ratinglab.config.command import command
from ratinglab.experiment.root_options import RecommendOptions


@command(config_folder=Path(__file__).parents[1] / "conf", config_name="recommend", positional="run")
def main(options: RecommendOptions, _: Path) -> None:
    """Recommend with one run."""
    from ratinglab.experiment.recommending import recommend  # torch takes a second: keep --help fast

    recommend(options)


if __name__ == "__main__":
    main()
