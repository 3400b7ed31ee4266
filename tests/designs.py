"""Small designs with their dense matrices."""

import numpy as np
import torch

from ratinglab.models.design import Design

USER = np.array([0, 0, 0, 1, 1, 2, 3, 3], dtype=np.int32)
ITEM = np.array([0, 1, 2, 0, 2, 1, 1, 2], dtype=np.int32)
OWNER = np.array([0, 0, 1, 2, 3, 3])
"""The user of each of six days."""


def repeat(index: np.ndarray, copies: int, *, size: int) -> torch.Tensor:
    """Repeat indices below `size` for copies of a design: each copy has rows or columns of its own."""
    return torch.from_numpy((index + size * np.arange(copies)[:, None]).ravel())


def rated_items(copies: int = 1) -> Design:
    """Make the design of the items of each user."""
    user, item = repeat(USER, copies, size=4), repeat(ITEM, copies, size=3)
    return Design.from_sets(user.int(), item.int(), num_rows=4 * copies, num_columns=3 * copies)


def dense() -> np.ndarray:
    """Make the matrix of `rated_items`: each row divided by the square root of its count."""
    matrix = np.zeros((4, 3))
    matrix[USER, ITEM] = 1
    return matrix / np.sqrt(matrix.sum(axis=1, keepdims=True))


def drift(copies: int = 1) -> tuple[Design, np.ndarray]:
    """Make a design in which each day has its user and its own scale; return it with the matrix of one copy."""
    scale = np.array([1, 2, -1, 0.5, 0, 3], dtype=np.float32)
    matrix = np.zeros((6, 4))
    matrix[np.arange(6), OWNER] = scale
    owner, scales = repeat(OWNER, copies, size=4), torch.from_numpy(scale).repeat(copies)
    return Design.one_hot(owner, num_columns=4 * copies, scale=scales), matrix


def cases(copies: int = 1) -> dict[str, tuple[Design, np.ndarray]]:
    """Make designs, each of several equal blocks, with the matrix of one block."""
    rated, (of_days, of_day) = rated_items(copies), drift(copies)
    picked = np.array([3, 0, 0, 2, 5, 1, 5])
    return {
        "sets": (rated, dense()),
        "one_hot": (of_days, of_day),
        "sets seen from days": (rated.select_rows(repeat(OWNER, copies, size=4)), dense()[OWNER]),
        "one_hot seen from other rows": (of_days.select_rows(repeat(picked, copies, size=6)), of_day[picked]),
    }
