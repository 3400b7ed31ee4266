"""The running program: a script in scripts/, or the installed `ratinglab`."""

import os
import shlex
import sys
from pathlib import Path


def shell_command(name: str, *arguments: str) -> str:
    """Return the shell line that runs a ratinglab command in the way this process was started.

    "python scripts/NAME.py …" if this process is a script beside it, else "ratinglab NAME …".
    """
    program = Path(sys.argv[0])
    script = program.with_name(f"{name}.py")
    is_script = program.suffix == ".py" and script.is_file()
    return shlex.join([*(["python", str(script)] if is_script else ["ratinglab", name]), *arguments])


def shown_path(path: Path) -> Path:
    """Make a path relative to the working folder if it is inside; return any other unchanged."""
    inside = path.resolve().is_relative_to(Path.cwd())
    return Path(os.path.relpath(path)) if inside else path
