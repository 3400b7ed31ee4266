"""Run folders: the record, the files, and the Run class that loads them."""
