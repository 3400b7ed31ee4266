"""What answers at once does not import what is slow."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SLOW = ("torch", "pytorch_lightning", "pandas", "pyarrow", "tensorboard")


@pytest.mark.parametrize("script", ["train", "evaluate", "recommend", "predict"])
@pytest.mark.parametrize("argument", ["--help", "model.embeding_dim=64", "rum=x"])
def test_help_and_a_mistyped_key_import_nothing_slow(tmp_path, script, argument):
    probe = (
        "import runpy, sys\n"
        f"sys.argv = ['{script}.py', '{argument}']\n"
        "try:\n"
        f"    runpy.run_path(r'{SCRIPTS / script}.py', run_name='__main__')\n"
        "except SystemExit as end:\n"
        f"    print('status', end.code, [name for name in {SLOW} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == f"status {0 if argument == '--help' else 2} []"
