"""Hydra's files in a run's folder: the arguments and the configuration that the run was started with."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ratinglab.errors import UserError
from ratinglab.runs.record import read_run_json
from ratinglab.runs.run_files import HYDRA_FILES, HYDRA_FOLDER

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader. PyYAML's compiled one is nine times as fast, and a report reads two files of each run."""


def read_arguments(run: Path) -> dict[str, str]:
    """Read the arguments that started a run, by key."""
    texts = map(str, parse_hydra_file(run, "overrides.yaml") or [])
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def read_swept_arguments(run: Path) -> dict[str, bool | int | float | str]:
    """Read the arguments that a job's sweep varies. Returns {} if the run is not part of a sweep."""
    hydra = read_hydra(run)
    if hydra.get("mode") != "MULTIRUN":
        return {}
    fixed = hydra["job"]["config"]["override_dirname"]["exclude_keys"]
    values = {key: (text, yaml.safe_load(text)) for key, text in read_arguments(run).items() if key not in fixed}
    return {key: value if isinstance(value, bool | int | float) else text for key, (text, value) in values.items()}


def read_config_dir(run: Path) -> str | None:
    """Read the --config-dir that the run was started with. Returns None if there was none."""
    sources = (read_hydra(run).get("runtime") or {}).get("config_sources", [])
    return next((source["path"] for source in sources if source["provider"] == "command-line"), None)


def put_config_dir_on_path(run: Path) -> None:
    """Let Python find the user's own classes in the run's folder of --config-dir, which it searches last."""
    with suppress(UserError):  # hydra.yaml is damaged: the user may still give the folder
        config_dir = read_config_dir(run)
        if config_dir is not None and config_dir not in sys.path and Path(config_dir).is_dir():
            sys.path.append(config_dir)


def read_hydra(run: Path) -> dict[str, Any]:
    """Read Hydra's own part of a run's configuration. Returns {} if it is missing."""
    content: dict[str, Any] = (parse_hydra_file(run, "hydra.yaml") or {}).get("hydra", {})
    return content


def read_hydra_files(run: Path) -> dict[str, str]:
    """Read the text of each file of HYDRA_FILES that exists, by name."""
    texts = {}
    for name in HYDRA_FILES:
        with suppress(OSError, ValueError):
            texts[name] = (run / HYDRA_FOLDER / name).read_text(encoding="utf-8")
    return texts


def parse_hydra_file(run: Path, name: str, *, key: str = "") -> Any:
    """Parse a file of HYDRA_FILES. Returns None if it is missing. Messages begin with `key`.

    Reads the copy in the record or, if there is no intact record, the file itself.

    Raises:
        UserError: the file is damaged.
    """
    path, text = run / HYDRA_FOLDER / name, None
    with suppress(UserError, LookupError, TypeError):  # a damaged record, which other readers report
        if (record := read_run_json(run)) is not None:
            text = str(record["started_with"][name])
    if text is None and not path.exists():
        return None
    try:
        content = yaml.load(path.read_text(encoding="utf-8") if text is None else text, Loader=LOADER)
        is_valid = isinstance(content, HYDRA_FILES[name])
        if not is_valid or (name == "hydra.yaml" and not isinstance(content.get("hydra"), dict)):
            raise ValueError("its content has the wrong type")
    except (OSError, yaml.YAMLError, ValueError) as error:
        prefix = f"{key}: " if key else ""
        raise UserError(f"{prefix}{path} is damaged: {' '.join(str(error).split())}") from error
    return content
