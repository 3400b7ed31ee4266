"""Predict the ratings of pairs: predict.py run=outputs/… input=pairs.csv output=predictions.csv."""

from pathlib import Path

from ratinglab.config.command import command
from ratinglab.experiment.root_options import PredictOptions


@command(config_folder=Path(__file__).parents[1] / "conf", config_name="predict", positional="run")
def main(options: PredictOptions, _: Path) -> None:
    """Predict with one run."""
    from ratinglab.experiment.predicting import predict  # torch takes a second: keep --help fast

    predict(options)


if __name__ == "__main__":
    main()
