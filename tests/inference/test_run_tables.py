"""The interest model in a run's folder: read as written, and refused with other ratings."""

import numpy as np
import pytest
import torch

from ratinglab.errors import UserError
from ratinglab.inference.run_tables import read_interest, write_interest
from ratinglab.recommend.interest import DIMS, Interest
from ratinglab.runs.digests import write_with_digests


def test_interest_fitted_to_other_ratings_or_changed_is_refused(tmp_path):
    (tmp_path / "ratings.parquet").write_bytes(b"some rows")
    write_with_digests(tmp_path, {}, written=["ratings.parquet"])
    interest = Interest(torch.ones(2, sum(DIMS)), torch.ones(3, sum(DIMS)), torch.ones(3))
    write_interest(tmp_path, interest)
    assert torch.equal(read_interest(tmp_path).item, interest.item)
    with np.load(tmp_path / "interest.npz") as file:
        tables = dict(file)
    np.savez(tmp_path / "interest.npz", **tables | {"share": tables["share"] / 2})
    refused = r"interest\.npz is damaged or belongs to another run: delete it to have it refitted$"
    with pytest.raises(UserError, match=refused):
        read_interest(tmp_path)
    write_interest(tmp_path, interest)
    (tmp_path / "ratings.parquet").write_bytes(b"other rows")
    write_with_digests(tmp_path, {}, written=["ratings.parquet"])
    with pytest.raises(UserError, match=refused):
        read_interest(tmp_path)
