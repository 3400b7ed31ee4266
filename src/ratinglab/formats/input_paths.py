"""Find input files by the paths that users give."""

import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.files import suggest_sibling, user_path
from ratinglab.formats.inputs import InputFile

PART_FILE = re.compile(r"part[-._]?\d")
"""Start of the names of part files, as Spark and Dask write them."""
MAX_LISTED = 5
"""Number of a folder's files listed in a message."""


def find_file(name: str, *, key: str) -> InputFile:
    """Find a file, or a member of a zip archive given as `archive.zip/folder/name`.

    Raises:
        UserError: the file does not exist; the message names the key, and suggests a file with a similar name.
    """
    path = user_path(name, key=key)
    if path.is_file():
        return InputFile(path)
    archive = next((parent for parent in path.parents if parent.is_file()), None)
    if archive is not None and InputFile(archive).detect_compression() == "zip":
        return InputFile(archive, path.relative_to(archive).as_posix())
    if path.is_dir():
        names = [str(file.relative_to(path)) for file in _visible_files(path)]
        more = ", …" if len(names) > MAX_LISTED else ""
        hint = f"; it holds {', '.join(names[:MAX_LISTED])}{more}" if names else ""
        raise UserError(f"{key} must be a file, got the folder {name}{hint}")
    if path.exists():
        raise UserError(f"{key} must be a file that can be read twice, got the pipe or device {name}")
    raise UserError(f"{key}: there is no file {name}{suggest_sibling(path, cutoff=0.75)}")


def find_rating_files(patterns: Sequence[str]) -> tuple[InputFile, ...]:
    """Find the files of data.path: each entry is a file, a pattern such as `ratings-*.csv`, or a folder of part files.

    The files of a pattern or folder are sorted by name.

    Raises:
        UserError: no file matches a pattern, or a folder does not hold part files of one table.
    """
    if not patterns:
        raise UserError("data.path must name at least one file")
    return tuple(file for pattern in patterns for file in _find_matching(pattern))


def _find_matching(pattern: str) -> list[InputFile]:
    path = user_path(pattern, key="data.path")
    if path.is_dir():
        paths = _visible_files(path)
        are_parts = all(PART_FILE.match(path.name) for path in paths)
        if paths and (are_parts or {path.suffix.lower() for path in paths} == {".parquet"}):
            return [InputFile(path) for path in paths]
    if path.exists() or not has_magic(str(path)):
        return [find_file(pattern, key="data.path")]
    files = [InputFile(match) for match in map(Path, sorted(glob(str(path), recursive=True))) if match.is_file()]
    if not files:
        raise UserError(f"data.path: no file matches {pattern}")
    return files


def _visible_files(folder: Path) -> list[Path]:
    """List the files below a folder, sorted, without hidden files and Spark's, such as `_SUCCESS`."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in files if not any(part[0] in "._" for part in path.relative_to(folder).parts)]
