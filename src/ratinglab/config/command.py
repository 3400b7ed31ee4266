"""Make commands, which report each mistake in one line, with exit status 2."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

from omegaconf import DictConfig

from ratinglab.commands.command_options import RunOptions
from ratinglab.config.arguments import CommandLine, jobs_to_check, parse_arguments
from ratinglab.config.error_messages import translate_exceptions
from ratinglab.config.help_text import adapt_commands, format_help
from ratinglab.config.hydra_api import print_hydra_information, run_hydra_app
from ratinglab.config.job import FindRun, Job, compose_job, find_earlier_run
from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.config.sweep import Task, train_sweep
from ratinglab.errors import RunFailedError, UserError
from ratinglab.process.exits import clean_exit, exit_with
from ratinglab.process.interrupts import StoppedError, resume_hint
from ratinglab.process.program import exit_with_rank_zero, process_rank
from ratinglab.process.startup import configure_process
from ratinglab.runs.finished_runs import find_named_run
from ratinglab.runs.run_files import HYDRA_FOLDER
from ratinglab.runs.sweep_folder import has_started


def make_command(
    task: Task,
    *,
    config_name: str,
    positional: Sequence[str] = (),
    find_run: FindRun | None = None,
    usage: str | None = None,
) -> Callable[[], None]:
    """Make a command from a task.

    The command reports a user's mistake as one line on stderr, with exit status 2. If the configuration alone shows the
    mistake, the command creates no folder. Otherwise it removes the folder. A run that diverges keeps its folder, and
    the exit status is 1. In a sweep, such a run has an infinite objective, and the other runs continue. A bug in
    ratinglab keeps its traceback.

    Args:
        task: a function of the options and of the folder to write to.
        config_name: the primary config in conf/, such as `train`.
        positional: keys that arguments without a key set, in this order.
        find_run: finds the earlier run that the arguments resume or reproduce. None for a command that trains
            no run, claims no folder and supports no sweeps.
        usage: text of --help. With None, the help lists the groups and keys of the primary config.
    """

    def run_command() -> None:
        configure_process()
        conf = PrimaryConfig(config_name)
        with clean_exit(), translate_exceptions(conf):
            if "--version" in sys.argv:
                print(f"ratinglab {version('ratinglab')}")
                return
            line = parse_arguments(positional=positional)
            values = line.values
            conf.add_folder(values.config_dir)
            if values.help:
                text = _help(conf, line) if usage is None else adapt_commands(usage.strip())
                print(text, flush=True)  # here, where a closed pipe is not a bug
            elif values.hydra_help or values.info or values.shell_completion:
                print_hydra_information(config_name, [*line.flags, *line.overrides])
            elif values.cfg:
                _print_config(conf, line, find_run)
            elif find_run is None:
                _run_task(task, conf, line)
            elif values.multirun:
                train_sweep(task, conf, line, find_run)
            else:
                _train_one_run(task, conf, line, find_run)

    return run_command


def _help(conf: PrimaryConfig, line: CommandLine) -> str:
    """Format the help for the overrides, or for the first job of a sweep."""
    overrides = next(jobs_to_check(conf.parse(line.overrides))) if line.values.multirun else line.overrides
    return format_help(conf, conf.keep_typed_choices(overrides))


def _print_config(conf: PrimaryConfig, line: CommandLine, find_run: FindRun | None) -> None:
    """Let Hydra print the configuration of a new run, without checking its values."""
    earlier_run = find_earlier_run(conf, line.overrides, find_run=find_run)
    if earlier_run is not None:
        path = earlier_run.folder / HYDRA_FOLDER / "config.yaml"
        raise UserError(f"--cfg shows the configuration of a new run; that of this run is in {path}")
    print_hydra_information(conf.config_name, [*line.flags, *conf.keep_typed_choices(line.overrides)])


def _run_task(task: Task, conf: PrimaryConfig, line: CommandLine) -> None:
    """Run the task of a command that trains nothing. An error says which run `run=latest` or `run=best` resolved to."""
    if line.values.multirun:
        raise UserError(f"{conf.config_name} does not support sweeps: leave out -m")
    options = compose_job(conf, line.overrides, find_run=None).options
    try:
        task(options, Path.cwd())
    except UserError as error:
        notes = find_named_run(options.run)[1] if isinstance(options, RunOptions) else []
        raise UserError("".join([str(error), *(f" ({note})" for note in notes)])) from error


def _train_one_run(task: Task, conf: PrimaryConfig, line: CommandLine, find_run: FindRun) -> None:
    """Train one run: a new one, or an earlier one that is resumed or reproduced."""
    job = compose_job(conf, line.overrides, find_run=find_run)
    if process_rank() > 0 and job.options.trainer.num_processes > 1:
        _join_fit(job)
        return

    def train(_: DictConfig) -> None:  # Hydra calls it after it has set up the logs
        with clean_exit(folder), translate_exceptions(conf):  # here, since Hydra adds a line to an exception
            try:
                if job.earlier_run is not None and not job.is_resumed:
                    job.save(folder)  # the original's configuration in place of the one that Hydra has saved
                task(job.options, folder)
            except StoppedError as error:
                if has_started(folder):
                    exit_with(f"{error}; {resume_hint(folder)}", status=error.status)
                raise

    with job.claim_output_folder("run") as (folder, folder_override), clean_exit(folder):  # Hydra writes files too
        run_hydra_app(train, config_name=conf.config_name, arguments=[*line.flags, *job.overrides, folder_override])


def _join_fit(job: Job) -> None:
    """Take part in the fit of rank 0, which claims and writes the run, prints it, and reports how the fit ends.

    A bug in this process keeps its traceback.
    """
    from ratinglab.training.training import join_fit  # imported here because torch takes a second

    exit_with_rank_zero()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with open(os.devnull, "w", encoding="utf-8") as null_device, redirect_stdout(null_device):
        try:
            join_fit(job.options, job.output_folder("run"))
        except StoppedError as error:
            sys.exit(error.status)
        except RunFailedError:
            sys.exit(1)
