"""The interest model in a run's folder. It is stored so that it is fitted only once."""

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from ratinglab.errors import UserError
from ratinglab.files import write_atomically
from ratinglab.recommend.interest import Interest
from ratinglab.runs.digests import DIFFERS, read_digests
from ratinglab.runs.run_files import INTEREST, RATINGS


def read_interest(folder: Path) -> Interest | None:
    """Read the interest model; None if it has not been fitted yet."""
    path = folder / INTEREST
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as tables:
            interest = Interest(*(torch.from_numpy(tables[name]) for name in Interest._fields))
            if str(tables["digest"]) != _digest_of_interest(folder, interest):
                raise ValueError(DIFFERS)
    except Exception as error:  # an incomplete or foreign file can raise anything
        raise UserError(f"{path} is damaged or belongs to another run: delete it to have it refitted") from error
    return interest


def write_interest(folder: Path, interest: Interest) -> None:
    """Write the interest model. Does nothing if the folder is read-only: each process then fits the model again."""
    tables = {name: table.numpy() for name, table in interest._asdict().items()}
    tables["digest"] = np.array(_digest_of_interest(folder, interest))
    with suppress(OSError):
        write_atomically(folder / INTEREST, lambda file: np.savez(file, **tables))


def _digest_of_interest(folder: Path, interest: Interest) -> str:
    """Compute the SHA-256 of the interest model and of the ratings' digest.

    interest.npz holds it, because only the training process may write digests.json.
    """
    sha256 = hashlib.sha256(str(read_digests(folder).get(RATINGS)).encode())
    for table in interest:
        sha256.update(np.ascontiguousarray(table.numpy()).tobytes())
    return sha256.hexdigest()
