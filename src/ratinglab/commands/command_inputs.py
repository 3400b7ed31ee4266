"""The run and the files that a command's options name."""

import os
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from ratinglab.commands.command_options import FoldInOptions, PredictOptions, RatingColumnOptions, RecommendOptions
from ratinglab.errors import UserError
from ratinglab.files import is_stream, user_path
from ratinglab.formats.inputs import InputFile, find_file
from ratinglab.formats.literals import is_inline_mapping, parse_inline_mapping
from ratinglab.formats.text_options import TextOptions
from ratinglab.formats.text_tables import OpenTable, TextTable, open_text_table, with_separator_of
from ratinglab.formats.writing import check_output_format
from ratinglab.inference.fold_in_input import (
    DEFAULT_COLUMNS,
    Pairs,
    choose_column_names,
    has_user_column,
    read_given_data,
)
from ratinglab.inference.folded_in import FoldedIn
from ratinglab.inference.run import Run
from ratinglab.runs.finished_runs import find_named_run
from ratinglab.runs.record import RunRecord
from ratinglab.runs.run_files import RUN_RECORD


def load_run(text: str) -> tuple[Run, list[str]]:
    """Load the run that the option `run` names. Also returns a note that names its folder, if the option does not."""
    folder, notes = find_named_run(text)
    return Run.load(folder), notes


def check_output_path(text: str, *, key: str, inputs: Iterable[Path] = ()) -> Path:
    """Check the path of an output file. It must not be one of the `inputs`.

    Raises:
        UserError: the folder is missing, or the path is a folder, an input, or inside a run's folder.
    """
    path = _output_path(text, key=key)
    if path.is_dir() or text.endswith(("/", os.sep)):
        raise UserError(f"{key} must be a file, got the folder {text}")
    for other in inputs:
        if path.exists() and path.samefile(other):
            raise UserError(f"{key} must differ from the input file, got {text}")
    return path


def check_output_folder(text: str, *, key: str) -> Path:
    """Check the path of an output folder. It must be new or empty.

    Raises:
        UserError: the folder above is missing, or the path is a file, a folder with files, or inside a run's folder.
    """
    path = _output_path(text, key=key)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{key} must be a new or empty folder, got {text}")
    return path


def _output_path(text: str, *, key: str) -> Path:
    """Parse the path of an output. The folder above it must exist, and must not be a run's folder or inside one."""
    path = user_path(text, key=key)
    if not path.parent.is_dir():
        raise UserError(f"{key}: there is no folder {path.parent}")
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # links that form a loop
        raise UserError(f"{key}: {path} cannot be resolved: {error}") from error
    for folder in resolved.parents:
        if (folder / RUN_RECORD).is_file():
            raise UserError(f"{key} must not be inside the folder of a run, got {path}")
    return path


def check_table_path(text: str, *, inputs: Iterable[Path] = ()) -> Path:
    """Check the path and the format of the table to write, which must not replace an input."""
    path = check_output_path(text, key="output", inputs=inputs)
    check_output_format(path)
    return path


def open_table(options: TextOptions, file: InputFile) -> OpenTable:
    """Open a table, with the separator that `with_separator_of` finds."""
    return open_text_table(file, with_separator_of(file, options.dialect("")))


def read_table(options: TextOptions, name: str, *, key: str) -> TextTable:
    """Read the table in the file that `key` names."""
    return open_table(options, find_file(name, key=key)).read()


def columns_in(names: Collection[str], columns: RatingColumnOptions, record: RunRecord) -> dict[str, str]:
    """Choose each role's column from a file's column names: the one in the options, or else the default."""
    return choose_column_names(names, requested=_by_role(columns), run_columns=record.provenance["columns"])


def _by_role(columns: RatingColumnOptions) -> dict[str, str | None]:
    return {role: getattr(columns, role) for role in DEFAULT_COLUMNS}


def fold_in_files(options: FoldInOptions) -> list[Path]:
    """List the files of ratings and features, which an output must not replace."""
    values = {key: getattr(options, key) for key in ("ratings", "user_features", "item_features")}
    return [
        find_file(value, key=key).path
        for key, value in values.items()
        if value is not None and value.strip() and not is_inline_mapping(value)
    ]


def fold_in_from_options(
    run: Run, options: RecommendOptions | PredictOptions, *, user_id: str | None
) -> tuple[FoldedIn | None, list[str]]:
    """Fold the ratings and features that the options name, if any, into a run. Also returns notes on them.

    `user_id` is the id of the user if the ratings name no users. None means a new user.
    """
    if not options.folds_in:
        return None, []
    ratings = _pairs_or_table(options, options.ratings, key="ratings")
    users = _pairs_or_table(options, options.user_features, key="user_features")
    items = _table(options, options.item_features, key="item_features")
    if isinstance(ratings, TextTable):
        rating_columns = columns_in(ratings.names, options.columns, run.record)
        user_id = None if has_user_column(ratings.names, rating_columns) else user_id
    given = read_given_data(
        run.tables,
        ratings=ratings,
        users=users,
        items=items,
        user_id=user_id,
        columns=_by_role(options.columns),
        keys=("user_features", "item_features"),
    )
    folded = FoldedIn(run, given)
    tables = [table for table in (ratings, users, items) if isinstance(table, TextTable)]
    return folded, [*(note for table in tables for note in table.opened_from.notes), *folded.notes]


def _pairs_or_table(options: FoldInOptions, value: str | None, *, key: str) -> Pairs | TextTable | None:
    if value is not None and is_inline_mapping(value):
        return parse_inline_mapping(value, key=key)
    return _table(options, value, key=key)


def _table(options: FoldInOptions, name: str | None, *, key: str) -> TextTable | None:
    if name is not None and not name.strip():
        raise UserError(f"{key} must be a file or a mapping, got {name!r}")
    return None if name is None else read_table(options, name, key=key)


def print_notes(output: Path | None, *lines: str) -> None:
    """Print lines about an output file, on stderr if the file may be stdout. `output` is None without a file."""
    for line in lines:
        print(line, file=sys.stderr if output is not None and is_stream(output) else sys.stdout)


def note_on_length(length: int, *, requested: int) -> str:
    """Say why a list is shorter than requested."""
    return f"note: only {length} of the {requested} requested items: no more candidates"
