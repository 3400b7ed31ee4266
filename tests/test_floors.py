"""The house: a file imports only files of lower floors, and no package that its floor does not know."""

import ast
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "ratinglab"

FLOORS = [
    ["__init__", "errors"],
    ["options", "files", "targets"],
    ["ratings"],
    ["batches"],
    ["datamodule"],
    ["evaluation"],
    ["models"],
    ["fitting"],
    ["recommend"],
    ["runs"],
    ["reports"],
    ["experiment"],
    ["startup"],
    ["config"],
]
"""From the ground up. A folder's files may import one another, in no circle."""

ONLY_ON = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "pytorch_lightning": {"datamodule", "fitting", "experiment"},
    "lightning_fabric": {"fitting"},
    "torch": {"batches", "datamodule", "evaluation", "models", "fitting", "recommend", "runs", "experiment"},
    "pandas": {"ratings", "runs", "experiment"},
    "pyarrow": {"ratings", "experiment"},
    "numba": {"fitting"},
    "matplotlib": {"evaluation", "fitting"},
}
MAY_USE_PRIVATE_NAMES = {"hydra": "config/hydra_api.py", "pytorch_lightning": None, "lightning_fabric": None}
"""The one file, if any, that may use names with a leading underscore of a package, which can change at any release."""
FILES = sorted(SOURCE.rglob("*.py"))


def place(path: Path) -> str:
    """Name of the file or folder directly in ratinglab/ to which a file belongs."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if name in names)


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.append(node.module)
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def own_imports(path: Path) -> set[Path]:
    """The files of ratinglab that a file imports."""
    modules = [name.split(".")[1:] for name in imports(path) if name.split(".")[0] == "ratinglab"]
    return {SOURCE.joinpath(*parts).with_suffix(".py") if parts else SOURCE / "__init__.py" for parts in modules}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_lower_floors_only(path):
    for imported in own_imports(path):
        assert imported.exists(), f"{imported} is imported whole, not one of its files"
        if place(imported) != place(path):
            assert floor(place(imported)) < floor(place(path)), f"{imported} is not below {path}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_floor_imports_only_the_packages_it_knows(path):
    for name in imports(path):
        package = name.split(".")[0]
        assert package not in ONLY_ON or place(path) in ONLY_ON[package], f"{path} imports {package}"


def test_there_are_no_circles():
    reached: dict[Path, set[Path]] = {path: own_imports(path) for path in FILES}
    for _ in FILES:
        reached = {path: below.union(*(reached[other] for other in below)) for path, below in reached.items()}
    assert [path for path in FILES if path in reached[path]] == []


def private_names(path: Path) -> set[tuple[str, str]]:
    """Names with a leading underscore that a file imports from, or takes off, a package: the package and the name."""
    tree, bound, found = ast.parse(path.read_text()), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {(node.module, f"{node.module}.{alias.name}") for alias in node.names}
            bound |= {alias.asname or alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, alias.name) for alias in node.names}
            bound |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
    for node in ast.walk(tree):
        names, inner = [], node
        while isinstance(inner, ast.Attribute):
            names, inner = [inner.attr, *names], inner.value
        if names and isinstance(inner, ast.Name) and inner.id in bound:
            found.add((bound[inner.id], ".".join([inner.id, *names])))
    return {(module.split(".")[0], name) for module, name in found if any(map(is_private, name.split(".")))}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_private_names_of_lightning_and_hydra_are_used_in_one_file(path):
    for package, name in private_names(path):
        allowed = MAY_USE_PRIVATE_NAMES.get(package, "")
        assert allowed in ("", str(path.relative_to(SOURCE))), f"{path} uses {name}"


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from hydra._internal.utils import get_args_parser", {"hydra._internal.utils.get_args_parser"}),
        ("from pytorch_lightning.loops import _Loop", {"pytorch_lightning.loops._Loop"}),
        ("import hydra\nhydra._internal.x()", {"hydra._internal.x", "hydra._internal"}),
        ("from hydra import core as c\nc.x._y", {"c.x._y"}),
        ("from hydra import __version__\nhydra_.y", set()),
        ("from hydra.core import plugins\nself._plugins = plugins.x", set()),
    ],
)
def test_private_names_are_seen(tmp_path, code, names):
    (tmp_path / "code.py").write_text(code)
    assert {name for _, name in private_names(tmp_path / "code.py")} == names


def test_no_two_files_share_a_name():
    names = Counter(path.name for folder in (SOURCE, TESTS) for path in folder.rglob("*.py"))
    assert [name for name, count in names.items() if count > 1 and name != "__init__.py"] == []


def test_every_file_of_tests_is_of_a_file_or_folder_of_the_source():
    """tests/ mirrors src/: a folder's tests are in the folder of the same name; outside/ adds to the package."""
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    assert {str(folder) for folder in folders if not (SOURCE / folder).is_dir()} == {"outside"}
