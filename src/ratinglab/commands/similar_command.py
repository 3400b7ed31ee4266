"""List the items most similar to one item."""

import pyarrow as pa

from ratinglab.commands.command_inputs import check_table_path, load_run, note_on_length, print_notes
from ratinglab.commands.command_options import SimilarOptions
from ratinglab.errors import CONTROL_CHARACTERS, format_count
from ratinglab.files import is_stream
from ratinglab.formats.writing import write_table
from ratinglab.inference.recommender import check_list_length
from ratinglab.reports.table_layout import print_rows


def find_similar(options: SimilarOptions) -> None:
    """Print the items most similar to an item, and write them to the file `output`, if any.

    Prints no items if the file is a stream, such as stdout.
    """
    output = None if options.output is None else check_table_path(options.output)
    run, notes = load_run(options.run)
    check_list_length(options.k, num_items=run.record.num_items)
    tables = run.tables
    candidates = tables.items_with_genres(options.genres, column=options.columns.genres) if options.genres else None
    similar = run.similar(options.item, k=options.k, candidates=candidates)
    (item,) = tables.item_names.find([options.item], place=lambda _: "item").tolist()
    name = tables.item_names.name_of(item).translate(CONTROL_CHARACTERS)
    if output is not None:
        table = pa.Table.from_pandas(similar, preserve_index=False)
        write_table(output, table.schema, [table])
        print_notes(output, f"{format_count(len(similar), 'item')} similar to {name} in {output}")
    print_notes(output, *notes)
    if output is not None and is_stream(output):
        return
    print(f"similar to {name}, which has {tables.train_counts[1][item]:,} training ratings")
    print_rows(similar)
    print("similarity: cosine of the items' factors, lowered for items with few shared raters")
    if len(similar) < options.k:
        print(note_on_length(len(similar), requested=options.k))
