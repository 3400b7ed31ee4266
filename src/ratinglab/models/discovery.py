"""Finds the equations: every file in this folder that defines an EquationOptions is one, under the file's name."""

import importlib
import inspect
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ratinglab.errors import UserError
from ratinglab.models.declarations import EquationOptions

if TYPE_CHECKING:
    from ratinglab.models.equation import Interactions, ItemFeatures

FOLDER = Path(__file__).parent


def model_names() -> list[str]:
    """The names of all equations, sorted."""
    pattern = re.compile(r"^class \w+\(EquationOptions\)", re.MULTILINE)
    return sorted(path.stem for path in FOLDER.glob("*.py") if pattern.search(path.read_text(encoding="utf-8")))


def options_class(name: str) -> type[EquationOptions]:
    """The options class of an equation. Imports torch."""
    module = importlib.import_module(f"ratinglab.models.{name}")
    (found,) = (
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, EquationOptions) and value.__module__ == module.__name__
    )
    return found


def model_name(options: EquationOptions) -> str:
    """The name of the equation to which options belong."""
    return options.name


def plain_options(options: Any) -> dict[str, Any]:
    """The values of an Options object as plain numbers and text, an Enum by its name: what a run keeps."""
    return {key: value.name if isinstance(value, Enum) else value for key, value in vars(options).items()}


def _options_from(plain: dict[str, Any], cls: type) -> Any:
    hints = get_type_hints(cls)
    enums = {key: hint for key, hint in hints.items() if inspect.isclass(hint) and issubclass(hint, Enum)}
    return cls(**{key: enums[key][value] if key in enums else value for key, value in plain.items()})


def model_class(name: str) -> Any:
    """The one Equation that a file defines. Imports torch.

    Raises:
        UserError: there is none, or more than one.
    """
    from ratinglab.models.equation import Equation

    module = importlib.import_module(f"ratinglab.models.{name}")
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Equation) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UserError(f"models/{name}.py must define one Equation, got {len(found)}")
    return found[0]


def takes(name: str, *, argument: str) -> bool:
    """Whether an equation's constructor has an argument of this name. Imports torch."""
    return argument in inspect.signature(model_class(name)).parameters


def build_model(
    name: str,
    options: dict[str, Any],
    *,
    num_users: int,
    num_items: int,
    rating_mean: float,
    seed: int,
    interactions: "Callable[[], Interactions] | None" = None,
    item_features: "Callable[[], ItemFeatures | None] | None" = None,
) -> Any:
    """An equation over the users and items with training rows, its first weights drawn from the seed.

    Args:
        name: its file in this folder.
        options: the values of its Options, as plain_options gives them.
        num_users: users with training rows.
        num_items: items with training rows.
        rating_mean: mean of the training ratings.
        seed: of the first weights.
        interactions: who has rated what in the training part; asked for where the equation has an argument for it.
        item_features: so too; None where nothing is known of the items.
    """
    import torch

    # An equation that draws without the generator, as nn.Embedding does by itself, repeats too.
    torch.manual_seed(seed)
    model = model_class(name)
    more: dict[str, Any] = {}
    for argument, ask in (("interactions", interactions), ("item_features", item_features)):
        if takes(name, argument=argument):
            assert ask is not None, f"{name} must be told its {argument}"
            more[argument] = ask()
    return model(
        _options_from(options, options_class(name)),
        num_users=num_users,
        num_items=num_items,
        rating_mean=rating_mean,
        generator=torch.Generator().manual_seed(seed),
        **more,
    )
