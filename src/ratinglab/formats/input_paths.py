"""Find input files by the paths that users give."""

import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.files import suggest_sibling, user_path
from ratinglab.formats.inputs import InputFile

PART = re.compile(r"part[-._]?\d")
"""Start of the names of part files, as Spark and Dask write them."""
MAX_LISTED = 5
"""Number of a folder's files listed in a message."""


def existing_file(name: str, *, key: str) -> InputFile:
    """Find a file, or a member of a zip archive given as `archive.zip/folder/name`.

    Raises:
        UserError: it does not exist; the message names the key, and suggests a file with a similar name.
    """
    path = user_path(name, key=key)
    if path.is_file():
        return InputFile(path)
    archive = next((parent for parent in path.parents if parent.is_file()), None)
    if archive is not None and InputFile(archive).compression() == "zip":
        return InputFile(archive, path.relative_to(archive).as_posix())
    if path.is_dir():
        shown = [str(part.relative_to(path)) for part in _visible(path)]
        held = (
            f"; it holds {', '.join(shown[:MAX_LISTED])}" + (", …" if len(shown) > MAX_LISTED else "") if shown else ""
        )
        raise UserError(f"{key} must be a file, got the folder {name}{held}")
    if path.exists():
        raise UserError(f"{key} must be a file that can be read twice, got the pipe or device {name}")
    raise UserError(f"{key}: there is no file {name}{suggest_sibling(path, cutoff=0.75)}")


def existing_files(patterns: Sequence[str], *, key: str) -> tuple[InputFile, ...]:
    """Find files of ratings: each pattern is a file, a pattern such as `ratings-*.csv`, or a folder of parts.

    The files of a pattern or folder are sorted by name.

    Raises:
        UserError: no file matches a pattern, or a folder does not hold parts of one table.
    """
    if not patterns:
        raise UserError(f"{key} must name at least one file")
    return tuple(file for pattern in patterns for file in _matching(pattern, key=key))


def _matching(pattern: str, *, key: str) -> list[InputFile]:
    path = user_path(pattern, key=key)
    if path.is_dir():
        parts = _visible(path)
        if parts and (
            all(PART.match(part.name) for part in parts) or {part.suffix.lower() for part in parts} == {".parquet"}
        ):
            return [InputFile(part) for part in parts]
    if path.exists() or not has_magic(str(path)):
        return [existing_file(pattern, key=key)]
    files = [InputFile(name) for name in map(Path, sorted(glob(str(path), recursive=True))) if name.is_file()]
    if not files:
        raise UserError(f"{key}: no file matches {pattern}")
    return files


def _visible(folder: Path) -> list[Path]:
    """List the files below a folder, sorted, without hidden files and Spark's, such as `_SUCCESS`."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in files if not any(part[0] in "._" for part in path.relative_to(folder).parts)]
