"""The run and the files that a command's options name."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ratinglab.commands.command_options import FoldInOptions, RatingColumns
from ratinglab.errors import UserError
from ratinglab.files import is_stream, user_path
from ratinglab.formats.inputs import InputFile, find_file
from ratinglab.formats.literals import is_inline_mapping, parse_inline_mapping
from ratinglab.formats.text_options import TextOptions
from ratinglab.formats.text_tables import OpenTable, TextTable, open_text_table, with_separator_of
from ratinglab.formats.writing import check_output_format
from ratinglab.inference.fold_in_input import Pairs, read_given_data
from ratinglab.inference.folded_in import FoldedIn
from ratinglab.inference.run import Run
from ratinglab.runs.finished_runs import find_named_run
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
        UserError: the folder above is missing, or the path is `-`, a file, a folder with files, or inside a run's
            folder.
    """
    path = _output_path(text, key=key)
    if text == "-" or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
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
    """Check the path and the format of the table to write, which must not replace an input.

    Raises:
        UserError: the path is `-`, or wrong as `check_output_path` describes, or means a format that cannot be written.
    """
    if text == "-":
        raise UserError("output must be a file, got -; for the standard output, set output=/dev/stdout")
    path = check_output_path(text, key="output", inputs=inputs)
    check_output_format(path)
    return path


def open_table(options: TextOptions, file: InputFile) -> OpenTable:
    """Open a table, with the separator that `with_separator_of` finds."""
    return open_text_table(file, with_separator_of(file, options.dialect()))


def read_table(options: TextOptions, name: str, *, key: str) -> TextTable:
    """Read the table in the file that `key` names."""
    return open_table(options, find_file(name, key=key)).read()


def read_fold_in(options: FoldInOptions) -> dict[str, Pairs | TextTable]:
    """Read the ratings and features to fold in, by key: pairs of a single user, or a table. Leaves out null."""
    given: dict[str, Pairs | TextTable] = {}
    for key in ("ratings", "user_features", "item_features"):
        value = getattr(options, key)
        if value is not None and not value.strip():
            raise UserError(f"{key} must be a file or a mapping, got {value!r}")
        if value is not None and is_inline_mapping(value) and key != "item_features":
            given[key] = parse_inline_mapping(value, key=key)
        elif value is not None:
            given[key] = read_table(options, value, key=key)
    return given


def paths_of(tables: Mapping[str, Pairs | TextTable]) -> list[Path]:
    """List the files of tables, which an output must not replace."""
    return [table.opened_from.file.path for table in tables.values() if isinstance(table, TextTable)]


def fold_in(
    run: Run, given: Mapping[str, Pairs | TextTable], columns: RatingColumns, *, user_id: str | None
) -> tuple[FoldedIn | None, list[str]]:
    """Fold what `read_fold_in` has read into a run. Returns None if it is empty. Also returns notes.

    `user_id` is the id of the user if the ratings name no users. None means a new user.
    """
    if not given:
        return None, []
    data = read_given_data(
        run.tables,
        ratings=given.get("ratings"),
        users=given.get("user_features"),
        items=given.get("item_features"),
        user_id=user_id,
        columns=columns.by_role(),
        keys=("user_features", "item_features"),
    )
    folded = FoldedIn(run, data)
    tables = [table for table in given.values() if isinstance(table, TextTable)]
    return folded, [*(note for table in tables for note in table.opened_from.notes), *folded.notes]


def print_notes(output: Path | None, *lines: str) -> None:
    """Print lines about an output file, on stderr if the file may be stdout. `output` is None without a file."""
    for line in lines:
        print(line, file=sys.stderr if output is not None and is_stream(output) else sys.stdout)


def note_on_length(length: int, *, requested: int) -> str:
    """Say why a list is shorter than requested."""
    return f"note: only {length} of the {requested} requested items: no more candidates"
