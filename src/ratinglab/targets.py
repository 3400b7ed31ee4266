"""Classes and other objects by dotted path or name, from ratinglab or from the user's modules."""

import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ratinglab.errors import UserError, did_you_mean

LIBRARIES = ("ratinglab", "torch", "pytorch_lightning", "abc", "builtins")
"""Packages that are not the user's code: their exceptions keep their traceback."""


def target_class(dotted_path: Any, *, base: type, key: str) -> type:
    """Import the dataclass that a `_target_` names.

    Raises:
        UserError: the class cannot be imported, or is not a dataclass derived from `base`, or a method or its `name` is
            missing.
    """
    if not (isinstance(dotted_path, str) and re.fullmatch(r"\w+(\.\w+)+", dotted_path)):
        raise UserError(f"{key} must be the dotted path of a class, as in module.Class, got {dotted_path}")
    cls = import_attribute(dotted_path, key=key, kind=type)
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise UserError(f"{key} must be a subclass of {base.__module__}.{base.__qualname__}, got {dotted_path}")
    if inspect.get_annotations(cls) and "__dataclass_fields__" not in vars(cls):
        raise UserError(f"{key}: {dotted_path} needs the decorator @dataclass")
    missing = set(getattr(cls, "__abstractmethods__", ()))
    if "name" in inspect.get_annotations(base) and not hasattr(cls, "name"):
        missing.add("name")
    if missing:
        raise UserError(f"{key}: {dotted_path} has no {', '.join(sorted(missing))}")
    return cls


def import_attribute(dotted_path: str, *, key: str, kind: type) -> Any:
    """Import MODULE.NAME.

    Raises:
        UserError: the module cannot be imported, or has no such name. The message suggests the nearest name in the
            module of an object of type `kind`.
    """
    module_name, _, name = dotted_path.rpartition(".")
    module = import_named(module_name, key=key)
    if not hasattr(module, name):
        names = [known for known, value in vars(module).items() if isinstance(value, kind)]
        raise UserError(f"{key}: {module_name} has no {name}{did_you_mean(name, names)}")
    return getattr(module, name)


def import_named(name: str, *, key: str) -> ModuleType:
    """Import a module of ratinglab or of the user.

    Raises:
        UserError: the module does not exist, or raises an error.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's module can raise anything
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            hint = did_you_mean(name, (module.name for module in pkgutil.iter_modules()), cutoff=0.85)
            hint = hint or "; to import from a folder of your own, add --config-dir FOLDER"
            raise UserError(f"{key}: there is no module {name}{hint}") from error
        if isinstance(error, SyntaxError):
            place = f"{error.filename}, line {error.lineno}"
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{frame.filename}, line {frame.lineno}"
        message = error.msg if isinstance(error, SyntaxError | ImportError) else f"{type(error).__name__}: {error}"
        raise UserError(f"{key}: {name} cannot be imported: {place}: {' '.join(message.split())}") from error


@contextmanager
def name_line_of_fault(code: Any, *, place: str) -> Iterator[None]:
    """Raise UserError with file and line for an exception in the user's code.

    `code` is a function, or a class with its base classes. Exceptions from files that define none of these are not
    changed. `place` begins the message.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a user's code can raise anything
        parts = inspect.getmro(code) if inspect.isclass(code) else [getattr(code, "func", code)]  # of a partial
        modules = {str(getattr(part, "__module__", "")) for part in parts}
        modules = {module for module in modules if module.split(".")[0] not in LIBRARIES}
        files = {getattr(sys.modules.get(module), "__file__", None) for module in modules}
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
        if not frames:
            raise
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{place}: {frames[-1].filename}, line {frames[-1].lineno}: {fault}") from error


def named_subclasses(base: type[Any], *modules: str) -> list[Any]:
    """List the subclasses of `base` with their own name, as in optimizer=NAME. If names repeat, the last one counts.

    First imports these modules, and all modules in the packages among them.
    """
    for module in map(importlib.import_module, modules):
        for part in pkgutil.iter_modules(getattr(module, "__path__", []), prefix=f"{module.__name__}."):
            importlib.import_module(part.name)
    classes = [base]
    for cls in classes:
        classes += cls.__subclasses__()
    return list({cls.name: cls for cls in classes if "name" in vars(cls)}.values())
