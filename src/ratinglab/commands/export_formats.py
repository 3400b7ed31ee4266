"""Formats of an exported run. Each writer reads its files back and returns a function that predicts from them."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.commands.command_options import ExportFormat
from ratinglab.errors import UserError
from ratinglab.inference.run import Run
from ratinglab.models.predictor import Predictor
from ratinglab.sides import SideName

Arrays = dict[str, NDArray[np.float32]]


class WrittenExport(NamedTuple):
    """A written export.

    Attributes:
        file: name of the main file.
        inputs: names of the columns of a batch that it takes: user, item and, perhaps, day. Without day, a model with
            days predicts for each user's last day in training.
        facts: entries for export.json that describe the contents.
        usage: lines of Python that predict with the file, with FOLDER for the folder of the export.
        predict: function that predicts with the written file: maps the inputs, (B,) int32, to ratings, (B,) float32.
    """

    file: str
    inputs: tuple[str, ...]
    facts: dict[str, Any]
    usage: tuple[str, ...]
    predict: Callable[..., NDArray[np.float32]]


def write_torch(run: Run, folder: Path) -> WrittenExport:
    """Write model.pt2, a torch.export program, and the tables of ids."""
    path, inputs = folder / "model.pt2", _inputs(run)
    with _silence_exporters():
        packed = BytesIO()  # torch's own writing fails with a RuntimeError on a full disk
        torch.export.save(_trace(run, ExportFormat.torch), packed)
        path.write_bytes(packed.getbuffer())
        module = torch.export.load(path).module()
    write_ids(run, folder)
    usage = (
        "import torch",
        'predict = torch.export.load("FOLDER/model.pt2").module()',
        f"rating = predict({', '.join(['torch.tensor([0], dtype=torch.int32)'] * len(inputs))})",
    )

    def predict(*columns: NDArray[np.int32]) -> Any:
        return module(*map(torch.from_numpy, columns)).numpy()

    return WrittenExport(path.name, inputs, _describe_signature(inputs), usage, predict)


def write_onnx(run: Run, folder: Path) -> WrittenExport:
    """Write model.onnx and the tables of ids. Needs the packages of the extra `export`."""
    import onnxruntime

    path, inputs = folder / "model.onnx", _inputs(run)
    with _silence_exporters():
        program = _trace(run, ExportFormat.onnx)
        try:
            program = program.run_decompositions({torch.ops.aten.searchsorted.Tensor: search_left})
            converted = torch.onnx.export(program, dynamo=True, output_names=["rating"], verbose=False)
        except (torch.onnx.errors.OnnxExporterError, TypeError) as error:  # TypeError: a search with options
            raise _unsupported(run, ExportFormat.onnx, "ONNX cannot express", error) from error
        assert converted is not None, "torch.onnx.export returns the program unless it gets a path"
        converted.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    write_ids(run, folder)
    usage = (
        "import numpy as np, onnxruntime",
        'session = onnxruntime.InferenceSession("FOLDER/model.onnx")',
        "index = np.array([0], dtype=np.int32)",
        f"(rating,) = session.run(None, {{{', '.join(f'{name!r}: index' for name in inputs)}}})",
    )

    def predict(*columns: NDArray[np.int32]) -> Any:
        return session.run(None, dict(zip(inputs, columns, strict=True)))[0]

    return WrittenExport(path.name, inputs, _describe_signature(inputs), usage, predict)


def write_numpy(run: Run, folder: Path) -> WrittenExport:
    """Write model.npz, the factors and biases, and the tables of ids."""
    path = folder / "model.npz"
    arrays = _collect_arrays(run, ExportFormat.numpy)
    np.savez(path, allow_pickle=False, **arrays)
    write_ids(run, folder)
    usage = (
        "import numpy as np",
        'm = np.load("FOLDER/model.npz")',
        "user, item = np.array([0]), np.array([0])",
        'bias = m["mean"] + m["user_bias"][user] + m["item_bias"][item]',
        'rating = (bias + (m["user_factors"][user] * m["item_factors"][item]).sum(axis=1)).clip(*m["scale"])',
        '# index -1: m["baseline_mean"] + m["baseline_user_bias"][user] + m["baseline_item_bias"][item]',
    )
    facts = {"arrays": {name: {"dtype": str(array.dtype), "shape": array.shape} for name, array in arrays.items()}}
    with np.load(path) as file:
        return WrittenExport(path.name, ("user", "item"), facts, usage, _factor_predictor(dict(file)))


def write_parquet(run: Run, folder: Path) -> WrittenExport:
    """Write users.parquet and items.parquet, with an embedding and biases per row."""
    arrays = _collect_arrays(run, ExportFormat.parquet)
    write_ids(run, folder, users=_columns(arrays, "user"), items=_columns(arrays, "item"))
    facts = {name: float(arrays[name]) for name in ("mean", "baseline_mean")}
    usage: tuple[str, ...] = (
        "import pandas as pd",
        'user, item = (pd.read_parquet(f"FOLDER/{side}.parquet").iloc[0] for side in ("users", "items"))',
        f'rating = {facts["mean"]!r} + user["bias"] + item["bias"] + user["embedding"] @ item["embedding"]',
    )
    if np.isfinite(lowest := float(arrays["scale"][0])):
        usage = (*usage, f"rating = min(max(rating, {lowest!r}), {float(arrays['scale'][1])!r})")
    stored = {name: arrays[name] for name in ("mean", "baseline_mean", "scale")}
    for side in ("user", "item"):
        table = pyarrow.parquet.read_table(folder / f"{side}s.parquet")
        stored[f"{side}_factors"] = np.stack(table["embedding"].to_numpy())
        stored[f"{side}_bias"] = table["bias"].to_numpy()
        stored[f"baseline_{side}_bias"] = np.append(table["baseline_bias"].to_numpy(), np.float32(0))
    return WrittenExport("items.parquet", ("user", "item"), facts, usage, _factor_predictor(stored))


WRITERS: dict[ExportFormat, Callable[[Run, Path], WrittenExport]] = {
    ExportFormat.torch: write_torch,
    ExportFormat.onnx: write_onnx,
    ExportFormat.numpy: write_numpy,
    ExportFormat.parquet: write_parquet,
}


def write_ids(
    run: Run, folder: Path, *, users: dict[str, pa.Array] | None = None, items: dict[str, pa.Array] | None = None
) -> None:
    """Write users.parquet and items.parquet: the ids with training ratings in index order, titles, and further columns.

    `users` and `items` are the further columns, by name.
    """
    num_users, num_items = run.record.num_users, run.record.num_items
    titles = run.tables.titles
    title_column = {} if titles is None else {"title": pa.array(titles[:num_items], type=pa.string())}
    for name, columns in (
        ("users", {"user_id": pa.array(run.user_ids.ids[:num_users])} | (users or {})),
        ("items", {"item_id": pa.array(run.item_ids.ids[:num_items])} | title_column | (items or {})),
    ):
        pyarrow.parquet.write_table(pa.table(columns), folder / f"{name}.parquet")


def _trace(run: Run, export_format: ExportFormat) -> torch.export.ExportedProgram:
    """Trace the predictor, including cold start and clipping, for batches of any size."""
    predictor = run.predictor
    model = predictor.model.traceable()
    stars = predictor.stars
    traceable = Predictor(model, predictor.baseline, stars=stars, scale=predictor.scale).eval()
    traceable.requires_grad_(False)  # the program's users want ratings, not gradients
    # separate tensors: torch.export would merge two inputs that share a tensor
    example = tuple(torch.zeros(3, dtype=torch.int32) for _ in _inputs(run))
    batch = {0: torch.export.Dim("batch", min=1)}
    try:
        return torch.export.export(traceable, example, dynamic_shapes=(batch,) * len(example))
    except Exception as error:  # a user's equation can raise anything
        raise _unsupported(run, export_format, "torch.export cannot trace", error) from error


def _unsupported(run: Run, export_format: ExportFormat, problem: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:300]
    return UserError(f"format={export_format.name}: {problem} model={run.record.model}: {reason}")


def search_left(ordered: Tensor, values: Tensor) -> Tensor:
    """Compute torch.searchsorted, which ONNX does not have, by bisection: ordered (n,), values (B,) → (B,) int64."""
    count = torch.zeros_like(values)  # number of entries known to be below each value
    for bit in reversed(range(len(ordered).bit_length())):
        larger = count + (1 << bit)
        is_below = (larger <= len(ordered)) & (ordered[larger.clamp(max=len(ordered)) - 1] < values)
        count = torch.where(is_below, larger, count)
    return count


@contextmanager
def _silence_exporters() -> Iterator[None]:
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _inputs(run: Run) -> tuple[str, ...]:
    """Name the inputs of the whole model."""
    return ("user", "item", "day") if run.predictor.model.takes_day else ("user", "item")


def _describe_signature(inputs: Sequence[str]) -> dict[str, Any]:
    index = {"dtype": "int32", "shape": ["B"]}
    return {"inputs": dict.fromkeys(inputs, index), "outputs": {"rating": {"dtype": "float32", "shape": ["B"]}}}


def _collect_arrays(run: Run, export_format: ExportFormat) -> Arrays:
    """Collect the arrays of r̂ = clip(mean + user_bias + item_bias + user_factors · item_factors), in rating units.

    A pair with an unknown user or item gets baseline_mean + baseline_user_bias + baseline_item_bias. The last entry of
    the baseline's biases, 0, is for unknown ids. user_bias and item_bias are 0 for a model without biases. Without
    clipping, scale is ±∞.
    """
    factors = run.predictor.model.factors()
    baseline = run.predictor.baseline
    if factors is None:
        raise UserError(
            f"format={export_format.name} needs a model with factors, got model={run.record.model}: "
            "use format=torch or format=onnx"
        )
    sides, stars = (factors.user, factors.item), run.predictor.stars
    user_bias, item_bias = (torch.zeros(len(side.factors)) if side.bias is None else side.bias[:, 0] for side in sides)
    tensors = {
        "user_factors": factors.user.factors * stars.unit,
        "item_factors": factors.item.factors,
        "user_bias": user_bias * stars.unit,
        "item_bias": item_bias * stars.unit,
        "mean": torch.tensor(stars.to_rating(factors.mean)),
        "scale": torch.tensor(run.predictor.scale or (-torch.inf, torch.inf)),
        "baseline_user_bias": baseline.user_bias,
        "baseline_item_bias": baseline.item_bias,
        "baseline_mean": baseline.mean,
    }
    return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}


def _columns(arrays: Arrays, side: SideName) -> dict[str, pa.Array]:
    """Make the columns of users or items: biases, and embeddings as lists."""
    factors = np.ascontiguousarray(arrays[f"{side}_factors"])
    return {
        "bias": pa.array(arrays[f"{side}_bias"]),
        "baseline_bias": pa.array(arrays[f"baseline_{side}_bias"][:-1]),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(factors.ravel()), factors.shape[1]),
    }


def _factor_predictor(model: Arrays) -> Callable[..., NDArray[np.float32]]:
    """Return a function that predicts with numpy alone."""
    num_users, num_items = len(model["user_bias"]), len(model["item_bias"])

    def predict(user: NDArray[np.int32], item: NDArray[np.int32]) -> NDArray[np.float32]:
        user = np.where((user >= 0) & (user < num_users), user, num_users)
        item = np.where((item >= 0) & (item < num_items), item, num_items)
        is_known = (user < num_users) & (item < num_items)
        rating = model["baseline_mean"] + model["baseline_user_bias"][user] + model["baseline_item_bias"][item]
        user, item = user[is_known], item[is_known]
        rating[is_known] = model["mean"] + model["user_bias"][user] + model["item_bias"][item]
        rating[is_known] += (model["user_factors"][user] * model["item_factors"][item]).sum(axis=1)
        return np.clip(rating, *model["scale"])

    return predict
