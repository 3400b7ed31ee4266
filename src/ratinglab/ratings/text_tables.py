"""Small delimited files, read as text cells."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ratinglab.errors import UserError
from ratinglab.ratings.faults import column_position, first_rows
from ratinglab.ratings.inputs import InputFile, TextForm, TextStream, utf8_blocks


def read_text_table(file: InputFile, form: TextForm, *, header: bool) -> pa.Table:
    """Read a delimited file with every cell as text. Rejects rows with too many or too few cells.

    Without a header, the columns are named 1, 2, ….

    Raises:
        UserError: the file is empty or cannot be read, or two columns have the same name.
    """
    ((line, cells),) = first_rows(file, form, 1)
    names = [cell.strip() for cell in cells] if header else [str(number) for number in range(1, len(cells) + 1)]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{file} has {names.count(repeated)} columns named {repeated!r}")
    try:
        table = pyarrow.csv.read_csv(
            TextStream(utf8_blocks(file, form)),
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=line if header else 0),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=form.delimiter,
                quote_char='"' if form.is_quoted else False,
                newlines_in_values=form.is_quoted,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    for name in names:
        over_lines = pc.match_substring_regex(table[name], "[\r\n]")
        if pc.any(over_lines).as_py():
            row = pc.index(over_lines, True).as_py() + 1
            raise UserError(f"{file}, row {row}: a quoted cell must end on the line on which it begins")
    return table


def text_column(table: pa.Table, wanted: str, *, key: str, file: InputFile, header: bool = True) -> list[str]:
    """Return the stripped cells of a column of `read_text_table`.

    Raises:
        UserError: there is no such column; the message lists the columns.
    """
    position = column_position(table.column_names, wanted, key=key, file=file, header=header)
    return [text.strip() for text in table[position].to_pylist()]
