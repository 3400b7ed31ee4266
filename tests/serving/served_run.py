"""A small run with titles, and the server's app on it."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from documented import options_of
from equations import options_of as equation_options
from fastapi.testclient import TestClient
from run_folders import PROVENANCE, add_samples, write_run_of, write_weights
from tables import table_of

from ratinglab.models.posterior import Posterior
from ratinglab.runs.record import write_metrics
from ratinglab.serving.app import build_app
from ratinglab.serving.reloading import CurrentRun
from ratinglab.serving.serve_options import ServeOptions

NUM_USERS, NUM_ITEMS = 30, 20
TITLES = [
    "Toy Story (1995)", "Matrix, The (1999)", "Alien (1979)", "Aliens (1986)", "Amélie (2001)", "Hamlet (1996)",
    "Hamlet (2000)", "Star Wars (1977)", "Star Trek: First Contact (1996)", "Stargate (1994)",
    *(f"Part {number} of a film with a long title (2003)" for number in range(10, NUM_ITEMS)),
]  # fmt: skip


def write_served_run(folder: Path, *, model: str = "biased_mf", has_titles: bool = True, **changed) -> Path:
    """Write a run with random weights whose ratings are 1 to 5; item 0 has the most."""
    random = np.random.default_rng(0)
    chance = np.linspace(0.9, 0.3, NUM_ITEMS)
    user, item = np.nonzero(random.random((NUM_USERS, NUM_ITEMS)) < chance)
    titles = np.array(TITLES, dtype=object) if has_titles else None
    table = table_of(user, item, random.integers(1, 6, len(user)), titles=titles)
    provenance = {**PROVENANCE, "data": "table", "seed": 0}
    options = equation_options(model)
    predictor = write_run_of(folder, options, table, provenance=provenance, **changed)
    if isinstance(predictor.model, Posterior):
        add_samples(predictor.model, torch.Generator().manual_seed(2))
        write_weights(folder, {f"predictor.{name}": each for name, each in predictor.state_dict().items()})
    write_metrics(folder, {"fit/epochs": 2, "val/mse": 0.81, "test/mse": 0.64}, monitor="val/mse")
    return folder


@cache
def default_options() -> ServeOptions:
    return options_of("serve", "run=unset")


def serve_options(run: Path | str, **changed) -> ServeOptions:
    """Make the options of conf/serve.yaml for a run, some changed."""
    return replace(default_options(), run=str(run), **changed)


def client_of(run: Path | str, **changed) -> TestClient:
    """Make a client of the app on a run. It starts the app's tasks only if used by `with`."""
    options = serve_options(run, **changed)
    app = build_app(CurrentRun(options), options)
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
