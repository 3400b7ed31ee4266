"""Hydra's files in the folder of a run: its configuration, and the arguments that started it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ratinglab.errors import UserError
from ratinglab.files import RUN_RECORD
from ratinglab.runs.digests import check_file

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, nine times as fast where PyYAML has its compiled half: a report reads two files of each run."""
HYDRA_FOLDER = ".hydra"
"""Subfolder of a run where Hydra stores the configuration."""
HYDRA_FILES = ("config.yaml", "overrides.yaml", "hydra.yaml")
"""Files in that subfolder. The run's record has a copy, from which the run is resumed or reproduced."""


def read_arguments(run: Path) -> dict[str, str]:
    """Read the arguments that started a run, by key; {} if the file is missing."""
    arguments = parse_hydra_file(run, "overrides.yaml", kind=list) or []
    return {key: value for key, _, value in (str(argument).partition("=") for argument in arguments)}


def read_swept_arguments(run: Path) -> dict[str, bool | int | float | str]:
    """Read the arguments that a job's sweep varies; {} if the run is not part of a sweep."""
    hydra = _read_hydra(run)
    if hydra.get("mode") != "MULTIRUN":
        return {}
    fixed = hydra["job"]["config"]["override_dirname"]["exclude_keys"]
    values = {key: (text, yaml.safe_load(text)) for key, text in read_arguments(run).items() if key not in fixed}
    return {key: value if isinstance(value, bool | int | float) else text for key, (text, value) in values.items()}


def read_config_dir(run: Path) -> str | None:
    """Read the --config-dir that the run was started with; None without one."""
    sources = _read_hydra(run).get("runtime", {}).get("config_sources", [])
    return next((source["path"] for source in sources if source["provider"] == "command-line"), None)


def _read_hydra(run: Path) -> dict[str, Any]:
    """Read Hydra's own configuration of a run; {} if it has none."""
    content = parse_hydra_file(run, "hydra.yaml", kind=dict)
    return {} if content is None else dict(content["hydra"])


def read_hydra_files(run: Path) -> dict[str, str]:
    """Read those of HYDRA_FILES that exist, by name."""
    texts = {}
    for name in HYDRA_FILES:
        with suppress(OSError, ValueError):
            texts[name] = (run / HYDRA_FOLDER / name).read_text(encoding="utf-8")
    return texts


def read_hydra_text(run: Path, name: str) -> str | None:
    """Read one of HYDRA_FILES; None if it is missing.

    Reads the copy in the record or, if there is no record yet, the file itself.

    Raises:
        UserError: the file cannot be read.
    """
    with suppress(OSError, ValueError, LookupError, TypeError):  # a damaged record, which other readers report
        check_file(run / RUN_RECORD)
        return str(json.loads((run / RUN_RECORD).read_text(encoding="utf-8"))["started_with"][name])
    path = run / HYDRA_FOLDER / name
    try:
        return path.read_text(encoding="utf-8") if path.exists() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def parse_hydra_file(run: Path, name: str, *, kind: type) -> Any:
    """Parse one of HYDRA_FILES, whose content is a list or a dict; None if it is missing.

    Raises:
        UserError: it is damaged.
    """
    text = read_hydra_text(run, name)
    if text is None:
        return None
    try:
        content = yaml.load(text, Loader=LOADER)
    except (yaml.YAMLError, UnicodeError) as error:
        raise UserError(f"{run / HYDRA_FOLDER / name} is damaged: {' '.join(str(error).split())}") from error
    is_hydra = name == "hydra.yaml"
    if not isinstance(content, kind) or (is_hydra and not (isinstance(content, dict) and "hydra" in content)):
        raise UserError(f"{run / HYDRA_FOLDER / name} is damaged: its content has the wrong type")
    return content
