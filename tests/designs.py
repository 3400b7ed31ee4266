"""Small designs with their dense matrices."""

import numpy as np
import torch

from ratinglab.models.design import Design

USER = np.array([0, 0, 0, 1, 1, 2, 3, 3], dtype=np.int32)
ITEM = np.array([0, 1, 2, 0, 2, 1, 1, 2], dtype=np.int32)
OWNER = np.array([0, 0, 1, 2, 3, 3])
"""The user of each of six days."""


def rated_items() -> Design:
    """Make the design of the items of each user."""
    return Design.from_sets(torch.from_numpy(USER), torch.from_numpy(ITEM), num_rows=4, num_columns=3)


def dense() -> np.ndarray:
    """Make the matrix of `rated_items`: each row divided by the square root of its count."""
    matrix = np.zeros((4, 3))
    matrix[USER, ITEM] = 1
    return matrix / np.sqrt(matrix.sum(axis=1, keepdims=True))


def drift() -> tuple[Design, np.ndarray]:
    """Make a design in which each day has its user and its own scale; return it with its matrix."""
    scale = np.array([1, 2, -1, 0.5, 0, 3], dtype=np.float32)
    matrix = np.zeros((6, 4))
    matrix[np.arange(6), OWNER] = scale
    return Design.one_hot(torch.from_numpy(OWNER), num_columns=4, scale=torch.from_numpy(scale)), matrix


def cases() -> dict[str, tuple[Design, np.ndarray]]:
    """Make designs with their matrices."""
    of_days, of_day = drift()
    picked = torch.tensor([3, 0, 0, 2, 5, 1, 5])
    return {
        "sets": (rated_items(), dense()),
        "one_hot": (of_days, of_day),
        "sets seen from days": (rated_items().select_rows(torch.from_numpy(OWNER)), dense()[OWNER]),
        "one_hot seen from other rows": (of_days.select_rows(picked), of_day[picked.numpy()]),
    }
