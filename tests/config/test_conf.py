"""Every YAML in conf/ composes, builds, and says the same as its dataclass."""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from ratinglab.config.schema import ROOTS, register_schemas, to_options
from ratinglab.experiment.options import GROUPS
from ratinglab.models.discovery import model_names, options_class

CONF = Path(__file__).parents[2] / "conf"
GROUP_FILES = sorted(path for path in CONF.glob("*/*.yaml") if path.parent.name not in ("experiment", "recipe"))
EXPERIMENTS = sorted(path.stem for path in CONF.glob("experiment/*.yaml"))
REQUIRED = {
    "data=csv": ["data.path=x.csv"],
    "split=files": ["split.test_files=x.csv"],
    "split=rows": ["split.test_start=0", "split.test_stop=5"],
}


def options_of(root: str, *overrides: str):
    register_schemas()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return to_options(compose(root, overrides=list(overrides)), [])


@pytest.mark.parametrize("path", GROUP_FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_choice_of_a_group_composes_to_the_class_of_its_schema(path):
    group, choice = path.parent.name, path.stem
    found = getattr(options_of("train", f"{group}={choice}", *REQUIRED.get(f"{group}={choice}", [])), group)
    schema = yaml.safe_load(path.read_text())["defaults"][0]
    if schema != "default":  # trainer=debug is the default with other values
        classes = {**GROUPS, "model": {name: options_class(name) for name in model_names()}}[group]
        expected = classes[schema.removesuffix("@_here_").removeprefix(f"/schema_{group}_")]
        assert type(found).__qualname__ == expected.__qualname__
        assert type(found).__module__ == expected.__module__


@pytest.mark.parametrize("path", GROUP_FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_default_values_stand_in_the_yaml_and_nowhere_else(path):
    group, choice = path.parent.name, path.stem
    found = getattr(options_of("train", f"{group}={choice}", *REQUIRED.get(f"{group}={choice}", [])), group)
    names = [field.name for field in dataclasses.fields(found)]
    content = content_of(path)
    assert set(content) <= set(names)
    if choice != "debug":
        assert list(content) == names, "one key for each field, in the same order"
    for field in dataclasses.fields(found):
        assert field.default is dataclasses.MISSING
        assert field.default_factory is dataclasses.MISSING


def content_of(path: Path) -> dict:
    """The keys of a file, behind those of the files that it takes in."""
    content = yaml.safe_load(path.read_text())
    taken_in = [entry.removesuffix("@_here_") for entry in content.pop("defaults", []) if entry.endswith("@_here_")]
    files = (CONF / f"{name.removeprefix('/')}.yaml" for name in taken_in if not name.startswith("/schema_"))
    return {key: value for file in files for key, value in content_of(file).items()} | content


def all_options_classes():
    roots = [*ROOTS.values(), *(cls for classes in GROUPS.values() for cls in classes.values())]
    # a class with fields of its own may have bases with more, and a generated one has none of its own
    classes = [base for cls in roots for base in cls.__mro__ if dataclasses.is_dataclass(base)]
    return {
        cls.__qualname__ + cls.__module__: cls
        for cls in classes
        if vars(cls)["__annotations__"] and "<" not in str(cls)
    }.values()


@pytest.mark.parametrize("cls", all_options_classes(), ids=lambda cls: cls.__qualname__)
def test_every_field_has_its_docstring(cls):
    assert_documented(ast.parse(inspect.getsource(cls)).body[0], cls)


@pytest.mark.parametrize("name", model_names())
def test_every_field_of_an_equation_has_its_docstring(name):
    source = (Path(inspect.getfile(options_class)).parent / f"{name}.py").read_text()
    node = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "Options")
    assert_documented(node, options_class(name))


def assert_documented(node: ast.ClassDef, cls: type) -> None:
    followed = {
        field.target.id
        for field, text in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    assert set(inspect.get_annotations(cls)) <= followed | {"name", "by_time"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes(name):
    options = options_of("train", f"experiment={name}")
    assert options.split.fold == 1
    assert options.split.validation == 0


@pytest.mark.parametrize(
    ("root", "overrides"),
    [
        ("inspect_data", ["data=movielens_1m"]),
        ("evaluate", ["run=x"]),
        ("recommend", ["run=x", "user=1"]),
        ("predict", ["run=x", "input=a.csv", "output=b.csv"]),
    ],
)
def test_the_other_commands_compose(root, overrides):
    assert isinstance(options_of(root, *overrides), ROOTS[root])


def test_every_class_that_can_be_chosen_has_a_yaml():
    for group, classes in GROUPS.items():
        used = {
            entry for path in CONF.glob(f"{group}/*.yaml") for entry in yaml.safe_load(path.read_text())["defaults"]
        }
        assert {f"/schema_{group}_{name}@_here_" for name in classes} <= used
