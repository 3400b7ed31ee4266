"""Detect the formats of files by their content, and explain how to convert unsupported files."""

import json
import re
from enum import Enum, auto

from ratinglab.errors import UserError
from ratinglab.formats.inputs import SIGNATURES, InputFile


class Format(Enum):
    """Supported formats."""

    TEXT = auto()
    JSON_LINES = auto()
    PARQUET = auto()
    ARROW = auto()
    ORC = auto()


BINARY_SIGNATURES = {b"PAR1": Format.PARQUET, b"ARROW1": Format.ARROW, b"ORC": Format.ORC}
"""First bytes of the supported binary formats. In all of them, unlike in text, control characters follow."""
CONTROL_CHARACTER = re.compile(rb"[\x00-\x08]")
AS_CSV = "save it as CSV or Parquet and use that file"
WITH_PANDAS = "read it with pandas.read_{} and save it as CSV or Parquet"
UNSUPPORTED = {
    rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an Excel workbook", "save the sheet as CSV and use that file"),
    rb"<stata_dta>|[\x69-\x73][\x01\x02]\x01\x00": ("a Stata file", WITH_PANDAS.format("stata")),
    rb"\$FL[23]": ("an SPSS file", WITH_PANDAS.format("spss")),
    rb"HEADER RECORD\*{7}|\x00{12}\xc2\xea\x81\x60": ("a SAS file", WITH_PANDAS.format("sas")),
    rb"\x89HDF\r\n\x1a\n": ("an HDF5 file", WITH_PANDAS.format("hdf")),
    rb"MATLAB 5\.0": ("a MATLAB file", AS_CSV),
    rb"\x93NUMPY": ("a NumPy array", AS_CSV),
    rb"\x80[\x02-\x05]": ("a Python pickle", AS_CSV),
    rb"RD[AX][23]\n|[XA]\n\x00\x00\x00[\x02\x03]|X\n\x00": ("an R data file", AS_CSV),
    rb"SQLite format 3\x00": ("a SQLite database", "export its table of ratings as CSV"),
    rb"\xff\xff\xff\xff[\x00-\xff]{4}\x10\x00\x00\x00": ("an Arrow stream", "save it as an Arrow file or Parquet"),
    rb"Obj\x01": ("an Avro file", AS_CSV),
    rb"FEA1[\x00-\x08]": ("a Feather version 1 file", "save it as version 2 or as Parquet"),
    rb"%PDF-": ("a PDF document", "use the ratings file"),
    rb".{257}ustar": ("a tar archive", "unpack it with tar xf and use the ratings file in it"),
    rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|\x1f\x9d": ("an archive", "unpack it and use the ratings file in it"),
    rb"\x04\x22\x4d\x18": ("compressed with LZ4", "decompress it"),
    rb"version https://git-lfs": ("a Git LFS pointer, not the file itself", "fetch it with git lfs pull"),
    rb"(?i:\s*(<!doctype html|<html))": ("a web page", "download the file that it links to"),
    rb"\s*<\?xml": ("an XML file", AS_CSV),
    rb"\s*\[\s*[\[{]": ("a JSON array", "write it as JSON Lines, one object per line"),
    rb"\s*\{\s*'": ("a file of Python dictionaries", "write it as JSON Lines, with double quotes"),
    rb"(?i:\s*@relation\b)": ("an ARFF file", "remove its header, and set data.header=false"),
    rb"%%MatrixMarket": ("a Matrix Market file", "remove its header and the line of sizes"),
    rb"[-+\d.]+([ \t]+\d+:[-+\d.e]+)+\s*\n": ("a libFM or LIBSVM file", "write one rating per row"),
    rb"\w+/\w+: [^\n]*\n\w+/\w+: ": ("a file with one field per line", "convert it to one rating per row"),
    rb"\s*\d+:\s*\n": (
        "in the Netflix Prize format, which lists an item's ratings below its id",
        'put the id into each row, for example with awk \'/:$/ {item = $0; sub(":", "", item); next} '
        '{print item "," $0}\'',
    ),
}
"""Formats that are refused, most of which would otherwise be read as text: name and advice by their first bytes."""


def detect_format(file: InputFile) -> Format:
    """Detect the format of a file from its first bytes, whatever its name is. A data frame has the format ARROW.

    Raises:
        UserError: the file cannot be read, or its format is unsupported; the message explains how to convert it.
    """
    if file.frame is not None:
        return Format.ARROW
    start = file.read_start()
    binary_format = next((value for signature, value in BINARY_SIGNATURES.items() if start.startswith(signature)), None)
    if binary_format is not None and CONTROL_CHARACTER.search(start[:1000]):
        return binary_format
    if any(signature.match(start) for signature in SIGNATURES):
        raise UserError(f"{file} is compressed twice: decompress it once")
    text = start.removeprefix(b"\xef\xbb\xbf")
    for pattern, (name, advice) in UNSUPPORTED.items():
        if re.match(pattern, text, re.DOTALL):
            raise UserError(f"{file} is {name}: {advice}")
    if _is_binary(start[:1000]):
        raise UserError(f"{file} is neither text nor Parquet, Arrow or ORC: {AS_CSV}")
    return Format.JSON_LINES if _is_object(text) else Format.TEXT


def _is_binary(start: bytes) -> bool:
    """Return whether bytes are no text: not UTF-8, without a mark of UTF-16 or UTF-32, with many control characters."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        return False
    num_controls = len(re.findall(rb"[\x01-\x08]", start))  # half of the bytes of UTF-16 can be zero
    return num_controls > max(5, 0.02 * len(start)) and "\ufffd" in start.decode(errors="replace")


def _is_object(text: bytes) -> bool:
    """Return whether the text seems to begin with a JSON object."""
    if not text.lstrip().startswith(b"{"):
        return False
    line = text.lstrip().split(b"\n", 1)[0].strip()
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):  # an object over several lines, or in a line that is longer than the start
        return line == b"{" or line.startswith(b'{"')
