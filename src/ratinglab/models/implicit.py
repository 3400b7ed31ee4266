"""An option that several equations share; without torch, so that the command line can read it."""

from enum import Enum


class Implicit(Enum):
    """Whose factors have a part that follows from who rated what."""

    user = "user"
    item = "item"
    both = "both"
