"""Imports of classes and modules by dotted path, with one-line errors that name the location."""

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import pytest

from ratinglab.errors import UserError
from ratinglab.models.equation_options import EquationOptions
from ratinglab.models.mf import MFOptions
from ratinglab.targets import import_named, named_subclasses, target_class


@dataclass
class Base(ABC):
    """Options with a name and a verb."""

    name: ClassVar[str]

    @abstractmethod
    def build(self):
        """Make the thing."""


OWN = """
from dataclasses import dataclass
from test_targets import Base

@dataclass
class Own(Base):
    name = "own"
    count: int
    def build(self): ...

class Bare(Base):
    count: int
    def build(self): ...

class Same(Own):
    def build(self): ...

@dataclass
class Half(Base):
    name = "half"
    count: int

@dataclass
class Nameless(Base):
    def build(self): ...

number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make a folder with the module own_options on the import path, as after --config-dir."""
    (tmp_path / "own_options.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_classes_are_imported_by_dotted_path(folder):
    assert target_class("ratinglab.models.mf.MFOptions", base=EquationOptions, key="x") is MFOptions
    assert target_class("own_options.Own", base=Base, key="x").__name__ == "Own"
    assert target_class("own_options.Same", base=Base, key="x").__name__ == "Same"  # without fields of its own


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("own_options.Ow", "x: own_options has no Ow; did you mean Own?"),
        (
            "own_option.Own",
            "x: there is no module own_option; did you mean own_options?",
        ),
        ("own_options.number", "x must be a subclass of test_targets.Base, got own_options.number"),
        ("ratinglab.models.mf.MFOptions", "x must be a subclass of test_targets.Base, got ratinglab.models.mf.MFOpt"),
        ("own_options.Bare", "x: own_options.Bare needs the decorator @dataclass"),
        ("own_options.Half", "x: own_options.Half has no build"),
        ("own_options.Nameless", "x: own_options.Nameless has no name"),
        ("Own", "x must be the dotted path of a class, as in module.Class, got Own"),
        ("", "x must be the dotted path of a class, as in module.Class, got "),
        ("..x", "x must be the dotted path of a class, as in module.Class, got ..x"),
        ("a..x", "x must be the dotted path of a class, as in module.Class, got a..x"),
        (None, "x must be the dotted path of a class, as in module.Class, got None"),
    ],
)
def test_path_to_something_other_than_a_subclass_is_refused(folder, path, message):
    with pytest.raises(UserError) as error:
        target_class(path, base=Base, key="x")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("x = 1\nx =", "own_broken.py, line 2: invalid syntax"),
        ("\n1 / 0", "own_broken.py, line 2: ZeroDivisionError: division by zero"),
        ("import own_missing", "own_broken.py, line 1: No module named 'own_missing'"),
        ("from own_options import nothing", "own_broken.py, line 1: cannot import name 'nothing'"),
        ("raise ValueError('a\\nb')", "own_broken.py, line 1: ValueError: a b"),
    ],
)
def test_error_in_a_user_file_gives_one_line_with_its_location(folder, code, fault):
    (folder / "own_broken.py").write_text(code)
    with pytest.raises(UserError) as error:
        import_named("own_broken", key="x")
    assert str(error.value).startswith(f"x: own_broken cannot be imported: {folder}/{fault}")
    assert "\n" not in str(error.value)


def test_missing_module_inside_a_package_is_reported():
    with pytest.raises(UserError, match=r"^x: there is no module ratinglab\.modles\.mf; "):
        import_named("ratinglab.modles.mf", key="x")


def test_class_that_is_imported_again_is_listed_once():
    class Base:
        pass

    first, second = (type(f"Class{number}", (Base,), {"name": "mine"}) for number in (1, 2))
    assert named_subclasses(Base) == [second] != [first]
