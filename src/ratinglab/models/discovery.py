"""Finds the equations: every file in this folder that has a class Options is one, under the file's name."""

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ratinglab.errors import UserError

if TYPE_CHECKING:
    from ratinglab.models.equation import Interactions, ItemFeatures

FOLDER = Path(__file__).parent
LIGHT = ("__future__", "dataclasses", "enum", "typing", "ratinglab.options", "ratinglab.models.implicit")
"""What an Options may import from."""


def model_names() -> list[str]:
    """The names of all equations, sorted; a file that Python cannot parse is counted, and fails when it is used."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if re.search(r"^class Options\b", path.read_text(), re.M))


def options_class(name: str) -> type:
    """The dataclass Options of an equation's file, without running the rest of it.

    The command line needs the options of every equation before it can tell a mistyped key, and the import of torch,
    with which each such file begins, costs more than a second. So Options is taken out of the file, with the Enums
    beside it and the imports of LIGHT packages.

    Raises:
        UserError: the file cannot be parsed, or its Options needs more than that.
    """
    path = FOLDER / f"{name}.py"
    try:
        wanted = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if _is_light(node)]
        namespace: dict[str, Any] = {"__name__": f"ratinglab.models.{name}"}
        exec(compile(ast.Module(body=wanted, type_ignores=[]), filename=str(path), mode="exec"), namespace)
    except (SyntaxError, NameError, ImportError, TypeError) as error:
        raise UserError(f"models/{path.name}: Options cannot be read: {error}") from error
    found: type = namespace["Options"]
    return found


def _is_light(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module in LIGHT
    if isinstance(node, ast.ClassDef):
        return node.name == "Options" or any(isinstance(base, ast.Name) and base.id == "Enum" for base in node.bases)
    return False


def model_name(options: Any) -> str:
    """The name of the equation to which an Options object belongs."""
    return type(options).__module__.rpartition(".")[2]


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
    module = importlib.import_module(f"ratinglab.models.{name}")
    model = model_class(name)
    more: dict[str, Any] = {}
    for argument, ask in (("interactions", interactions), ("item_features", item_features)):
        if takes(name, argument=argument):
            assert ask is not None, f"{name} must be told its {argument}"
            more[argument] = ask()
    return model(
        _options_from(options, module.Options),
        num_users=num_users,
        num_items=num_items,
        rating_mean=rating_mean,
        generator=torch.Generator().manual_seed(seed),
        **more,
    )
