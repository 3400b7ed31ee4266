"""What the options of every equation declare. Imports nothing slow."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass
class EquationOptions:
    """Base class for the options of an equation; conf/model/*.yaml name the subclasses by `_target_`."""

    name: ClassVar[str]
