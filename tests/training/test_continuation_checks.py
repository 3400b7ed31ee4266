"""Checks before a run is resumed or reproduced, on runs that were not trained."""

import logging
from dataclasses import replace

import pytest
from equations import options_of
from hydra.core.override_parser.overrides_parser import OverridesParser
from run_folders import PROVENANCE, edit_record, write_run_of
from tables import table_with_features

from ratinglab.config.earlier_run import find_reproduced_run, find_resumed_run
from ratinglab.errors import UserError
from ratinglab.runs.record import read_record
from ratinglab.runs.run_files import RUN_FORMAT
from ratinglab.training.continuation import check_same_data_and_metrics


@pytest.fixture
def folder(tmp_path):
    write_run_of(tmp_path / "run", options_of("svdpp", item_features=["genres"]), table_with_features())
    return tmp_path / "run"


def test_check_same_data_and_metrics_returns_the_saved_record(folder):
    record = read_record(folder)
    longer = replace(record, max_epochs=9)
    assert check_same_data_and_metrics(folder, longer, key="resume") == record


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("data_digest", "the data have changed"),
        ("split", "the split has changed"),
        ("side_digest", "the side information has changed"),
    ],
)
def test_check_same_data_and_metrics_refuses_changed_provenance(folder, key, change):
    record = replace(read_record(folder), provenance=PROVENANCE | {key: "other"})
    with pytest.raises(UserError) as error:
        check_same_data_and_metrics(folder, record, key="resume")
    assert str(error.value) == f"resume: {change} since {folder} was started: {PROVENANCE[key]} then, other now"


def test_changed_metrics_are_refused(folder):
    record = replace(read_record(folder), monitor="val/other")
    with pytest.raises(UserError, match=r"^resume: the metrics or their directions have changed since "):
        check_same_data_and_metrics(folder, record, key="resume")


THREADS = "the number of threads differs from when the run was started"


@pytest.mark.parametrize(
    ("provenance", "change", "differing"),
    [
        ({}, {}, []),
        ({"versions": {"torch": "0"}}, {}, ["the versions of the packages differ from when the run was started"]),
        ({"cpu": "znver4"}, {}, ["the processor is znver4; the run was started on skylake"]),
        ({"threads": 2}, {}, []),
        ({"threads": 2}, {"model_target": "lab.autorec.AutoRecOptions"}, [THREADS]),
        ({"threads": 2}, {"fit": {"optimizer": "spark_als"}}, [THREADS]),
        ({"threads": 2}, {"fit": {"optimizer": "lbfgs"}}, [THREADS]),
    ],
)
def test_notes_name_what_can_change_the_last_bits(folder, caplog, provenance, change, differing):
    record = replace(read_record(folder), provenance=PROVENANCE | provenance, **change)
    with caplog.at_level(logging.INFO):
        check_same_data_and_metrics(folder, record, key="resume")
    assert caplog.messages == [f"note: {text}; results may not match bit for bit" for text in differing]


def test_run_of_another_format_cannot_be_resumed_or_reproduced(folder):
    edit_record(folder, format_version=2)
    for key, find_run in (("resume", find_resumed_run), ("run", find_reproduced_run)):
        with pytest.raises(UserError) as error:
            find_run(OverridesParser.create().parse_overrides([f"{key}={folder}"]))
        expected = f"{folder}/run.json has format 2; this version of ratinglab reads format {RUN_FORMAT}"
        assert str(error.value) == expected
