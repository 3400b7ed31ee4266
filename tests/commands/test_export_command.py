"""Exports of runs: files that predict like the run, in a process without ratinglab."""

import json
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from equations import options_of
from run_folders import add_samples, write_run_of, write_weights
from tables import table_with_features
from torch import Tensor

from ratinglab.commands import export_command
from ratinglab.commands.command_options import ExportFormat, ExportOptions
from ratinglab.commands.export_command import export, measure_parity
from ratinglab.commands.export_formats import WRITERS, search_left
from ratinglab.errors import UserError
from ratinglab.inference.run import Run
from ratinglab.models.equation import Equation, TrainingData
from ratinglab.models.equation_options import EquationOptions
from ratinglab.models.posterior import Posterior
from ratinglab.options import check_options
from ratinglab.targets import target_class

LAB = REPOSITORY / "tests" / "outside" / "lab"
HAS_ONNX = find_spec("onnx") is not None and find_spec("onnxruntime") is not None
FEATURES = {"user_features": ["age", "group"], "item_features": ["genres"]}
MODELS = {
    "mean": ("mean", {}, {}),
    "bias": ("bias", {}, {}),
    "mf": ("mf", {}, {}),
    "nmf": ("nmf", {}, {"scale": (1.0, 5.0)}),
    "biased_mf": ("biased_mf", FEATURES, {}),
    "svdpp": ("svdpp", FEATURES, {"scale": (1.0, 5.0)}),
    "timesvdpp": ("timesvdpp", FEATURES, {}),
    "mf, Gibbs": ("mf", {}, {"is_sampled": True}),
    "biased_mf, Gibbs": ("biased_mf", FEATURES, {"is_sampled": True, "scale": (1.0, 5.0)}),
    "svdpp, Gibbs": ("svdpp", {}, {"is_sampled": True}),
    "timesvdpp, Gibbs": ("timesvdpp", FEATURES, {"is_sampled": True}),
}
PROGRAMS = [ExportFormat.torch, *([ExportFormat.onnx] if HAS_ONNX else [])]
ALONE = {
    "torch": """
import numpy as np, torch
module = torch.export.load(folder + "/model.pt2").module()
predict = lambda *columns: module(*map(torch.from_numpy, columns)).numpy()
""",
    "onnx": """
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(folder + "/model.onnx")
names = [each.name for each in session.get_inputs()]
predict = lambda *columns: session.run(None, dict(zip(names, columns)))[0]
""",
}
"""Code that loads an export as `predict`."""
QUICK = ("mf", "timesvdpp, Gibbs")
CASES = [
    *(pytest.param(case, ExportFormat.torch, marks=[] if case in QUICK else pytest.mark.slow) for case in MODELS),
    *(pytest.param("timesvdpp, Gibbs", ExportFormat.onnx, marks=pytest.mark.slow) for _ in range(HAS_ONNX)),
]
"""Each model as a torch.export program, and one as ONNX, which takes seconds."""


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Return a function that writes and loads the run of a case, with random weights, once per case."""
    folder, runs = tmp_path_factory.mktemp("runs"), {}

    def load(case: str) -> Run:
        if case not in runs:
            name, options, changed = MODELS[case]
            changed = {"scale": None, **changed}
            predictor = write_run_of(folder / case, options_of(name, **options), table_with_features(), **changed)
            random = torch.Generator().manual_seed(2)
            for bias in (predictor.baseline.user_bias[:-1], predictor.baseline.item_bias[:-1], predictor.baseline.mean):
                bias.normal_(generator=random)
            if isinstance(predictor.model, Posterior):
                add_samples(predictor.model, random)
            write_weights(folder / case, {f"predictor.{key}": each for key, each in predictor.state_dict().items()})
            runs[case] = Run.load(folder / case)
        return runs[case]

    return load


@dataclass
class BranchingOptions(EquationOptions):
    """Options of an equation that torch.export cannot trace: none."""

    name = "branching"

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "Branching":
        return Branching()


class Branching(Equation):
    """An equation that branches on values."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return user.float() if bool(item.sum() > 3) else item.float()


def exported(run: Run, format: ExportFormat, output: Path) -> Path:
    export(ExportOptions(run=str(run.folder), format=format, output=str(output)))
    return output


@pytest.mark.parametrize(("case", "format"), CASES, ids=lambda each: getattr(each, "name", each))
def test_program_predicts_like_the_run_for_batches_of_any_size(run_of, tmp_path, case, format):
    run = run_of(case)
    written = WRITERS[format](run, tmp_path)
    assert ("day" in written.inputs) == ("timesvdpp" in case)
    user, item = torch.arange(-2, 32).repeat_interleave(24).int(), torch.arange(-2, 22).repeat(34).int()
    day = (user * 7 + item * 5) % 9 - 3  # between, before and after the three days of the table
    columns = (user, item, day)[: len(written.inputs)]
    expected = run.predictor(*columns).detach().numpy()
    assert len(np.unique(expected)) > 50
    assert written.predict(*(each.numpy() for each in columns)) == pytest.approx(expected, abs=1e-5)
    for row in (0, 400):
        one = written.predict(*(each[row : row + 1].numpy() for each in columns))
        assert (one.dtype, one.tolist()) == (np.float32, pytest.approx(expected[row : row + 1], abs=1e-5))


@pytest.mark.parametrize("case", ["mf", "nmf", "svdpp", "timesvdpp", "biased_mf, Gibbs"])
@pytest.mark.parametrize("format", [ExportFormat.numpy, ExportFormat.parquet], ids=lambda format: format.name)
def test_factors_predict_like_the_run_on_the_last_day(run_of, tmp_path, case, format):
    run = run_of(case)
    parity = measure_parity(run, WRITERS[format](run, tmp_path))
    assert (parity.part, parity.cold_pairs) == ("test", 15)
    assert parity.largest_difference < 1e-5
    items = pd.read_parquet(tmp_path / "items.parquet")
    assert (items["item_id"].tolist(), set(items["title"])) == (run.item_ids.ids[: len(items)].tolist(), {"title"})
    if format is ExportFormat.parquet:
        assert items["embedding"][0].dtype == np.float32
        assert items["embedding"][1].tolist() == run.predictor.model.factors().item.factors[1].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("format", PROGRAMS, ids=lambda format: format.name)
def test_program_and_its_ids_predict_without_ratinglab(run_of, tmp_path, format):
    run = run_of("timesvdpp")
    folder = exported(run, format, tmp_path / "exported")
    user_id, item_id = int(run.user_ids.ids[3]), int(run.item_ids.ids[4])
    script = f"""
import sys
sys.modules["ratinglab"] = None  # importing it fails
folder = {str(folder)!r}
{ALONE[format.name]}
import json, pandas as pd
description = json.load(open(folder + "/export.json"))
user = pd.Index(pd.read_parquet(folder + "/users.parquet")["user_id"]).get_indexer([{user_id}, 999]).astype(np.int32)
item = pd.Index(pd.read_parquet(folder + "/items.parquet")["item_id"]).get_indexer([{item_id}] * 2).astype(np.int32)
last_day = np.full(2, 2147483647, dtype=np.int32)
rating = predict(*(user, item, last_day)[:len(description["inputs"])])
assert not any(name.startswith("ratinglab.") for name in sys.modules)
print(json.dumps(rating.tolist()))
"""
    # -I: no PYTHONPATH and no folder of the script
    found = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == pytest.approx(run.predict([user_id, 999], [item_id] * 2), abs=1e-5)


def test_export_json_describes_the_program_and_its_parity(run_of, tmp_path, capsys):
    run = run_of("timesvdpp")
    folder = exported(run, ExportFormat.torch, tmp_path / "exported")
    described = json.loads((folder / "export.json").read_text())
    assert list(described["inputs"]) == ["user", "item", "day"]
    assert described["inputs"]["day"] == {"dtype": "int32", "shape": ["B"]}
    assert (described["num_users"], described["scale"]) == (run.record.num_users, None)
    assert described["parity"]["rows"] == len(run.part("test"))
    assert described["parity"]["largest_difference"] < 1e-5
    assert described["run"]["provenance"] == run.record.provenance
    assert described["versions"]["torch"] == version("torch")
    assert sorted(path.name for path in folder.iterdir()) == [
        "export.json", "items.parquet", "model.pt2", "users.parquet",
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert f"folder     {folder}" in printed
    assert "day        days since 1970-01-01; 2147483647: each user's last day" in printed


def assert_first_pair_is_predicted(run: Run, usage: str) -> None:
    """Execute lines that predict the rating of the first user and the first item."""
    namespace: dict[str, object] = {}
    exec(usage, namespace)
    expected = run.predict(run.user_ids.ids[:1], run.item_ids.ids[:1])
    assert np.ravel(namespace["rating"]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("format", [*ExportFormat], ids=lambda format: format.name)
def test_printed_lines_run_and_predict(run_of, tmp_path, capsys, format):
    if format is ExportFormat.onnx and not HAS_ONNX:
        pytest.skip("needs the extra `export`")
    run = run_of("svdpp")
    exported(run, format, tmp_path / "exported")
    assert_first_pair_is_predicted(run, capsys.readouterr().out.partition("\n\n")[2])


def test_lines_in_export_json_predict_in_its_folder(run_of, tmp_path, monkeypatch):
    run = run_of("svdpp")
    for format in (ExportFormat.numpy, ExportFormat.parquet):
        folder = exported(run, format, tmp_path / format.name)
        monkeypatch.chdir(folder)
        assert_first_pair_is_predicted(run, "\n".join(json.loads((folder / "export.json").read_text())["usage"]))


def test_output_is_beside_the_run_by_default_and_an_empty_folder_is_filled(run_of, tmp_path, monkeypatch):
    run = run_of("mf")
    (tmp_path / "run").symlink_to(run.folder)
    export(ExportOptions(run=str(tmp_path / "run"), format=ExportFormat.numpy, output=None))
    beside = run.folder.with_name("mf-numpy")
    assert (beside / "model.npz").is_file()
    with pytest.raises(UserError, match=r"output must be a new or empty folder, got .*mf-numpy"):
        export(ExportOptions(run=str(run.folder), format=ExportFormat.numpy, output=None))
    (tmp_path / "empty").mkdir()
    assert (exported(run, ExportFormat.numpy, tmp_path / "empty") / "export.json").is_file()


@pytest.mark.parametrize(
    ("case", "format", "output", "message"),
    [
        ("mf", "torch", "none/x", "output: there is no folder .*none"),
        ("mf", "torch", ".", "output must be a new or empty folder, got"),
        ("mf", "torch", "file", "output must be a new or empty folder, got"),
        (
            "bias",
            "numpy",
            "x",
            r"format=numpy needs a model with factors, got model=bias: use format=torch or format=o",
        ),
        ("mean", "parquet", "x", "format=parquet needs a model with factors, got model=mean"),
    ],
)
def test_mistake_leaves_no_files(run_of, tmp_path, case, format, output, message):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=message):
        exported(run_of(case), ExportFormat[format], tmp_path / output)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
@pytest.mark.parametrize("format", PROGRAMS, ids=lambda format: format.name)
def test_equation_that_cannot_be_traced_is_refused_in_one_line(tmp_path, format):
    write_run_of(tmp_path / "run", BranchingOptions(), table_with_features())
    with pytest.raises(
        UserError, match=f"format={format.name}: torch.export cannot trace model=branching: "
    ) as refused:
        exported(Run.load(tmp_path / "run"), format, tmp_path / "exported")
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["autorec.AutoRec", "weekday_mf.WeekdayMF"])
def test_own_equation_is_exported(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(LAB)
    options = target_class(f"{name}Options", base=EquationOptions, key="model")
    values = {"hidden_dim": 3, "embedding_dim": 2, "regularization": 0.1, "init_std": 0.1}
    own = options(**{field.name: values[field.name] for field in fields(options)})
    write_run_of(tmp_path / "run", own, table_with_features())
    export(ExportOptions(run=str(tmp_path / "run"), format=ExportFormat.torch, output=None))
    described = json.loads((tmp_path / "run-torch" / "export.json").read_text())
    assert described["parity"]["largest_difference"] < 1e-5
    assert list(described["inputs"])[2:] == (["day"] if own.needs().days else [])


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_search_left_equals_searchsorted(count):
    ordered, values = 2 * torch.arange(count), torch.arange(-1, 2 * count + 1)
    assert torch.equal(search_left(ordered, values), torch.searchsorted(ordered, values))


def test_output_inside_a_run_is_refused(run_of):
    with pytest.raises(UserError, match="output must not be inside the folder of a run"):
        exported(run_of("mf"), ExportFormat.torch, run_of("mf").folder / "x")


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_export_with_other_predictions_fails_and_leaves_no_files(run_of, tmp_path, monkeypatch, wrong):
    def write(run: Run, folder: Path):
        right = WRITERS[ExportFormat.numpy](run, folder)
        return right._replace(predict=lambda *columns: right.predict(*columns) + np.float32(wrong))

    monkeypatch.setattr(export_command, "WRITERS", {ExportFormat.numpy: write})
    with pytest.raises(
        UserError, match=r"predictions differ from the run's by up to (1.0e-02|nan); at most 1.0e-04 is"
    ):
        exported(run_of("svdpp"), ExportFormat.numpy, tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


def test_parity_of_many_rows_compares_every_nth(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr(export_command, "MAX_ROWS_COMPARED", 10)
    run = run_of("svdpp")
    step = -(-len(run.part("test")) // 10)
    parity = measure_parity(run, WRITERS[ExportFormat.numpy](run, tmp_path))
    assert parity.rows == -(-len(run.part("test")) // step) <= 10


@pytest.mark.parametrize(("largest", "allowed"), [(5.0, 1e-4), (5000.0, 0.05)])
def test_parity_is_relative_to_predictions_above_10(run_of, tmp_path, monkeypatch, largest, allowed):
    """float32 has 7 digits."""
    run = run_of("mf")
    monkeypatch.setattr(run.predictor, "forward", lambda user, item: torch.full(user.shape, largest))
    written = WRITERS[ExportFormat.numpy](run, tmp_path)
    parity = measure_parity(run, written._replace(predict=lambda user, item: np.full(user.shape, largest)))
    assert (parity.largest_difference, parity.largest_allowed) == (0, pytest.approx(allowed))


def test_missing_packages_of_onnx_are_named(monkeypatch):
    monkeypatch.setattr("ratinglab.errors.find_spec", lambda name: name == "onnx" or None)
    options = ExportOptions(run="x", format=ExportFormat.onnx, output=None)
    with pytest.raises(
        UserError, match=r"^format=onnx needs onnxscript, onnxruntime: pip install 'ratinglab\[export\]'$"
    ):
        check_options(options)
    check_options(replace(options, format=ExportFormat.torch))
