"""The command line under Hydra: typed options from conf/, and every mistake reported as one line.

`command.py` makes a command from a function. A command parses its arguments (`arguments.py`) and runs one job
(`job.py`) or a sweep of jobs (`sweep.py`). A job composes the YAML files in conf/ (`primary_config.py`), or restores
the configuration of a run that is resumed or reproduced (`earlier_run.py`), and converts the result to an object of
options (`typed_options.py`). `error_messages.py` turns each exception of Hydra, OmegaConf and the YAML parser into one
line for the user.
"""
