"""Fits of other libraries, each on the same arrays: Cornac, Surprise and myFM, which are imported when chosen."""

import json
from collections.abc import Callable, Mapping, Sequence
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
        day: (N,) int32, counted from any day; all 0 for ratings without times.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]
    day: NDArray[np.int32]

    def take(self, rows: slice) -> "Ratings":
        """Select rows."""
        return Ratings._make(column[rows] for column in self)


class Block(NamedTuple):
    """A block of features that rows share, such as those of a user.

    Attributes:
        entry: (N,) int64, the entry of each row.
        parts: sparse matrices with a row per entry, whose columns share a prior.
    """

    entry: NDArray[np.int64]
    parts: list[Any]


class Peer(NamedTuple):
    """How a peer is fitted, its setting for the number of epochs, and the values that --tune draws from."""

    fit: Callable[[Ratings, Ratings, dict[str, Any], int], tuple[float, NDArray[np.float64]]]
    epochs: str
    space: Mapping[str, Sequence[float | str]]


def fit_peer(system: str, table: str, num_test: str, settings: str, threads: str) -> Measurement:
    """Fit a peer in this process; the arguments are text because they come from the command line."""
    peer, options = PEERS[system], json.loads(settings)
    with np.load(table) as arrays:
        ratings = Ratings(**arrays)
    test, training = ratings.take(slice(None, int(num_test))), ratings.take(slice(int(num_test), None))
    seconds, predicted = peer.fit(training, test, options, int(threads))
    error = np.clip(predicted, ratings.rating.min(), ratings.rating.max()) - test.rating
    return {
        "seconds": seconds,
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
    table = pd.DataFrame({"user": training.user, "item": training.item, "rating": training.rating})
    data = Dataset.load_from_df(table, Reader(rating_scale=scale)).build_full_trainset()
    model = SVD(**settings, random_state=0)
    started = perf_counter()
    model.fit(data)
    seconds = perf_counter() - started
    return seconds, np.array([model.predict(*pair).est for pair in zip(test.user, test.item, strict=True)])


def fit_myfm(
    training: Ratings, test: Ratings, settings: dict[str, Any], threads: int
) -> tuple[float, NDArray[np.float64]]:
    """Fit myFM's Bayesian factorization machine by Gibbs sampling (always one thread).

    settings["like"] names the equation of ratinglab whose blocks it gets.
    """
    rows = Ratings._make(np.concatenate(columns) for columns in zip(training, test, strict=True))
    blocks = myfm_blocks(settings["like"], rows, num_train=len(training.user))
    return sample_myfm(blocks, training.rating, rank=settings["rank"], sweeps=settings["n_iter"], seed=0)


def sample_myfm(
    blocks: Sequence[Block], rating: NDArray[np.float32], *, rank: int, sweeps: int, seed: int
) -> tuple[float, NDArray[np.float64]]:
    """Sample myFM's weights, and average the predictions of all sweeps: the seconds, and the predictions of the rows
    after the first (N,), whose ratings are given.
    """
    import myfm

    target = rating.astype(np.float64)
    training, groups = relation_blocks(blocks, slice(None, len(target))), column_groups(blocks)
    model = myfm.MyFMRegressor(rank=rank, random_seed=seed)
    started = perf_counter()
    model.fit(None, target, X_rel=training, n_iter=sweeps, n_kept_samples=sweeps, grouping=groups)
    seconds = perf_counter() - started
    return seconds, model.predict(None, X_rel=relation_blocks(blocks, slice(len(target), None)))


def relation_blocks(blocks: Sequence[Block], rows: slice) -> list[Any]:
    """Make myFM's relation blocks of some rows."""
    import myfm
    from scipy import sparse

    return [myfm.RelationBlock(block.entry[rows], sparse.hstack(block.parts, format="csr")) for block in blocks]


def column_groups(blocks: Sequence[Block]) -> list[int]:
    """Number the parts of all blocks, and give each column the number of its part: myFM's groups share a prior."""
    widths = [part.shape[1] for block in blocks for part in block.parts]
    return [group for group, width in enumerate(widths) for _ in range(width)]


def myfm_blocks(
    equation: str,
    ratings: Ratings,
    *,
    num_train: int,
    user_features: Sequence[Any] = (),
    item_features: Sequence[Any] = (),
) -> list[Block]:
    """Make the blocks that give myFM what an equation of ratinglab has.

    Args:
        equation: biased_mf: users and items; svdpp: also implicit feedback, both ways; timesvdpp: also the user's day.
        ratings: all rows, those for training first.
        num_train: number of training rows, the source of the implicit feedback.
        user_features: sparse matrices with a row per user.
        item_features: sparse matrices with a row per item.
    """
    from scipy import sparse

    user, item = ratings.user.astype(np.int64), ratings.item.astype(np.int64)
    shape = user.max() + 1, item.max() + 1
    user_parts: list[Any] = [sparse.identity(shape[0], format="csr")]
    item_parts: list[Any] = [sparse.identity(shape[1], format="csr")]
    if equation != "biased_mf":
        rated = sparse.csr_matrix((np.ones(num_train), (user[:num_train], item[:num_train])), shape=shape)
        user_parts.append(by_root_count(rated))
        item_parts.append(by_root_count(rated.T.tocsr()))
    blocks = [Block(user, [*user_parts, *user_features]), Block(item, [*item_parts, *item_features])]
    if equation == "timesvdpp":
        day = ratings.day.astype(np.int64) - int(ratings.day.min())
        index = np.unique(user * (int(day.max()) + 1) + day, return_inverse=True)[1]
        blocks.append(Block(index, [sparse.identity(index.max() + 1, format="csr")]))
    return blocks


def by_root_count(rated):  # type: ignore[no-untyped-def]
    """Divide each row of a sparse matrix of ones by the square root of its number of ones; a row without ones stays."""
    from scipy import sparse

    return sparse.diags(1 / np.sqrt(np.maximum(1, rated.getnnz(axis=1)))) @ rated


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
    **{
        name: Peer(fit_myfm, epochs="n_iter",
                   space={"rank": [6, 10, 16], "n_iter": [200, 300, 400], "like": [like]})
        for name, like in (("myfm", "biased_mf"), ("myfm_svdpp", "svdpp"), ("myfm_timesvdpp", "timesvdpp"))
    },
}  # fmt: skip
