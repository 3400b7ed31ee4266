"""Hydra's side: the schemas of conf/, and every mistake on the command line as one line."""
