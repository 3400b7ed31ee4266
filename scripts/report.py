"""Compare runs with one another and with published results: report.py outputs/…."""

import argparse
import os
import sys


def main() -> None:
    """Print tables of all finished runs in the folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", help="runs, or folders with runs in them, such as a sweep")
    parser.add_argument("--models", action="store_true", help="print one Markdown table with a column per protocol")
    arguments = parser.parse_args()
    from ratinglab.errors import UserError
    from ratinglab.reports.comparison import compare, models_table  # torch takes a second: keep --help fast

    try:
        for line in (models_table if arguments.models else compare)(arguments.folders):
            print(line, flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # a command such as head has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
