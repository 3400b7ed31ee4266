"""Finds the equations: every file in this folder that has a class Options is one, under the file's name."""

import ast
import importlib
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ratinglab.options

FOLDER = Path(__file__).parent


def model_names() -> list[str]:
    """The names of all equations, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if _options_node(path) is not None)


def options_class(name: str) -> type:
    """The dataclass Options of an equation's file, without running the rest of it.

    The command line needs the options of every equation before it can tell a mistyped key, and the import of torch,
    with which each such file begins, costs more than a second. So only the class is taken out of the file. It can
    use the ranges of ratinglab.options, and builtin types.
    """
    path = FOLDER / f"{name}.py"
    node = _options_node(path)
    assert node is not None, f"{path} has no class Options"
    ranges = {key: value for key, value in vars(ratinglab.options).items() if inspect.isfunction(value)}
    namespace: dict[str, Any] = {
        "__name__": f"ratinglab.models.{name}",
        "dataclass": dataclass,
        "field": field,
        **ranges,
    }
    exec(compile(ast.Module(body=[node], type_ignores=[]), filename=str(path), mode="exec"), namespace)
    found: type = namespace["Options"]
    return found


def model_name(options: Any) -> str:
    """The name of the equation to which an Options object belongs."""
    return type(options).__module__.rpartition(".")[2]


def model_class(name: str) -> Any:
    """The one nn.Module class that an equation's file defines. Imports torch."""
    from torch import nn

    module = importlib.import_module(f"ratinglab.models.{name}")
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    ]
    assert len(found) == 1, f"{module.__file__} must define one nn.Module, not {len(found)}"
    return found[0]


def build_model(
    name: str, options: dict[str, Any], *, num_users: int, num_items: int, rating_mean: float, seed: int
) -> Any:
    """An equation over the users and items with training rows, its first weights drawn from the seed.

    Args:
        name: its file in this folder.
        options: the values of its Options.
        num_users: users with training rows.
        num_items: items with training rows.
        rating_mean: mean of the training ratings.
        seed: of the first weights.
    """
    import torch

    # An equation that draws without the generator, as nn.Embedding does by itself, repeats too.
    torch.manual_seed(seed)
    module = importlib.import_module(f"ratinglab.models.{name}")
    return model_class(name)(
        module.Options(**options),
        num_users=num_users,
        num_items=num_items,
        rating_mean=rating_mean,
        generator=torch.Generator().manual_seed(seed),
    )


def _options_node(path: Path) -> ast.ClassDef | None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return next((node for node in body if isinstance(node, ast.ClassDef) and node.name == "Options"), None)
