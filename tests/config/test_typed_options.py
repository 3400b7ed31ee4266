"""Conversion of composed configs to typed options."""

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from ratinglab.config.typed_options import UnknownKeyError, target_class, to_options
from ratinglab.errors import UserError
from ratinglab.options import at_least


@dataclass
class Base:
    name: ClassVar[str]


@dataclass
class Deep:
    depth: int = field(metadata=at_least(1))


@dataclass
class Chosen(Base):
    name: ClassVar[str] = "chosen"

    columns: list[str]
    widths: list[int]
    deep: Deep
    free: dict[str, Any]
    rate: float | None
    path: str | None


class Forgotten(Base):
    width: int


@dataclass
class Unfinished(Base, ABC):
    @abstractmethod
    def build(self): ...


@dataclass
class Root:
    group: Base
    label: str


TARGET = f"{__name__}.Chosen"
GROUP = {
    "_target_": TARGET,
    "columns": ["a", "b"],
    "widths": [],
    "deep": {"depth": 2},
    "free": {"split.name": "random"},
    "rate": None,
    "path": "${label}",
}


def options_of(*, label="x", overrides=(), **changes):
    config = OmegaConf.create({"group": GROUP | changes, "label": label})
    return to_options(config, Root, OverridesParser.create().parse_overrides(list(overrides)))


def test_values_of_every_type_are_converted():
    group = options_of(rate=1, widths=[3, 4], columns=[]).group
    assert type(group) is Chosen
    assert (group.columns, group.widths, group.deep.depth, group.rate, group.path) == ([], [3, 4], 2, 1.0, "x")
    assert group.free == {"split.name": "random"}


def test_one_value_is_a_list_of_one():
    group = options_of(columns="a", widths=3).group
    assert (group.columns, group.widths) == (["a"], [3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": "b"}, "group.widths must be an integer, got [b]"),
        ({"widths": [1, "b"]}, "group.widths must be an integer, got [1,b]"),
        ({"columns": None}, "group.columns must not be null"),
        ({"rate": "fast"}, "group.rate must be a number, got fast"),
        ({"deep": 3}, "group.deep has keys of its own (depth), got 3"),
        ({"deep": {"depth": 0}}, "group.deep.depth must be at least 1, got 0"),
        ({"deep": {"depht": 1}}, "unknown key group.deep.depht; did you mean group.deep.depth?"),
        ({"colums": []}, "unknown key group.colums; did you mean group.columns?"),
        ({"deep": {}}, "group.deep.depth has no value: set it in the YAML file of group"),
        ({"deep": {"depth": "???"}}, "group.deep.depth must be given, as in group.deep.depth=VALUE"),
        ({"path": "${oc.env:NOT_SET_HERE}"}, "group.path: "),
        ({"path": [1, 2]}, "group.path must be text, got [1,2]"),
    ],
)
def test_wrong_value_gives_a_one_line_error(changes, message):
    with pytest.raises(UserError) as error:
        options_of(**changes)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_unknown_key_of_the_root_is_refused():
    with pytest.raises(UnknownKeyError, match="unknown key lable; did you mean label") as error:
        to_options(OmegaConf.create({"group": GROUP, "lable": "x"}), Root)
    assert error.value.key == "lable"


def test_strings_keep_the_text_typed_on_the_command_line():
    options = options_of(label=100000.0, path=1000, overrides=["label=1e5", "group.path=1_000"])
    assert (options.label, options.group.path) == ("1e5", "1_000")
    assert options_of(path=None, overrides=["group.path=null"]).group.path is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("torch", "group._target_ must be the dotted path of a class, as in module.Class, got torch"),
        (3, "group._target_ must be the dotted path of a class, as in module.Class, got 3"),
        ("no_such_module.Options", "group._target_: there is no module no_such_module; to import from"),
        (f"{__name__}.Chosem", f"group._target_: {__name__} has no Chosem; did you mean Chosen?"),
        (f"{__name__}.Root", f"group._target_ must be a subclass of {__name__}.Base, got {__name__}.Root"),
        ("os.system", f"group._target_ must be a subclass of {__name__}.Base, got os.system"),
        (f"{__name__}.Unfinished", f"group._target_: {__name__}.Unfinished has no build"),
        (f"{__name__}.Forgotten", f"group._target_: {__name__}.Forgotten needs the decorator @dataclass"),
    ],
)
def test_wrong_target_gives_a_one_line_error(target, message):
    with pytest.raises(UserError) as error:
        target_class(target, base=Base, key="group._target_")
    assert str(error.value).startswith(message)


def test_group_of_an_abstract_base_must_have_a_target():
    with pytest.raises(UserError, match=r"group\._target_ must be given: the dotted path of a class derived from Base"):
        to_options(OmegaConf.create({"group": {"columns": []}, "label": "x"}), Root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package\n", "line 1: No module named 'no_such_package'"),
        ("\nx = (\n", "line 2: '(' was never closed"),
        ("\n\nx = y\n", "line 3: NameError: name 'y' is not defined"),
    ],
)
def test_error_in_a_user_module_names_file_and_line(tmp_path, monkeypatch, text, message):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "faulty_equation.py").write_text(text)
    with pytest.raises(UserError) as error:
        target_class("faulty_equation.Options", base=Base, key="model._target_")
    assert str(error.value) == (
        f"model._target_: faulty_equation cannot be imported: {tmp_path / 'faulty_equation.py'}, {message}"
    )
    assert "faulty_equation" not in sys.modules
