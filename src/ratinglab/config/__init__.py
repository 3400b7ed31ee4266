"""The command line under Hydra: typed options from conf/, and every mistake reported as one line."""
