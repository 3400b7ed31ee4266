"""The event file of a run for TensorBoard."""

import errno
import logging
import os
import time

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from ratinglab.fitting.loggers.logger_options import TensorBoardOptions
from ratinglab.fitting.loggers.tensorboard import EventLog, write_band

OPTIONS = TensorBoardOptions(figures=True, data_figures=True, projector_items=0)


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_results_after_the_fit_are_logged_to_the_same_file(tmp_path):
    log = EventLog(tmp_path, OPTIONS, first_epoch=1)
    log.log_metrics({"val/mse": 2.0}, 1)
    log.finalize("success")  # Lightning, when the fit ends
    log.log_results({"lr": 0.1}, {"test/mse": 3.0}, step=1)
    log.close()
    assert len(list(tmp_path.glob("events.*"))) == 1
    assert scalars(tmp_path) == {"val/mse": [(1, 2.0)], "MSE/val": [(1, 2.0)], "test/mse": [(1, 3.0)]}


def test_resumed_log_replaces_the_epochs_it_repeats(tmp_path):
    first = EventLog(tmp_path, OPTIONS, first_epoch=1)
    for epoch in (1, 2, 3):
        first.log_metrics({"val/mse": float(epoch)}, epoch)
    first.close()
    time.sleep(1 - time.time() % 1)  # names of files of one second sort by a counter, in which 10 comes before 9
    second = EventLog(tmp_path, OPTIONS, first_epoch=3)
    for epoch in (3, 4):
        second.log_metrics({"val/mse": 10.0 * epoch}, epoch)
    second.close()
    assert scalars(tmp_path)["val/mse"] == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]


def test_embeddings_of_an_extended_run_are_kept_beside_the_first_ones(tmp_path, capsys):
    for step in (2, 4):
        log = EventLog(tmp_path, OPTIONS, first_epoch=step)
        log.log_embeddings("items", torch.ones(2, 3), columns=["id"], labels=[["1"], ["2"]], step=step)
        log.close()
    assert capsys.readouterr().out == ""  # torch warns if it writes into the same folder again
    assert [path.parts[-3] for path in sorted(tmp_path.glob("*/items/tensors.tsv"))] == ["00002", "00004"]


def test_log_that_cannot_be_written_gives_one_warning(tmp_path, monkeypatch, caplog):
    log = EventLog(tmp_path, OPTIONS, first_epoch=1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    with caplog.at_level(logging.WARNING):
        for epoch in (1, 2, 3):
            log.log_metrics({"val/mse": 1.0}, epoch)
        log.log_results({"lr": 0.1}, {"test/mse": 3.0}, step=3)
        log.close()
    messages = [record.message for record in caplog.records]
    reason = "No space left on device; the run continues without it"
    assert messages == [f"warning: could not write to TensorBoard's event file: {reason}"]


@pytest.mark.parametrize("value", [1, 0.5, "adam", None, True])
def test_hyperparameter_of_any_type_is_logged(tmp_path, value):
    log = EventLog(tmp_path, OPTIONS, first_epoch=1)
    log.log_results({"key": value}, {"test/mse": 1.0}, step=1)
    log.close()
    assert scalars(tmp_path) == {"test/mse": [(1, 1.0)]}


def test_mean_curve_with_a_band_is_a_run_of_its_own(tmp_path):
    band = pd.DataFrame({"mean": [2.0, 1.0], "low": [1.5, 0.9], "high": [2.5, 1.1]}, index=[1, 3])
    write_band(tmp_path / "mean", band, title="val MSE")
    (events,) = (tmp_path / "mean").iterdir()
    events_read = EventAccumulator(str(events)).Reload()
    for column in band:
        points = events_read.Scalars(f"with_interval/{column}")
        assert [(point.step, point.value) for point in points] == [
            (step, pytest.approx(value)) for step, value in band[column].items()
        ]
    layout = events_read.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert all(text in layout for text in (b"val MSE", b"with_interval/mean", b"with_interval/low"))
