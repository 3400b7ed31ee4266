"""The commands: `ratinglab NAME …`, `python -m ratinglab NAME …`, and `python scripts/NAME.py …` in a checkout.

Each command imports its code only when it runs: torch and Lightning take seconds to import, and --help must be fast.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from ratinglab.commands.command_options import InspectOptions
from ratinglab.config.command import make_command
from ratinglab.config.earlier_run import find_reproduced_run, find_resumed_run
from ratinglab.config.job import compose_job
from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.datasets.sources import DataOptions
from ratinglab.errors import UserError, did_you_mean, refuse_arguments
from ratinglab.process.exits import clean_exit
from ratinglab.process.program import shown_path
from ratinglab.training.train_options import TrainOptions

REPRODUCE_USAGE = """\
Train a run again from its record, in a new folder, and compare the metrics.

  python scripts/reproduce.py RUN     short for run=RUN
  python scripts/reproduce.py run=outputs/…

Keys (KEY=VALUE):
    run=???          Folder of the run, or latest or best, as in evaluate. Must be given.
    data.path=…      Path of the data, if they have moved since; data.root=… for MovieLens.
"""


def _train_and_print(options: TrainOptions, run_folder: Path) -> float | None:
    """Train a run, and print its folder. Compares a reproduction with its original."""
    from ratinglab.training.run_results import compare_with_original
    from ratinglab.training.training import train_run

    objective = train_run(options, run_folder, command=sys.argv)
    print(shown_path(run_folder), flush=True)
    if options.reproduces is not None:
        compare_with_original(run_folder, Path(options.reproduces))
    return objective


def _inspect_data(options: InspectOptions, _: Path) -> None:
    from ratinglab.commands.inspect_command import inspect_data

    def defaults() -> DataOptions:
        """Compose the default options with all three tables, since a table without a path has no options to compare."""
        paths = [f"{key}=FILE" for key in ("data.path", "data.users.path", "data.items.path")]
        return compose_job(PrimaryConfig("inspect_data"), paths, find_run=None).options.data

    inspect_data(options, defaults)


def _make_command(config_name: str, function: str, *positional: str) -> Callable[[], None]:
    """Make a command whose task is a function of the options, such as "commands.similar_command:find_similar".

    The command imports the function only when it runs.
    """

    def task(options: Any, _: Path) -> None:
        resolve_name(f"ratinglab.{function}")(options)

    return make_command(task, config_name=config_name, positional=positional)


def report() -> None:
    """Compare runs with one another and with published results."""
    parser = argparse.ArgumentParser(description=report.__doc__)
    parser.add_argument("folders", nargs="+", help="runs, or folders with runs in them, such as a sweep")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--test", action="store_true", help="evaluate a sweep's best configuration on its test rows")
    choice.add_argument("--models", action="store_true", help="print one Markdown table with a column per protocol")
    parser.add_argument("--version", action="version", version=f"ratinglab {version('ratinglab')}")
    parser.error = refuse_arguments  # type: ignore[method-assign]
    with clean_exit():
        arguments = parser.parse_args()
        from ratinglab.commands.report_command import report_folders
        from ratinglab.reports.comparison import tabulate_models

        folders = arguments.folders
        for line in tabulate_models(folders) if arguments.models else report_folders(folders, test=arguments.test):
            print(line, flush=True)


COMMANDS = {
    "train": make_command(_train_and_print, config_name="train", find_run=find_resumed_run),
    "report": report,
    "recommend": _make_command("recommend", "commands.recommend_command:recommend", "run", "user"),
    "similar": _make_command("similar", "commands.similar_command:find_similar", "run", "item"),
    "predict": _make_command("predict", "commands.predict_command:predict", "run", "input"),
    "evaluate": _make_command("evaluate", "commands.evaluate_command:evaluate", "run"),
    "reproduce": make_command(
        _train_and_print, config_name="train", positional=["run"], find_run=find_reproduced_run, usage=REPRODUCE_USAGE
    ),
    "export": _make_command("export", "commands.export_command:export", "run"),
    "serve": _make_command("serve", "serving.server:serve", "run"),
    "inspect_data": make_command(_inspect_data, config_name="inspect_data", positional=["data.path"]),
}
"""The commands by name. The files in scripts/ call them too."""


OVERVIEW = f"""\
Fit and compare rating-prediction models.

  ratinglab train
  ratinglab train -m model.embedding_dim=16,32,64
  ratinglab COMMAND --help

Commands:
  train               Fit a model on a table of ratings.
  report FOLDER …     {report.__doc__}
  recommend RUN USER  Recommend items to one user, the users in a file, or all users.
  similar RUN ITEM    Find the items similar to one item.
  predict RUN INPUT   Predict the ratings of the pairs in a file.
  evaluate RUN        Recompute the metrics of a run.
  reproduce RUN       Train a run again from its record, and compare the metrics.
  export RUN          Write a run in a form that predicts without ratinglab.
  serve RUN           Answer requests for predictions over HTTP, and show a page to try a run on.
  inspect_data PATH   Describe a table of ratings, and print the command that trains on it.

Completion of commands, choices and keys in the shell:
  eval "$(ratinglab -sc install=bash)"      bash; for zsh, install=zsh
  ratinglab -sc install=fish | source       fish
"""


def main() -> None:
    """Run the command that the first argument names."""
    program, *arguments = sys.argv
    name = arguments[0] if arguments else "--help"
    if name in ("-sc", "--shell-completion"):
        with clean_exit():
            _complete(arguments[1:])
    elif name in ("-h", "--help"):
        print(OVERVIEW, end="")
    elif name == "--version":
        print(f"ratinglab {version('ratinglab')}")
    else:
        with clean_exit():
            if name not in COMMANDS:
                raise UserError(
                    f"unknown command {name}: choose from {', '.join(COMMANDS)}{did_you_mean(name, COMMANDS)}"
                )
        sys.argv = [f"{program} {name}", *arguments[1:]]
        COMMANDS[name]()


def _complete(arguments: list[str]) -> None:
    """Complete a line in the shell. Completes the name of a command itself, and lets Hydra complete the arguments.

    Removes the name of the command from the line in COMP_LINE, because Hydra does not know subcommands.
    """
    if len(arguments) != 1 or not re.fullmatch(r"(install|uninstall|query)=(bash|zsh|fish)", arguments[0]):
        raise UserError(f"-sc must be install=bash, =zsh or =fish, got {' '.join(arguments) or 'nothing'}")
    line = os.environ.get("COMP_LINE", "")
    program, _, typed = line.partition(" ")
    name, space, rest = typed.partition(" ")
    if line and not space:
        print(*COMMANDS)
        return
    os.environ["COMP_LINE"] = f"{program} {rest}"
    if name not in ("report", "reproduce"):
        COMMANDS.get(name, COMMANDS["train"])()
