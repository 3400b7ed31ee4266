"""Commands that use a trained run or a file of ratings: each in NAME_command.py, with its options and files."""
