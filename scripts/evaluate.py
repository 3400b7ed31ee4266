"""Recompute the metrics of a run: evaluate.py run=outputs/…."""

from pathlib import Path

from ratinglab.config.command import command
from ratinglab.experiment.root_options import EvaluateOptions


@command(config_folder=Path(__file__).parents[1] / "conf", config_name="evaluate", positional="run")
def main(options: EvaluateOptions, _: Path) -> None:
    """Evaluate one run."""
    from ratinglab.experiment.evaluating import evaluate  # torch takes a second: keep --help fast

    evaluate(options)


if __name__ == "__main__":
    main()
