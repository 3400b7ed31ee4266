"""The program that runs: a script of scripts/, or the installed `ratinglab`."""

import os
import shlex
import sys
from pathlib import Path


def shell_command(name: str, *arguments: str) -> str:
    """Return the shell command that starts a command of ratinglab the way this process was started.

    "python scripts/NAME.py …" beside the script of this process, else "ratinglab NAME …".
    """
    program = Path(sys.argv[0])
    script = program.with_name(f"{name}.py")
    is_script = program.suffix == ".py" and script.is_file()
    return shlex.join([*(["python", str(script)] if is_script else ["ratinglab", name]), *arguments])


def shown_path(path: Path) -> Path:
    """Return a path relative to the working folder, if it is inside, else unchanged."""
    inside = path.resolve().is_relative_to(Path.cwd())
    return Path(os.path.relpath(path)) if inside else path
