"""Tables in files and data frames.

`inputs` opens a file, and `detection` finds its format. `text_dialects` and `layouts` say how a text file is written,
and where its columns are. `rows_by_pyarrow` parses its rows, and `quotes` checks their quotation marks. If a row is
wrong, `faults` reads the file again by `rows_by_csv`, which knows the lines. `columnar` reads all other formats, and
the data frames of `frames`. `text_tables` reads users, items and pairs in any format. The folder reading/ reads
ratings.
"""
