"""The names that `ratinglab.models` exports for equations outside the package."""

import subprocess
import sys

import pytest
from conftest import environment

import ratinglab.models


@pytest.mark.parametrize("name", ratinglab.models.__all__)
def test_each_exported_name_can_be_imported(name):
    assert getattr(ratinglab.models, name).__name__ == name


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'ratinglab\.models' has no attribute 'Equasion'"):
        _ = ratinglab.models.Equasion


def test_names_of_options_are_imported_without_torch(tmp_path):
    probe = "import sys; from ratinglab.models import EquationOptions, at_least; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "False\n", done.stderr
