"""Script of a train command that is killed while it writes a checkpoint."""

import os
from pathlib import Path

CODE = """
import os, runpy, signal, sys

own, count = os.replace, 0

def die_in_time(source, target):
    global count
    count += str(target).endswith('.ckpt')
    if count == {number}:
        with open(source, 'r+b') as file: file.truncate(1000)
        os.kill(os.getpid(), signal.SIGKILL)
    own(source, target)

os.replace = die_in_time
runpy.run_path({script!r}, run_name='__main__')
"""
TRAIN = Path(__file__).parents[1] / "scripts" / "train.py"


def dying_train(folder: Path, *, number: int) -> str:
    """Write a train.py that kills itself at its n-th checkpoint; return its path in the form that `command` takes."""
    (folder / "dies.py").write_text(CODE.format(number=number, script=os.fspath(TRAIN)))
    return os.fspath(folder / "dies")
