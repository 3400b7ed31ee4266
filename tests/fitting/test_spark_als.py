"""MLlib's ALS: the objective of optimizer=als, fixed biases, one line for each mistake, and no JVM left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from fits import TRAINER, fit, objective
from pytorch_lightning import Callback
from tables import table_with_features

from ratinglab import errors
from ratinglab.batches import as_tensors
from ratinglab.errors import RunFailedError, UserError
from ratinglab.fitting.spark_als import SparkProcess, check_reachable, read_factors
from ratinglab.fitting.whole_epoch_options import ALSOptions, SparkALSOptions
from ratinglab.models.biased_mf import BiasedMFOptions
from ratinglab.models.mf import MFOptions

OPTIMIZER = SparkALSOptions(master="local[2]", blocks=2, folder=None, conf={"spark.driver.memory": "512m"})
MF = MFOptions(embedding_dim=1, regularization=0.1, init_std=0.1)
BIASED = BiasedMFOptions(embedding_dim=1, regularization=0.1, init_std=0.1, user_features=[], item_features=[])

needs_spark = pytest.mark.skipif(find_spec("pyspark") is None, reason="needs pip install 'ratinglab[spark]'")


def fitted(model, *, callbacks=()):
    trainer = replace(TRAINER, max_epochs=30)
    return fit(model, OPTIMIZER, table_with_features(), epochs=1, trainer=trainer, callbacks=callbacks)


def jvms() -> list[int]:
    """List the JVMs below this process."""
    pgrep = subprocess.run(["pgrep", "-P", str(os.getpid()), "java"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in pgrep.stdout.split()]


@needs_spark
@pytest.mark.slow
def test_minimum_is_that_of_als(tmp_path, monkeypatch):
    """From different starts, both reach the minimum of the equation's own objective."""
    monkeypatch.chdir(tmp_path)
    by_spark = fitted(MF)
    by_als = fit(MF, ALSOptions(damping=0.0), table_with_features(), epochs=30)
    expected = float(objective(by_als.equation, by_als.data).detach())
    assert float(objective(by_spark.equation, by_spark.data).detach()) == pytest.approx(expected, rel=1e-4)
    assert is_stationary(by_spark)
    assert jvms() == []
    assert list(tmp_path.iterdir()) == []  # neither files for Spark nor its log


def is_stationary(run) -> bool:
    """Return whether the gradient of the objective is close to 0."""
    objective(run.equation, run.data).backward()
    return all(float(weights.grad.abs().max()) < 1e-3 for weights in run.equation.parameters())


class StartBiases(Callback):
    """Biases at which the fit starts, as those of the bias baseline in a run."""

    def on_fit_start(self, trainer, pl_module):
        equation = pl_module.predictor.model
        self.user = torch.linspace(-1, 1, equation.user_bias.num_embeddings)
        self.item = torch.linspace(-1, 1, equation.item_bias.num_embeddings)
        equation.start_from_baseline(self.user, self.item)


@needs_spark
@pytest.mark.slow
def test_biases_stay_and_residuals_are_fitted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = StartBiases()
    run = fitted(BIASED, callbacks=[start])
    for bias, before in ((run.equation.user_bias, start.user), (run.equation.item_bias, start.item)):
        assert torch.equal(bias.weight[:, 0], before)
    objective(run.equation, run.data).backward()
    assert float(run.equation.user_embedding.weight.grad.abs().max()) < 1e-3
    user, item, rating, _ = as_tensors(run.data.train_ratings_in_stars)
    with torch.no_grad():
        assert run.module.train_mse == pytest.approx(float((run.equation(user, item) - rating).square().mean()))


@pytest.mark.parametrize("model", [MF, BIASED])
def test_rows_without_a_unique_solution_and_features_are_refused(monkeypatch, model):
    monkeypatch.setattr(errors, "find_spec", lambda name: name)
    with pytest.raises(UserError, match=r"^model\.regularization must be above 0 with optimizer=spark_als, got 0\.0$"):
        OPTIMIZER.check(model=replace(model, regularization=0.0), trainer=TRAINER)
    with pytest.raises(UserError, match=r"^model\.user_features must be \[\] with optimizer=spark_als, got \[age\]$"):
        OPTIMIZER.check(model=replace(BIASED, user_features=["age"]), trainer=TRAINER)


def test_missing_pyspark_is_one_line(monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^optimizer=spark_als needs pyspark: pip install 'ratinglab\[spark\]'$"):
        OPTIMIZER.check(model=MF, trainer=TRAINER)


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        (
            {"driver.memory": "4g"},
            r"^optimizer\.conf must hold names such as spark\.driver\.memory, got driver\.memory$",
        ),
        ({"spark.master": "yarn"}, r"^optimizer\.conf must not hold spark\.master; set optimizer\.master$"),
    ],
)
def test_settings_of_another_form_are_refused(conf, message):
    with pytest.raises(UserError, match=message):
        replace(OPTIMIZER, conf=conf).check_together()


def test_missing_java_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(
        UserError, match=rf"^optimizer=spark_als needs Java 17 or newer; there is no {tmp_path}/bin/java$"
    ):
        process().start(tmp_path)
    assert list(tmp_path.iterdir()) == []


def process(master="local[1]", folder=None, conf=None) -> SparkProcess:
    return SparkProcess(replace(OPTIMIZER, master=master, folder=folder, conf=conf or OPTIMIZER.conf))


@pytest.fixture
def java(tmp_path_factory, monkeypatch):
    """A file in place of Java, for checks that come before it is started."""
    home = tmp_path_factory.mktemp("java")
    (home / "bin").mkdir()
    (home / "bin" / "java").touch(mode=0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))


def test_folder_that_cannot_be_written_is_one_line(java, tmp_path):
    with pytest.raises(UserError, match=r"^optimizer\.folder: .*/none cannot be written: No such file or directory$"):
        process(folder=str(tmp_path / "none")).start(tmp_path)


@pytest.fixture
def closed_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server.getsockname()[1]  # bound, but it does not listen


@pytest.mark.parametrize("form", ["spark://127.0.0.1:{0}", "k8s://https://127.0.0.1:{0}", "k8s://127.0.0.1:{0}"])
def test_master_that_cannot_be_reached_is_one_line(closed_port, form):
    master = form.format(closed_port)
    expected = rf"^optimizer\.master={master} cannot be reached: 127\.0\.0\.1:{closed_port}: Connection refused$"
    with pytest.raises(UserError, match=expected):
        check_reachable(master)


def test_one_of_several_masters_is_enough(closed_port):
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_reachable(f"spark://127.0.0.1:{closed_port},127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("master", ["local[2]", "local[*]", "yarn"])
def test_other_masters_are_left_to_spark(master):
    check_reachable(master)


@needs_spark
@pytest.mark.slow
@pytest.mark.parametrize(
    ("master", "conf", "message"),
    [
        ("loca[2]", None, r"^optimizer\.master=loca\[2\]: Master must either be yarn or start with spark, "),
        ("local[x]", None, r"^optimizer\.master=local\[x\]: Could not parse Master URL: 'local\[x\]'$"),
        ("local[1]", {"spark.driver.memory": "lots"}, r"^optimizer\.master=local\[1\]: Invalid maximum heap"),
    ],
)
def test_spark_says_what_is_wrong_and_leaves_nothing(tmp_path, master, conf, message):
    with pytest.raises(UserError, match=message):
        process(master, conf=conf).start(tmp_path)
    assert jvms() == []
    assert list(tmp_path.iterdir()) == []


@needs_spark
@pytest.mark.slow
def test_death_of_the_jvm_is_one_line_with_its_log(tmp_path):
    spark = process()
    spark.start(tmp_path)
    handler = signal.getsignal(signal.SIGINT)

    def die(session, folder):
        os.kill(jvms()[0], signal.SIGKILL)
        session.range(10).count()

    with pytest.raises(RunFailedError, match=rf"^Spark failed: .*; its log is {tmp_path}/spark\.log$"), spark:
        spark.call(die)
    assert [path.name for path in tmp_path.iterdir()] == ["spark.log"]
    assert handler is signal.default_int_handler  # pyspark's own is gone
    assert not spark.is_running


@needs_spark
@pytest.mark.slow
def test_jvm_ends_with_a_killed_process(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom ratinglab.fitting.spark_als import SparkProcess\n"
        "from ratinglab.fitting.whole_epoch_options import SparkALSOptions\n"
        "options = SparkALSOptions(master='local[1]', blocks=1, folder=None, conf=None)\n"
        f"spark = SparkProcess(options)\nspark.start(Path({str(tmp_path)!r}))\n"
        "print(spark._gateway.proc.pid, flush=True)\ntime.sleep(600)\n"
    )
    source = str(Path(errors.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source}
    python = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    pid = int(python.stdout.readline())
    python.kill()
    python.wait()
    end = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_factors_are_read_by_id_and_missing_rows_are_named(tmp_path):
    for number, ids in enumerate([[2, 0], [3]]):
        features = pa.array([[float(id_), 10.0 * id_] for id_ in ids], type=pa.list_(pa.float32()))
        table = pa.table({"id": pa.array(ids, type=pa.int32()), "features": features})
        pyarrow.parquet.write_table(table, tmp_path / f"part-{number}.parquet")
    rows = np.full((4, 2), -1, dtype=np.float32)
    with pytest.raises(
        RunFailedError, match=r"has 3 of 4 rows of factors; all nodes must see the same optimizer\.folder$"
    ):
        read_factors(tmp_path, rows)
    assert rows.tolist() == [[0, 0], [-1, -1], [2, 20], [3, 30]]
