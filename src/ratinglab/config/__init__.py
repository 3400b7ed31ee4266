"""The command line under Hydra: typed options from conf/, and every mistake reported as one line.

Start at `command.py`, which makes a command from a function: it parses the command line (`arguments.py`), and
runs one job or a sweep of jobs (`sweep.py`). For each job, `composed_job.py` lets Hydra compose the YAML files in conf/
(`primary_config.py`), or restores the configuration of an earlier run (`rerun.py`), and converts the result to a typed
options object (`conversion.py`). `error_messages.py` turns each exception of Hydra, OmegaConf and the YAML parser into
one line for the user.
"""
