"""Layers: a file imports only files of lower layers, and only the packages that its layer may use."""

import ast
import functools
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "ratinglab"

LAYERS = [
    ["errors", "sides"],
    ["process"],
    ["options", "files", "targets"],
    ["formats", "stars"],
    ["ratings"],
    ["reading", "splits"],
    ["datasets"],
    ["kernels"],
    ["batches"],
    ["datamodule"],
    ["evaluation"],
    ["models"],
    ["recommend", "runs"],
    ["inference"],
    ["fitting"],
    ["reports"],
    ["training", "commands"],
    ["serving"],
    ["config", "python_calls"],
    ["cli", "api"],
    ["__init__"],
    ["__main__"],
]
"""Layers, lowest first. Files of a folder and its subfolders may import one another, without cycles."""

OF_TABLES = {"formats", "ratings", "reading", "datasets"}
ONLY_ON = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "pytorch_lightning": {"datamodule", "fitting", "training", "python_calls"},
    "lightning_fabric": {"fitting"},
    "torch": {
        "batches",
        "stars",
        "datamodule",
        "evaluation",
        "models",
        "fitting",
        "recommend",
        "runs",
        "inference",
        "training",
        "commands",
        "python_calls",
    },
    "pandas": {
        "formats",
        "ratings",
        "reading",
        "datasets",
        "runs",
        "inference",
        "fitting",
        "reports",
        "training",
        "commands",
        "serving",
        "api",
    },
    "pyarrow": OF_TABLES | {"fitting", "commands"},
    "numba": {"kernels", "python_calls"},
    "matplotlib": {"evaluation", "fitting", "reports"},
    "optuna": set(),
    "pyspark": {"fitting"},
    "anyio": {"serving"},
    "fastapi": {"serving"},
    "pydantic": {"serving"},
    "pydantic_core": {"serving"},
    "starlette": {"serving"},
    "uvicorn": {"serving"},
}
MAY_USE_PRIVATE_NAMES = {"hydra": "config/hydra_api.py", "pytorch_lightning": None, "lightning_fabric": None}
"""The one file, if any, that may use a package's private names, which can change in any release."""
FILES = sorted(SOURCE.rglob("*.py"))


def place(path: Path) -> str:
    """Find the file or folder directly in ratinglab/ to which a file belongs."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def layer(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


@functools.cache
def imports(path: Path, *, at_run_time: bool = False) -> list[str]:
    """List the modules that a file imports; `at_run_time` leaves out those that only type checkers import."""
    modules = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if at_run_time:
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and is_type_checking(node))]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            root, *folders = node.module.split(".")
            is_folder = root == "ratinglab" and folders and SOURCE.joinpath(*folders).is_dir()
            modules += [f"{node.module}.{alias.name}" for alias in node.names] if is_folder else [node.module]
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return modules


def is_type_checking(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def own_imports(path: Path, *, at_run_time: bool = False) -> set[Path]:
    """Find the files of ratinglab that a file imports."""
    names = imports(path, at_run_time=at_run_time)
    modules = [name.split(".")[1:] for name in names if name.split(".")[0] == "ratinglab"]
    return {SOURCE.joinpath(*parts).with_suffix(".py") if parts else SOURCE / "__init__.py" for parts in modules}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_import_only_lower_layers(path):
    for imported in own_imports(path):
        assert imported.exists(), f"{imported} is imported whole, not one of its files"
        if place(imported) != place(path):
            assert layer(place(imported)) < layer(place(path)), f"{imported} is not below {path}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_layers_import_only_the_packages_they_may_use(path):
    for name in imports(path):
        package = name.split(".")[0]
        assert package not in ONLY_ON or place(path) in ONLY_ON[package], f"{path} imports {package}"


def test_imports_at_run_time_have_no_cycles():
    reached: dict[Path, set[Path]] = {path: own_imports(path, at_run_time=True) for path in FILES}
    for _ in range(len(FILES).bit_length()):  # each time, paths of twice the length
        reached = {path: below.union(*(reached[other] for other in below)) for path, below in reached.items()}
    assert [path for path in FILES if path in reached[path]] == []


def private_names(path: Path) -> set[tuple[str, str]]:
    """Find the private names that a file imports or accesses, as pairs of package and name."""
    tree, bound, uses = ast.parse(path.read_text(encoding="utf-8")), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            uses |= {(node.module, f"{node.module}.{alias.name}") for alias in node.names}
            bound |= {alias.asname or alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Import):
            uses |= {(alias.name, alias.name) for alias in node.names}
            bound |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
    for node in ast.walk(tree):
        names, inner = [], node
        while isinstance(inner, ast.Attribute):
            names, inner = [inner.attr, *names], inner.value
        if names and isinstance(inner, ast.Name) and inner.id in bound:
            uses.add((bound[inner.id], ".".join([inner.id, *names])))
    return {(module.split(".")[0], name) for module, name in uses if any(map(is_private, name.split(".")))}


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
def test_private_names_finds_every_use(tmp_path, code, names):
    (tmp_path / "code.py").write_text(code)
    assert {name for _, name in private_names(tmp_path / "code.py")} == names


def test_file_names_are_unique():
    names = Counter(path.name for folder in (SOURCE, TESTS) for path in folder.rglob("*.py"))
    assert [name for name, count in names.items() if count > 1 and name != "__init__.py"] == []


def test_folders_of_tests_mirror_those_of_the_source():
    """outside/ is the exception: it extends the package."""
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    assert {str(folder) for folder in folders if not (SOURCE / folder).is_dir()} == {"outside"}
