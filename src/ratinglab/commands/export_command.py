"""Export a run to files that predict without ratinglab, and compare their predictions with the run's."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ratinglab.batches import Batch, as_tensors
from ratinglab.commands.command_inputs import check_output_folder, load_run, print_notes
from ratinglab.commands.command_options import ONNX_PACKAGES, ExportFormat, ExportOptions
from ratinglab.commands.export_formats import WRITERS, WrittenExport
from ratinglab.errors import UserError, format_count
from ratinglab.files import atomic_folder, to_json, write_bytes
from ratinglab.inference.run import Run

TOLERANCE, RELATIVE_TOLERANCE = 1e-4, 1e-5
"""Largest allowed difference from the run's predictions: in rating units, or relative to the largest prediction."""
MAX_ROWS_COMPARED, BLOCK_ROWS = 100_000, 1_000
"""Largest number of rows whose predictions are compared, and number of rows predicted at once."""
MAX_INT32 = np.iinfo(np.int32).max
"""Largest index that an export accepts. No user or item has it."""


class Parity(NamedTuple):
    """Comparison of an export's predictions with the run's, on the rows of a part and on pairs with an unknown id.

    Both differences are absolute, in rating units.
    """

    part: str
    rows: int
    cold_pairs: int
    largest_difference: float
    largest_allowed: float


def export(options: ExportOptions) -> None:
    """Write a run to a folder, in a format that works without ratinglab.

    Raises:
        UserError: the folder has files, the format does not suit the model, or the predictions differ from the run's.
    """
    output = None if options.output is None else check_output_folder(options.output, key="output")
    run, notes = load_run(options.run)
    run.record.check_predicts_ratings()
    if output is None:
        folder = run.folder.resolve()
        output = check_output_folder(os.path.relpath(f"{folder}-{options.format.name}"), key="output")
    with atomic_folder(output, key="output") as folder:
        written = WRITERS[options.format](run, folder)
        parity = measure_parity(run, written)
        if not parity.largest_difference <= parity.largest_allowed:  # not `>`, which NaN would pass
            raise UserError(
                f"format={options.format.name}: predictions differ from the run's by up to "
                f"{parity.largest_difference:.1e}; at most {parity.largest_allowed:.1e} is allowed"
            )
        described = _describe(run, options.format, written, parity)
        write_bytes(folder / "export.json", to_json(described))
        size = sum(path.stat().st_size for path in folder.iterdir())
    print_notes(None, *notes)
    _print_summary(described, output, parity, written.usage, size=size)


def measure_parity(run: Run, written: WrittenExport) -> Parity:
    """Compare an export with its run on test rows (if none, validation or training rows) and on cold pairs.

    With more than MAX_ROWS_COMPARED rows, compares every n-th row.
    """
    part = next((name for name in ("test", "val") if len(run.part(name)) > 0), "train")
    rows = run.part(part)
    step = -(-len(rows) // MAX_ROWS_COMPARED)
    rows = rows.take(np.arange(len(rows)) % step == 0)
    cold = _make_cold_pairs(run)
    differences, magnitudes = [], []
    for batch in (cold, *cold.split(1), *as_tensors(rows).split(BLOCK_ROWS)):
        columns = [getattr(batch, name) for name in written.inputs]
        with torch.inference_mode():
            expected = run.predictor(*columns).numpy()
        differences.append(np.abs(written.predict(*(column.numpy() for column in columns)) - expected).max())
        magnitudes.append(np.abs(expected).max())
    allowed = max(TOLERANCE, RELATIVE_TOLERANCE * float(np.max(magnitudes)))
    return Parity(part, len(rows), len(cold.user), float(np.max(differences)), allowed)


def _make_cold_pairs(run: Run) -> Batch:
    """Make pairs of an unknown user, an unknown item or both. Unknown indices are −1 or beyond the last index."""
    user, item = (
        torch.tensor([0, -1, count, MAX_INT32], dtype=torch.int32)
        for count in (run.record.num_users, run.record.num_items)
    )
    user, item = torch.cartesian_prod(user, item)[1:].T.contiguous()  # the first pair is known
    return Batch(user, item, rating=torch.zeros(len(user)), day=torch.zeros_like(user))


def _describe(run: Run, export_format: ExportFormat, written: WrittenExport, parity: Parity) -> dict[str, Any]:
    """Describe an export for export.json."""
    record = run.record
    day = {"day": "days since 1970-01-01; 2147483647: each user's last day in training"}
    no_day = {"day": "not an input: this format predicts for each user's last day in training"}
    packages = ["ratinglab", "torch", "numpy", "pyarrow"]
    packages += ONNX_PACKAGES if export_format is ExportFormat.onnx else []
    return {
        "format": export_format.name,
        "file": written.file,
        **written.facts,
        "index": "row number in users.parquet or items.parquet; -1 for any other id, predicted by the bias baseline",
        **({} if not run.predictor.model.takes_day else day if "day" in written.inputs else no_day),
        "scale": record.scale,
        "num_users": record.num_users,
        "num_items": record.num_items,
        "usage": [line.replace("FOLDER/", "") for line in written.usage],  # lines to run in the folder of the export
        "parity": parity._asdict(),
        "versions": {name: version(name) for name in packages},
        "run": {
            "folder": str(run.folder),
            "model": record.model,
            "model_options": record.model_options,
            "best_epoch": run.best_epoch,
            "provenance": record.provenance,
        },
    }


def _print_summary(described: dict[str, Any], output: Path, parity: Parity, usage: Sequence[str], *, size: int) -> None:
    """Print the main entries of export.json, and how to use the export from the current folder."""
    counts = f"{format_count(described['num_users'], 'user')}, {format_count(described['num_items'], 'item')}"
    print(f"exported   {described['run']['model']}, {counts}: format={described['format']}")
    print(f"folder     {output} ({size / 1e6:.1f} MB)")
    print(f"index      {described['index']}")
    print(
        f"parity     at most {parity.largest_difference:.1e} from the run's predictions of {parity.rows:,} "
        f"{parity.part} rows and {parity.cold_pairs} cold pairs"
    )
    if "day" in described:
        print(f"day        {described['day']}")
    print("", *(line.replace("FOLDER", str(output)) for line in usage), sep="\n")
