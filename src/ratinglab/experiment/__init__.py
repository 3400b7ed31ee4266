"""One experiment: training, also from Python, and the other commands, each in NAME_command.py."""
