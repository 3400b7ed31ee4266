"""A run's record as plain values, and Hydra's files about its start. Imports nothing slow; `record` has the types."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ratinglab.errors import UserError
from ratinglab.files import RUN_FORMAT, RUN_RECORD
from ratinglab.runs.digests import check_file

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, nine times as fast where PyYAML has its compiled half: a report reads two files of each run."""
HYDRA_FOLDER = ".hydra"
"""Subfolder of a run where Hydra stores the configuration."""
HYDRA_FILES = {"config.yaml": dict, "overrides.yaml": list, "hydra.yaml": dict}
"""Files in that subfolder, with the types of their contents.

The run's record has a copy of each, from which the run is resumed or reproduced.
"""


def read_run_json(run: Path) -> dict[str, Any] | None:
    """Read run.json; return None if it is missing, because a run may have been stopped before it wrote the file.

    Raises:
        UserError: the file is damaged or has another format.
    """
    path = run / RUN_RECORD
    check_file(path)
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = content["format_version"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if version != RUN_FORMAT:
        raise UserError(f"{path} has format {version}; this version of ratinglab reads format {RUN_FORMAT}")
    return content


def read_arguments(run: Path) -> dict[str, str]:
    """Read the arguments that started a run, by key."""
    texts = map(str, parse_hydra_file(run, "overrides.yaml") or [])
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def read_swept_arguments(run: Path) -> dict[str, bool | int | float | str]:
    """Read the arguments that a job's sweep varies; {} if the run is not part of a sweep."""
    hydra = read_hydra(run)
    if hydra.get("mode") != "MULTIRUN":
        return {}
    fixed = hydra["job"]["config"]["override_dirname"]["exclude_keys"]
    values = {key: (text, yaml.safe_load(text)) for key, text in read_arguments(run).items() if key not in fixed}
    return {key: value if isinstance(value, bool | int | float) else text for key, (text, value) in values.items()}


def read_config_dir(run: Path) -> str | None:
    """Read the --config-dir that the run was started with; None without one."""
    sources = read_hydra(run).get("runtime", {}).get("config_sources", [])
    return next((source["path"] for source in sources if source["provider"] == "command-line"), None)


def read_hydra(run: Path) -> dict[str, Any]:
    """Read Hydra's own part of a run's configuration; {} if it is missing."""
    content: dict[str, Any] = (parse_hydra_file(run, "hydra.yaml") or {}).get("hydra", {})
    return content


def read_hydra_files(run: Path) -> dict[str, str]:
    """Read the text of each file of HYDRA_FILES that exists, by name."""
    texts = {}
    for name in HYDRA_FILES:
        with suppress(OSError, ValueError):
            texts[name] = (run / HYDRA_FOLDER / name).read_text(encoding="utf-8")
    return texts


def read_hydra_text(run: Path, name: str) -> str | None:
    """Read the text of a file of HYDRA_FILES; None if it is missing.

    Reads the copy in the record or, if there is no intact record, the file itself.

    Raises:
        UserError: the file cannot be read.
    """
    with suppress(UserError, LookupError, TypeError):  # a damaged record, which other readers report
        if (record := read_run_json(run)) is not None:
            return str(record["started_with"][name])
    path = run / HYDRA_FOLDER / name
    try:
        return path.read_text(encoding="utf-8") if path.exists() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def parse_hydra_file(run: Path, name: str, *, key: str = "") -> Any:
    """Parse a file of HYDRA_FILES; None if it is missing. Messages begin with `key`.

    Raises:
        UserError: the file is damaged.
    """
    text = read_hydra_text(run, name)
    if text is None:
        return None
    try:
        content = yaml.load(text, Loader=LOADER) or HYDRA_FILES[name]()
        if not isinstance(content, HYDRA_FILES[name]):
            raise ValueError("its content has the wrong type")
    except (yaml.YAMLError, ValueError) as error:
        prefix = f"{key}: " if key else ""
        raise UserError(f"{prefix}{run / HYDRA_FOLDER / name} is damaged: {' '.join(str(error).split())}") from error
    return content
