"""The folder of a sweep: its arguments, and one folder per job with the job's arguments and outcome.

sweep.json     the arguments that choose the jobs
NUMBER-NAME/   the run of a job; failure.txt or pruned.txt has the reason if it failed or was pruned
"""

import json
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ratinglab.digests import check_file
from ratinglab.errors import UserError
from ratinglab.files import RUN_RECORD, VALIDATION_FIT, write_whole

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, nine times as fast where PyYAML has its compiled half: a report reads two files of each run."""
SAVED = ".hydra"
"""Subfolder of a run where Hydra stores the configuration."""
SAVED_FILES = ("config.yaml", "overrides.yaml", "hydra.yaml")
"""Files in that subfolder. The run's record has a copy, from which the run is resumed or reproduced."""
SWEEP_RECORD, FAILURE, PRUNED = "sweep.json", "failure.txt", "pruned.txt"
CHOOSES_JOBS = re.compile(
    r"[+~]*(?!hydra\b)|hydra/sweeper\b|hydra\.sweeper\.(?!(n_trials|n_jobs|max_batch_size|storage)=)"
)
"""Arguments that determine the jobs. Other Hydra settings only determine where and how they run."""


class SweepJob(NamedTuple):
    """A job of a sweep.

    Attributes:
        folder: folder of its run.
        arguments: its arguments, swept and fixed.
        failure: reason of a failure; None without one.
        pruned: reason of pruning; None if it was not pruned.
    """

    folder: Path
    arguments: dict[str, str]
    failure: str | None = None
    pruned: str | None = None


def claim(folder: Path, arguments: Sequence[str], *, config_dir: Path | None = None) -> None:
    """Record the arguments of a new sweep, or check that the sweep in the folder has the same arguments.

    Raises:
        UserError: the folder holds another sweep, or its record is damaged.
    """
    path = folder / SWEEP_RECORD
    jobs = [argument for argument in arguments if CHOOSES_JOBS.match(argument)]
    jobs += [] if config_dir is None else [f"--config-dir={config_dir}"]
    if not path.is_file():
        content = json.dumps({"arguments": jobs}, indent=2) + "\n"
        write_whole(path, lambda file: file.write(content.encode()))
        return
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["arguments"]
        same = shlex.join(["-m", *recorded, f"hydra.sweep.dir={folder}"])
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} is damaged: it must hold a list of texts, arguments") from error
    if recorded != jobs:
        raise UserError(f"hydra.sweep.dir: {folder} holds another sweep, which only these arguments continue: {same}")


def job_folders(folder: Path) -> list[Path]:
    """List the folders of the jobs that have started, in order."""
    found = {path.parents[1] for path in folder.glob(f"*/{SAVED}/overrides.yaml")}
    found |= {path.parent for path in folder.glob(f"*/{RUN_RECORD}")}
    return sorted(found, key=lambda run: int(re.split(r"\D", run.name, maxsplit=1)[0] or 0))


def has_started(run: Path) -> bool:
    """Return whether there is a run to resume: a record of the run, or of the first of its two fits."""
    return any((folder / RUN_RECORD).exists() for folder in (run, run / VALIDATION_FIT))


def write_reason(path: Path, reason: str) -> None:
    """Write the reason of a failure (FAILURE) or of pruning (PRUNED) into a job's folder."""
    write_whole(path, lambda file: file.write(f"{reason}\n".encode()))


def _read_reason(path: Path) -> str | None:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def arguments_of(run: Path) -> dict[str, str]:
    """Read the arguments that started a run."""
    texts = read_saved(run, "overrides.yaml", kind=list) or []
    return {key: value for key, _, value in (str(text).partition("=") for text in texts)}


def swept_arguments(run: Path) -> dict[str, bool | int | float | str]:
    """Read the arguments that a job's sweep varies; {} if the run is not part of a sweep."""
    hydra = _read_hydra(run)
    if hydra.get("mode") != "MULTIRUN":
        return {}
    fixed = hydra["job"]["config"]["override_dirname"]["exclude_keys"]
    values = {key: (text, yaml.safe_load(text)) for key, text in arguments_of(run).items() if key not in fixed}
    return {key: value if isinstance(value, bool | int | float) else text for key, (text, value) in values.items()}


def config_dir_of(run: Path) -> str | None:
    """Return the --config-dir that the run was started with; None without one."""
    sources = _read_hydra(run).get("runtime", {}).get("config_sources", [])
    return next((source["path"] for source in sources if source["provider"] == "command-line"), None)


def _read_hydra(run: Path) -> dict[str, Any]:
    """Read Hydra's own configuration of a run; {} if it has none."""
    content = read_saved(run, "hydra.yaml", kind=dict)
    return {} if content is None else dict(content["hydra"])


def read_saved_files(run: Path) -> dict[str, str]:
    """Read those SAVED_FILES that exist, by name."""
    found = {}
    for name in SAVED_FILES:
        with suppress(OSError, ValueError):
            found[name] = (run / SAVED / name).read_text(encoding="utf-8")
    return found


def saved_text(run: Path, name: str) -> str | None:
    """Read one of SAVED_FILES; None if it is missing.

    Reads the copy in the record or, if there is no record yet, the file itself.

    Raises:
        UserError: the file cannot be read.
    """
    with suppress(OSError, ValueError, LookupError, TypeError):  # a damaged record, which other readers report
        check_file(run / RUN_RECORD)
        return str(json.loads((run / RUN_RECORD).read_text(encoding="utf-8"))["started_with"][name])
    path = run / SAVED / name
    try:
        return path.read_text(encoding="utf-8") if path.exists() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def read_saved(run: Path, name: str, *, kind: type) -> Any:
    """Parse one of SAVED_FILES, whose content is a list or a dict; None if it is missing.

    Raises:
        UserError: it is damaged.
    """
    text = saved_text(run, name)
    if text is None:
        return None
    try:
        content = yaml.load(text, Loader=LOADER)
    except (yaml.YAMLError, UnicodeError) as error:
        raise UserError(f"{run / SAVED / name} is damaged: {' '.join(str(error).split())}") from error
    is_hydra = name == "hydra.yaml"
    if not isinstance(content, kind) or (is_hydra and not (isinstance(content, dict) and "hydra" in content)):
        raise UserError(f"{run / SAVED / name} is damaged: its content is of another kind")
    return content


def short_number(value: str) -> str:
    """Round a number longer than eight characters to four digits; return integers and other text unchanged."""
    try:
        is_long = len(value) > 8 and not re.fullmatch(r"[+-]?\d+", value)
        return (f"{float(value):.4g}" if is_long else value).replace("e+", "e")
    except ValueError:
        return value


def read_jobs(folder: Path) -> list[SweepJob]:
    """Read the jobs that have started, in order. For jobs with the same arguments, keeps the first finished one."""
    found: dict[tuple[tuple[str, str], ...], SweepJob] = {}
    for run in job_folders(folder):
        arguments = arguments_of(run)
        key = tuple(sorted(arguments.items()))
        if key not in found or not (found[key].folder / "metrics.json").exists():
            found[key] = SweepJob(run, arguments, _read_reason(run / FAILURE), _read_reason(run / PRUNED))
    return list(found.values())
