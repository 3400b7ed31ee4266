"""Fits of other libraries, each on the same arrays: Cornac, Surprise and myFM, which are imported when chosen."""

import json
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from measurement import Measurement
from numpy.typing import NDArray


class Ratings(NamedTuple):
    """A table of ratings.

    Attributes:
        user: (N,) int32 indices.
        item: (N,) int32 indices.
        rating: (N,) float32.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]


class Peer(NamedTuple):
    """How a peer is fitted, its setting for the number of epochs, and the values that --tune draws from."""

    fit: Callable[[Ratings, Ratings, dict[str, Any], int], tuple[float, NDArray[np.float64]]]
    epochs: str
    space: dict[str, list[float]]


def fit_peer(system: str, table: str, num_test: str, settings: str, threads: str) -> Measurement:
    """Fit a peer in this process; the arguments are text because they come from the command line."""
    peer, options = PEERS[system], json.loads(settings)
    with np.load(table) as arrays:
        ratings = Ratings(**arrays)
    test, training = (
        Ratings(ratings.user[part], ratings.item[part], ratings.rating[part])
        for part in (slice(None, int(num_test)), slice(int(num_test), None))
    )
    seconds, predicted = peer.fit(training, test, options, int(threads))
    error = np.clip(predicted, ratings.rating.min(), ratings.rating.max()) - test.rating
    return {
        "seconds": seconds,
        "speed": options[peer.epochs] * len(training.user) / seconds,
        "rmse": float(np.sqrt(np.mean(error.astype(np.float64) ** 2))),
    }


def fit_cornac(
    training: Ratings, test: Ratings, settings: dict[str, Any], threads: int
) -> tuple[float, NDArray[np.float64]]:
    """Fit Cornac's biased MF (Cython and OpenMP): the seconds, and the predictions of the test rows."""
    from cornac.data import Dataset
    from cornac.models import MF

    num_users, num_items = table_shape(training, test)
    ids = [{index: index for index in range(count)} for count in (num_users, num_items)]
    columns = training.user.astype(np.int64), training.item.astype(np.int64), training.rating.astype(np.float64)
    data = Dataset(num_users, num_items, *ids, columns, seed=0)
    model = MF(**settings, use_bias=True, num_threads=threads, seed=0, verbose=False)
    started = perf_counter()
    model.fit(data)
    seconds = perf_counter() - started
    predicted = model.global_mean + model.u_biases[test.user] + model.i_biases[test.item]
    predicted += np.einsum("nd,nd->n", model.u_factors[test.user], model.i_factors[test.item])
    return seconds, predicted


def fit_surprise(
    training: Ratings, test: Ratings, settings: dict[str, Any], threads: int
) -> tuple[float, NDArray[np.float64]]:
    """Fit Surprise's SVD (Cython, always one thread): the seconds, and the predictions of the test rows."""
    import pandas as pd
    from surprise import SVD, Dataset, Reader

    scale = float(training.rating.min()), float(training.rating.max())
    table = pd.DataFrame(training._asdict())
    data = Dataset.load_from_df(table, Reader(rating_scale=scale)).build_full_trainset()
    model = SVD(**settings, random_state=0)
    started = perf_counter()
    model.fit(data)
    seconds = perf_counter() - started
    return seconds, np.array([model.predict(*pair).est for pair in zip(test.user, test.item, strict=True)])


def fit_myfm(
    training: Ratings, test: Ratings, settings: dict[str, Any], threads: int
) -> tuple[float, NDArray[np.float64]]:
    """Fit myFM's Bayesian factorization machine on user and item by Gibbs sampling (always one thread)."""
    import myfm
    from scipy import sparse

    num_users, num_items = table_shape(training, test)

    def one_hot(rows: Ratings) -> sparse.csr_matrix:
        count = len(rows.user)
        columns = np.stack([rows.user, rows.item + num_users], axis=1).ravel()
        entries = np.ones(2 * count), columns, np.arange(0, 2 * count + 1, 2)
        return sparse.csr_matrix(entries, shape=(count, num_users + num_items))

    features, target = one_hot(training), training.rating.astype(np.float64)
    groups = [0] * num_users + [1] * num_items
    sweeps = settings["n_iter"]
    model = myfm.MyFMRegressor(rank=settings["rank"], random_seed=0)
    started = perf_counter()
    model.fit(features, target, n_iter=sweeps, n_kept_samples=sweeps // 2, grouping=groups)
    seconds = perf_counter() - started
    return seconds, model.predict(one_hot(test))


def table_shape(training: Ratings, test: Ratings) -> tuple[int, int]:
    """Return the number of users and of items in both parts."""
    num_users, num_items = (max(map(np.max, columns)) + 1 for columns in zip(training[:2], test[:2], strict=True))
    return int(num_users), int(num_items)


PEERS = {
    "cornac": Peer(
        fit_cornac,
        epochs="max_iter",
        space={"k": [10, 32, 64], "max_iter": [25, 40, 60], "learning_rate": [0.005, 0.01, 0.02],
               "lambda_reg": [0.05, 0.08, 0.11]},
    ),
    "surprise": Peer(
        fit_surprise,
        epochs="n_epochs",
        space={"n_factors": [20, 64, 100], "n_epochs": [20, 40, 60], "lr_all": [0.005, 0.01, 0.02],
               "reg_all": [0.05, 0.08, 0.11]},
    ),
    "myfm": Peer(fit_myfm, epochs="n_iter", space={"rank": [6, 10, 16], "n_iter": [200, 300, 400]}),
}  # fmt: skip
