"""Imports at startup: --help and a mistyped key load no slow packages."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"
SLOW = ("torch", "pytorch_lightning", "pandas", "pyarrow", "tensorboard")


def run_and_list_imports(tmp_path, *command_lines):
    """Run command lines one by one in one process; return how each ends and the slow packages loaded by then."""
    probe = (
        "import runpy, sys\n"
        f"for script, argument in {command_lines!r}:\n"
        "    sys.argv = [f'{script}.py', argument]\n"
        "    try:\n"
        f"        runpy.run_path(rf'{SCRIPTS}/{{script}}.py', run_name='__main__')\n"
        "        print('end')\n"
        "    except SystemExit as end:\n"
        "        print('status', end.code)\n"
        f"    print([name for name in {SLOW} if name in sys.modules])\n"
    )
    started = [sys.executable, "-c", probe]
    environ = environment(tmp_path)  # this checkout's code, whatever is installed
    done = subprocess.run(started, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    return [line for line in done.stdout.splitlines() if line == "end" or line.startswith(("status ", "["))]


def test_help_and_mistyped_keys_import_no_slow_packages(tmp_path):
    scripts = ("train", "evaluate", "recommend", "similar", "predict", "export", "serve")
    arguments = ("model.embeding_dim=64", "rum=x", "--help")
    lines = run_and_list_imports(tmp_path, *((script, argument) for script in scripts for argument in arguments))
    assert lines == len(scripts) * ["status 2", "[]", "status 2", "[]", "end", "[]"]


def test_wrong_value_of_an_equation_imports_only_torch(tmp_path):
    assert run_and_list_imports(tmp_path, ("train", "model.embedding_dim=abc")) == ["status 2", "['torch']"]


def test_compiled_fits_share_the_openmp_of_torch_and_load_only_their_own_loops(tmp_path):
    probe = (
        "import sys\n"
        "from ratinglab.config.job import compose_call\n"
        "compose_call(['model=biased_mf', 'optimizer=als'], config_dir=None)\n"
        "maps = open('/proc/self/maps').read().split()\n"
        "print(len({path for path in maps if 'libgomp' in path}), 'torch' in sys.modules)\n"
        "print('ratinglab.kernels.block_steps' in sys.modules)\n"
    )
    started = [sys.executable, "-c", probe]
    environ = environment(tmp_path)
    done = subprocess.run(started, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["1", "True", "False"], done.stderr
