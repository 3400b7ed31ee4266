"""Hydra's files of a run: damage."""

import pytest

from ratinglab.errors import UserError
from ratinglab.runs.hydra_files import read_hydra


@pytest.mark.parametrize("content", ["", "0", "a: 1", "hydra:"])
def test_hydra_file_without_its_content_is_damaged(tmp_path, content):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "hydra.yaml").write_text(content)
    with pytest.raises(UserError, match=r"hydra\.yaml is damaged: its content has the wrong type$"):
        read_hydra(tmp_path)
