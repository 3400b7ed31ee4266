"""How this process was started, and its rank among the processes of a fit."""

import os
import re
import shlex
import sys
import threading
from pathlib import Path


def shell_command(name: str, *arguments: str) -> str:
    """Return the shell line that runs a ratinglab command in the way in which this process was started.

    The line is "python scripts/NAME.py …" if this process runs a script in the same folder, else "ratinglab NAME …".
    """
    program = Path(sys.argv[0])
    script = program.with_name(f"{name}.py")
    is_script = program.suffix == ".py" and script.is_file()
    start = ["python", str(script)] if is_script else ["ratinglab", name]
    return " ".join(map(_quote_for_shell, [*start, *arguments]))


def _quote_for_shell(text: str) -> str:
    """Quote a text for the shell if necessary. A text with single quotes gets double quotes, which are easy to read."""
    return f'"{text}"' if "'" in text and not re.search(r'["$`\\!]', text) else shlex.quote(text)


RANK_VARIABLE = "RATINGLAB_RANK"
"""Environment variable in which rank 0 of a fit passes the rank to each process that it starts."""


def started_by_torchrun() -> bool:
    """Return whether torchrun has started this process."""
    return RANK_VARIABLE not in os.environ and "TORCHELASTIC_RUN_ID" in os.environ


def started_by_slurm() -> bool:
    """Return whether srun has started this process as one of several. This excludes interactive shells."""
    is_job = "SLURM_STEP_ID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")
    is_job = is_job and RANK_VARIABLE not in os.environ and not started_by_torchrun()
    return is_job and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def process_rank() -> int:
    """Return the rank of this process among all that were started together. The first or only process has rank 0."""
    if started_by_torchrun():
        return int(os.environ["RANK"])
    if started_by_slurm():
        return int(os.environ["SLURM_PROCID"])
    return int(os.environ.get(RANK_VARIABLE, "0"))


def relaunch_command() -> list[str]:
    """Return the command line that starts this process's command again."""
    program, *arguments = sys.argv
    if Path(program).suffix == ".py":
        return [sys.executable, program, *arguments]
    return [sys.executable, "-m", "ratinglab", program.rpartition(" ")[2], *arguments]


def exit_with_rank_zero() -> None:
    """Exit as soon as rank 0 has ended, if rank 0 has started this process."""

    def wait() -> None:
        os.read(0, 1)  # returns when the pipe is closed
        os._exit(1)

    if RANK_VARIABLE in os.environ:
        threading.Thread(target=wait, daemon=True).start()


def shown_path(path: Path) -> Path:
    """Make a path inside the working folder relative to it; return any other path unchanged."""
    inside = path.resolve().is_relative_to(Path.cwd())
    return Path(os.path.relpath(path)) if inside else path
