"""The house: a file imports only files of lower floors, and no package that its floor does not know."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ratinglab"

FLOORS = [
    ["__init__", "errors"],
    ["options", "files"],
    ["ratings"],
    ["datamodule"],
    ["metrics"],
    ["models"],
    ["fitting"],
    ["evaluation"],
    ["recommend"],
    ["runs"],
    ["experiment"],
    ["startup"],
    ["config"],
]
"""From the ground up. A folder's files may import one another, in no circle."""

ONLY_ON = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "pytorch_lightning": {"datamodule", "fitting", "experiment"},
    "torch": {"datamodule", "metrics", "models", "fitting", "recommend", "runs", "experiment"},
    "pandas": {"ratings", "runs", "experiment"},
    "pyarrow": {"ratings"},
    "numba": {"ratings", "fitting", "recommend"},
    "matplotlib": {"evaluation", "fitting"},
}
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
