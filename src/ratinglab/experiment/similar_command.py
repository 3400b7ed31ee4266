"""List the items most similar to one item."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from ratinglab.experiment.command_options import SimilarOptions
from ratinglab.files import is_stream, output_path, print_beside
from ratinglab.formats.writing import check_name, write_table
from ratinglab.reports.named_runs import named_run
from ratinglab.reports.text_table import aligned
from ratinglab.runs.run import Run


def find_similar(options: SimilarOptions) -> None:
    """Print the items most similar to an item, and write them to a file if asked to."""
    output = None
    if options.output is not None:
        output = output_path(options.output, key="output")
        check_name(output, key="output")
    named = named_run(options.run)
    run = Run.load(named.folder)
    run.model.check_length(options.k)
    tables = run.model.tables
    candidates = tables.items_of(options.genres, column=options.columns.genres) if options.genres else None
    found = run.similar(options.item, k=options.k, candidates=candidates)
    (item,) = tables.item_names.find([options.item], place=lambda _: "item").tolist()
    name = tables.item_names.name_of(item)
    if output is not None:
        _write(output, found)
        print_beside(output, f"{len(found):,} items similar to {name} in {output}")
    if named.remark is not None:
        print_beside(output, named.remark)
    if output is not None and is_stream(output):
        return
    print(f"similar to {name}, which has {tables.train_counts[1][item]:,} training ratings")
    _print(found)
    if len(found) < options.k:
        print(f"note: only {len(found)} of {options.k}: no other candidates are left")


def _write(output: Path, found: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(found, preserve_index=False)
    write_table(output, table.schema, iter([table]))


def _print(found: pd.DataFrame) -> None:
    shown = found.assign(similarity=found["similarity"].map("{:.2f}".format))
    if "standard_deviation" in found:
        shown["similarity"] += found["standard_deviation"].map(" ± {:.2f}".format)
        del shown["standard_deviation"]
    print(*aligned([list(shown.columns), *shown.astype(str).to_numpy().tolist()]), sep="\n")
