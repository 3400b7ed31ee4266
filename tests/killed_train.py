"""Script of a train command that is killed while it writes a checkpoint."""

import os
from pathlib import Path

CODE = """
import os, runpy, signal, sys

replace, count = os.replace, 0

def replace_or_die(source, target):
    global count
    count += str(target).endswith('.ckpt')
    if count == {number}:
        with open(source, 'r+b') as file: file.truncate(1000)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = replace_or_die
runpy.run_path({script!r}, run_name='__main__')
"""
TRAIN = Path(__file__).parents[1] / "scripts" / "train.py"


def write_killed_train(folder: Path, *, number: int) -> str:
    """Write a train script that kills itself at its n-th checkpoint; return its path as `command` takes it."""
    (folder / "killed.py").write_text(CODE.format(number=number, script=os.fspath(TRAIN)))
    return os.fspath(folder / "killed")
