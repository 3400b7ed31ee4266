"""Commands that use a trained run or a ratings file: each in NAME_command.py, with its options and files."""
