"""Resolvers of conf/*.yaml: `${run_suffix:}`, `${job_name:…}`, `${unless_sweep:…}`, `${unless_search:…}`,
`${cache_folder:}`.
"""

import os
import re
import secrets
from hashlib import blake2b
from pathlib import Path

import platformdirs
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ratinglab.config.hydra_api import is_search, register_resolver
from ratinglab.options import short_keys, short_number

MAX_NAME_LENGTH = 80
"""Maximum number of characters in the name of a job's folder, not counting the job's number and a hash."""


def register_resolvers() -> None:
    """Register the resolvers with OmegaConf."""
    # gives different folders to runs that start in the same second
    register_resolver("run_suffix", lambda: secrets.token_hex(2))
    register_resolver("job_name", job_name)
    register_resolver("unless_sweep", lambda value, in_sweep: in_sweep if _is_sweep() else value)
    register_resolver("unless_search", lambda value, in_search: in_search if _in_search() else value)
    register_resolver("cache_folder", cache_folder)


def job_name(dirname: str) -> str:
    """Name a job's folder by its swept keys and values, as in `-embedding_dim-8+seed-1`. A long name ends in a hash.

    `dirname` is Hydra's override_dirname, with one argument per line. The name has no characters that would need quotes
    in run=FOLDER.
    """
    swept = dict(argument.split("=", 1) for argument in filter(None, dirname.split("\n")))
    short = short_keys(swept)
    texts = (f"{short[key]}-{short_number(value)}" for key, value in swept.items())
    name = "+".join(re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-") for text in texts)
    if len(name) > MAX_NAME_LENGTH:
        name = f"{name[:MAX_NAME_LENGTH]}-{blake2b(dirname.encode(), digest_size=3).hexdigest()}"
    return f"-{name}" if name else ""


def cache_folder() -> str | None:
    """Return the folder of synthetic and downloaded data: $RATINGLAB_DATA if set, or else the user's cache folder.

    Returns None if the user's cache folder cannot be written to, for example because the home folder is read-only.
    """
    if data_folder := os.environ.get("RATINGLAB_DATA"):
        return data_folder
    folder = Path(platformdirs.user_cache_dir("ratinglab", appauthor=False))
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return str(folder) if os.access(nearest, os.W_OK) else None


def _is_sweep() -> bool:
    hydra = HydraConfig.instance()
    return hydra.cfg is not None and hydra.get().mode == RunMode.MULTIRUN


def _in_search() -> bool:
    """Return whether this is a sweep whose sweeper chooses jobs by the results of earlier jobs."""
    return _is_sweep() and is_search(HydraConfig.get())
