"""Compare runs with one another and with published results: report.py outputs/…."""

import argparse
from importlib.metadata import version

from ratinglab.exits import exits_in_one_line


def main() -> None:
    """Print tables of all finished runs in the folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", help="runs, or folders with runs in them, such as a sweep")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--test", action="store_true", help="evaluate a sweep's best configuration on its test rows")
    choice.add_argument("--models", action="store_true", help="print one Markdown table with a column per protocol")
    parser.add_argument("--version", action="version", version=f"ratinglab {version('ratinglab')}")
    arguments = parser.parse_args()
    with exits_in_one_line():
        from ratinglab.reports.comparison import compare, models_table  # torch takes a second: keep --help fast

        folders = arguments.folders
        for line in models_table(folders) if arguments.models else compare(folders, test=arguments.test):
            print(line, flush=True)


if __name__ == "__main__":
    main()
