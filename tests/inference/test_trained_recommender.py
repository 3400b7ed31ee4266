"""The model of a run in use: the noise of its predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from equations import options_of
from fits import SPLIT
from run_folders import write_run_of
from tables import table_with_features

from ratinglab.inference.run import Run


@pytest.mark.parametrize(("validation", "part"), [(0.1, "val"), (0.0, "train")])
def test_noise_of_a_run_without_samples_is_its_error_on_rows_outside_test(tmp_path, validation, part):
    """On a scale of 1 to 9 ratings, a star is 2 rating units."""
    scale = {"scale": (1.0, 9.0), "fitted_scale": (1.0, 9.0)}
    split = replace(SPLIT, validation=validation)
    write_run_of(tmp_path / "run", options_of("biased_mf"), table_with_features(), split=split, **scale)
    run = Run.load(tmp_path / "run")
    rows = run.part(part)
    error = run.predict(run.user_ids.ids[rows.user], run.item_ids.ids[rows.item]) - rows.rating
    expected = torch.full((run.record.num_users,), float(2**2 / np.square(error).mean()))
    (precision,) = run.solvers["user"].trained_rows.noise_precisions()
    torch.testing.assert_close(precision, expected)
    assert run.solvers["item"].trained_rows.noise_precisions()[0].tolist() == [1.0] * run.record.num_items
