"""Formats of tables in files and data frames: text, columnar files, their cells, and writing."""
