"""Write tables block by block, in the format that the file's name determines."""

import codecs
import lzma
import os
import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from ratinglab.errors import UserError, did_you_mean
from ratinglab.files import write_output
from ratinglab.formats.columnar import column_to_text
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.text_dialects import TextDialect

CSV = TextDialect(",", "utf-8")
"""Dialect of .csv files, and of text in files with other extensions."""
DIALECTS = {".csv": CSV, ".tsv": TextDialect("\t", "utf-8")}
JSON_LINES = (".jsonl", ".ndjson")
BINARY_WRITERS: dict[str, Callable[[BinaryIO, pa.Schema], Any]] = {
    ".parquet": pyarrow.parquet.ParquetWriter,
    ".arrow": pa.ipc.new_file,
    ".feather": pa.ipc.new_file,
}
COMPRESSORS: dict[str, Callable[[BinaryIO], Any]] = {
    "": nullcontext,
    ".gz": lambda file: pa.CompressedOutputStream(_reopen(file), "gzip"),
    ".bz2": lambda file: pa.CompressedOutputStream(_reopen(file), "bz2"),
    ".xz": partial(lzma.LZMAFile, mode="wb"),
    ".zst": lambda file: pa.CompressedOutputStream(_reopen(file), "zstd"),
}
WRITABLE_EXTENSIONS = (*DIALECTS, *JSON_LINES, *BINARY_WRITERS)
UNWRITABLE_EXTENSIONS = (
    ".json .xlsx .xls .xlsb .ods .h5 .hdf .hdf5 .npy .npz .mat .pkl .pickle .pt .dta .sav .sas7bdat .rds .rda .rdata "
    ".db .sqlite .avro .arff .html .xml .yaml .pdf .zip .7z .rar .tar .tgz .lz4 "
    ".orc .pq .parq .arrows .ipc .gzip .br .snappy"
).split()
"""Extensions of formats that cannot be written. Unknown extensions mean text."""


def check_output_format(path: Path) -> None:
    """Raise UserError if the extension of an output means a format that cannot be written."""
    extension, compression = _extensions(path)
    if compression and extension in BINARY_WRITERS:
        raise UserError(f"output: {compression} compresses only text and JSON Lines, got {path}")
    if extension in UNWRITABLE_EXTENSIONS:
        *others, last = filter(None, COMPRESSORS)
        formats = f"{', '.join(WRITABLE_EXTENSIONS)}, and text with {', '.join(others)} or {last}"
        hint = did_you_mean(extension, WRITABLE_EXTENSIONS)
        raise UserError(f"output: {extension} cannot be written, only {formats}; got {path}{hint}")


def _extensions(path: Path) -> tuple[str, str]:
    """Return the format and compression extensions in lower case, or "" if missing."""
    *_, before, last = ["", "", *map(str.lower, path.suffixes)]
    return (before, last) if last in COMPRESSORS else (last, "")


def keeps_input_dialect(path: Path, file: InputFile) -> bool:
    """Return whether text output has the input's dialect. It does unless only the output ends with .csv or .tsv."""
    (extension, _), (input_extension, _) = _extensions(path), _extensions(Path(str(file)))
    return extension == input_extension or extension not in DIALECTS


def write_table(
    path: Path,
    schema: pa.Schema,
    blocks: Iterable[pa.Table],
    *,
    dialect: TextDialect | None = None,
    header: bool = True,
) -> None:
    """Write a table atomically.

    Args:
        path: value of the option `output`; its extension determines the format, see `check_output_format`.
        blocks: the rows; they may be computed while the file is written.
        dialect: dialect of text. With None, the extension determines it.
        header: whether text begins with the column names.

    Raises:
        UserError: the file cannot be written, or computing a block raises it. An old file is then unchanged.
    """
    extension, compression = _extensions(path)

    def new_writer(stream: BinaryIO) -> Any:
        if extension in BINARY_WRITERS:
            return BINARY_WRITERS[extension](stream, schema)
        if extension in JSON_LINES:
            return nullcontext(_JsonLinesWriter(stream))
        writer = _TextWriter(stream, dialect or DIALECTS.get(extension, CSV))
        if header:
            writer.write(pa.table([[name] for name in schema.names], names=schema.names))
        return nullcontext(writer)

    def write(file: BinaryIO) -> None:
        with COMPRESSORS[compression](file) as stream, new_writer(stream) as writer:
            for block in blocks:
                writer.write(block)

    try:
        write_output(path, write, key="output")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:  # a type that the format does not have
        reason = " ".join(str(error).split())
        raise UserError(f"output: a column of the input cannot be written to {path}: {reason}") from error


def _reopen(file: BinaryIO) -> BinaryIO:
    """Reopen a file that is still empty, since pyarrow closes the file that it compresses to."""
    return os.fdopen(file.fileno(), "wb", closefd=False)


class _TextWriter:
    """Writer of delimited text in any dialect. pyarrow's writer would quote every text cell."""

    def __init__(self, file: BinaryIO, dialect: TextDialect) -> None:
        self._file, self._dialect = file, dialect
        self._encode = codecs.getincrementalencoder(dialect.encoding)().encode  # writes the mark of UTF-16 once
        self._separator = " " if dialect.separator == "spaces" else dialect.separator

    def write(self, table: pa.Table) -> None:
        """Write rows."""
        cells = [self._format(column, is_first=position == 0) for position, column in enumerate(table.columns)]
        lines = pc.binary_join_element_wise(*cells, self._separator).to_pylist()
        self._file.write(self._encode("\n".join([*lines, ""])))

    def _format(self, column: pa.ChunkedArray, *, is_first: bool) -> pa.ChunkedArray:
        """Format the cells of a column, with quotation marks or escapes where needed."""
        texts = column_to_text(column)
        if pa.types.is_floating(column.type) and self._dialect.decimal != ".":
            texts = pc.replace_substring(texts, ".", self._dialect.decimal)
        special = f"[\r\n{re.escape(self._separator)}]"
        if not self._dialect.is_quoted:
            escaped = pc.replace_substring_regex(texts, rf"(\\|{special})", r"\\\1")
            return escaped if self._dialect.has_escapes else texts
        if self._dialect.has_escapes:
            texts = pc.replace_substring(texts, "\\", "\\\\")
        quoted = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
        looks_like_comment = f"^{re.escape(self._dialect.comment)}|" if is_first and self._dialect.comment else ""
        return pc.if_else(pc.match_substring_regex(texts, f'{looks_like_comment}"|{special}'), quoted, texts)


class _JsonLinesWriter:
    """Writer of one JSON object per row. NaN and infinity, which JSON cannot represent, become null."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, table: pa.Table) -> None:
        """Write rows."""
        for position, field in enumerate(table.schema):
            if pa.types.is_float32(field.type):  # 3.7, not the nearest float64, 3.700000047683716
                column = table[position].cast(pa.string()).cast(pa.float64())
            elif pa.types.is_binary(field.type) or pa.types.is_temporal(field.type):  # pandas truncates timestamps
                column = column_to_text(table[position])
            else:
                continue
            table = table.set_column(position, field.name, column)
        frame = table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)  # keeps integers beside nulls
        if len(frame) > 0:
            frame.to_json(
                self._file, orient="records", lines=True, double_precision=15, date_format="iso", force_ascii=False
            )
