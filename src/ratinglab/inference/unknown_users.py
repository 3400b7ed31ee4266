"""Treatment of users without training ratings in recommendation lists. Imports nothing slow."""

from enum import Enum


class UnknownUsers(Enum):
    """Treatment of users without training ratings."""

    error = "error"
    baseline = "baseline"
