"""ratinglab: a lab for rating-prediction experiments. `ratinglab.runs.run.Run` loads a trained run."""

__version__ = "0.1.0"
