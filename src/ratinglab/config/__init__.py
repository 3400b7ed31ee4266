"""Hydra's side: conf/ becomes typed options, and every mistake on the command line becomes one line."""
