"""Figures that are computed but not drawn: a second per sweep, a third of most short commands."""

from typing import Any

import numpy as np
from torch.utils.tensorboard import writer

from ratinglab.evaluation import figures
from ratinglab.reports import figure_files


class Undrawn:
    """Stands in for a figure and for its axes: takes every call."""

    def __getattr__(self, name: str) -> "Undrawn":
        return self

    def __call__(self, *arguments: Any, **options: Any) -> "Undrawn":
        return self


REPLACED: list[tuple[Any, str, Any]] = [
    (figure_files, "_figures", lambda jobs, curves: []),
    (figures, "_figure", lambda *title, **labels: (Undrawn(), Undrawn())),
    (writer, "figure_to_image", lambda figure, close: np.zeros((3, 8, 8), np.uint8)),
]
"""Functions to replace: module, name, replacement. TensorBoard shows a blank image instead."""
