"""Records (run.json): reading and writing, and one-line errors for damaged or outdated files."""

import json

import pytest
from equations import options_of
from fits import split_ratings_of
from run_folders import accept_files, metrics_of, record_of, write_record
from tables import table_with_features

from ratinglab.errors import RunFailedError, UserError
from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.files import to_json
from ratinglab.runs.record import read_metrics, read_record, write_metrics
from ratinglab.runs.run_files import RUN_FORMAT
from ratinglab.training.new_record import make_metric_records

FEATURES = {"user_features": ["group", "age"], "item_features": ["genres"]}


def record(name="svdpp", **changed):
    options = options_of(name, **({} if name in ("mf", "mean") else FEATURES))
    return record_of(options, split_ratings_of(table_with_features(), options), **changed)


def test_record_is_read_as_written(tmp_path):
    share = {"target": "my_metrics.share", "name": "share", "label": "Share", "higher_is_better": True}
    metrics = [*make_metric_records(["mse"]), share]
    written = record(metrics=metrics, monitor="val/share", fold=3, protocol={"metric": "rmse", "figures": []})
    write_record(tmp_path, written)
    found = read_record(tmp_path)
    assert found == written
    assert found.format_version == RUN_FORMAT
    assert found.equation_options() == options_of("svdpp", **FEATURES)
    # known without importing my_metrics
    assert [(kind.name, kind.higher_is_better) for kind in found.metric_kinds()] == [("mse", False), ("share", True)]
    assert found.monitored_metric() == MetricKind("share", label="Share", higher_is_better=True)


def test_equation_options_are_imported_from_model_target(tmp_path):
    write_record(tmp_path, record(model_target="my_equation.MyOptions"))
    with pytest.raises(UserError, match=r"^run\.json: model_target: there is no module my_equation; to import from "):
        read_record(tmp_path).equation_options()
    write_record(tmp_path, record(model_target="os.path.join"))
    with pytest.raises(
        UserError, match=r"model_target must be a subclass of ratinglab\..*EquationOptions, got os\.path"
    ):
        read_record(tmp_path).equation_options()


def change(folder, **changed):
    path = folder / "run.json"
    content = json.loads(path.read_text()) | changed
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))
    accept_files(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format_version": 1}, f"{{}}/run.json has format 1; this version of ratinglab reads format {RUN_FORMAT}"),
        ({"format_version": 9}, f"{{}}/run.json has format 9; this version of ratinglab reads format {RUN_FORMAT}"),
        ({"format_version": "gone"}, "{}/run.json is damaged: 'format_version'"),
        ({"num_users": "gone"}, "{}/run.json is damaged: RunRecord"),
        ({"more": 1}, "{}/run.json is damaged: RunRecord"),
        ({"fit": "gone"}, "{}/run.json is damaged: RunRecord.__init__() missing 1 required positional argument: 'fit'"),
    ],
)
def test_damaged_or_outdated_record_gives_a_one_line_error(tmp_path, changed, message):
    write_record(tmp_path, record())
    change(tmp_path, **changed)
    with pytest.raises(UserError) as error:
        read_record(tmp_path)
    assert str(error.value).startswith(message.format(tmp_path))
    assert "\n" not in str(error.value)


def test_path_without_a_run_is_refused(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").write_text("")
    for name, message in (
        ("rnus", f"run: there is no folder {tmp_path}/rnus; did you mean runs?"),
        ("runs", f"run: {tmp_path}/runs is not the folder of a run: it has no run.json"),
        ("file", f"run must be a folder, got the file {tmp_path}/file"),
    ):
        with pytest.raises(UserError) as error:
            read_record(tmp_path / name)
        assert str(error.value) == message
    (tmp_path / "runs" / "run.json").write_text("{")
    accept_files(tmp_path / "runs")
    with pytest.raises(UserError, match=r"run\.json is damaged: "):
        read_record(tmp_path / "runs")


def test_damaged_metrics_are_refused(tmp_path):
    (tmp_path / "metrics.json").write_bytes(to_json({"fit/epochs": 3, "test/mse": 0.5}))
    accept_files(tmp_path)
    assert read_metrics(tmp_path) == {"fit/epochs": 3, "test/mse": 0.5, "test/rmse": 0.5**0.5}
    for content in ("{", "[]", "{}"):
        (tmp_path / "metrics.json").write_text(content)
        with pytest.raises(UserError, match=r"metrics\.json is damaged: "):
            read_metrics(tmp_path)


def test_undefined_metrics_are_left_out_but_not_an_mse_or_the_monitored_metric(tmp_path):
    metrics = {"val/mse": 0.5, "val/correlation": float("nan"), "test/spread": float("inf"), "fit/epochs": 3}
    with pytest.raises(RunFailedError, match=r"^val/correlation is nan$"):
        write_metrics(tmp_path, metrics, monitor="val/correlation")
    with pytest.raises(RunFailedError, match=r"^test/warm/mse is inf$"):
        write_metrics(tmp_path, metrics | {"test/warm/mse": float("inf")}, monitor="val/mse")
    assert list(tmp_path.iterdir()) == []
    written = write_metrics(tmp_path, metrics, monitor="val/mse")
    assert written == metrics_of(tmp_path) == {"val/mse": 0.5, "fit/epochs": 3}
