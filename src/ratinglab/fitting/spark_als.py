"""Alternating least squares by Spark's MLlib, in Spark's own processes."""

import logging
import os
import re
import shutil
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from numpy.typing import NDArray

from ratinglab.batches import Batch, as_tensors
from ratinglab.errors import RunFailedError, UserError
from ratinglab.fitting.fit import FactorFit
from ratinglab.fitting.fit_options import FitSetup
from ratinglab.fitting.whole_epoch_options import SparkALSOptions
from ratinglab.formats.parquet_blocks import write_parquet
from ratinglab.models.predictor import Predictor

SHARED_FOLDER = "spark"
"""Folder of the files exchanged with Spark, in the run's folder unless optimizer.folder is set."""
LOG = "spark.log"
"""Spark's own log, copied into the run's folder after a failure."""
ROWS_AT_ONCE = 1 << 18
"""Number of rows that are written, or predicted, at once."""
CONNECT_SECONDS = 5.0
"""Time limit of a connection to a master."""
EXECUTOR_SECONDS = 120.0
"""Time limit for the first executor of a cluster."""
JAVA_ERROR = re.compile(r"(?:[a-z]\w*\.)+[A-Z]\w*(?:Exception|Error): +(\S.*)")


class SparkALSFit(FactorFit):
    """Minimize Σ (r − r̂)² + λ (‖p_u‖² + ‖q_i‖²) over the training ratings by MLlib, in a single epoch.

    MLlib weights its regParam by the number of ratings of each row, so λ and the objective are the same as under
    optimizer=als. trainer.max_epochs is its number of iterations. It starts from its own random factors of length 1,
    drawn from the run's seed, and ignores the equation's initial values and the weights of a run in `from=`.

    MLlib has no biases. For an equation with biases, MLlib fits p_u · q_i to the residuals r − (μ + b_u + b_i), where
    b_u and b_i are the bias baseline's biases, from which such an equation starts. The biases stay fixed, whereas
    optimizer=als fits them together with the factors.

    Training rows and factors are exchanged as Parquet files in a folder that is removed afterwards. Executors need
    Java, but no Python. The initial factors depend on the number of blocks and the seed. MLlib sums ratings in the
    order in which they arrive in a block, so repeated runs can differ in the last bits.

    Source: Zhou, Wilkinson, Schreiber, Pan, "Large-Scale Parallel Collaborative Filtering for the Netflix Prize", AAIM
    2008, for the weighted λ; https://spark.apache.org/docs/latest/ml-collaborative-filtering.html for the program.
    """

    def __init__(self, predictor: Predictor, setup: FitSetup, options: SparkALSOptions) -> None:
        super().__init__(predictor, setup, options)
        self.iterations, self.blocks = setup.trainer.max_epochs, options.blocks
        self._spark = SparkProcess(options)

    def connect_services(self, run_folder: Path) -> None:
        """Start Spark and connect to the master."""
        self._spark.start(run_folder)

    @torch.no_grad()
    def training_step(self, batches: list[Batch]) -> None:
        """Write the training rows, let MLlib fit them, and read the factors."""
        if not self._spark.is_running:
            self.connect_services(Path(self.trainer.default_root_dir))
        with self._spark as folder:
            with (folder / "ratings.parquet").open("wb") as file:
                write_parquet(file, self._residual_blocks())
            self._spark.call(self._fit_factors)
            for name, side in (("user", self.equation.user_side()), ("item", self.equation.item_side())):
                read_factors(folder / name, side.embedding.weight.numpy())
        self.train_mse = self._mean_squared_error()
        self.stop_early()

    def on_train_batch_end(self, outputs: object, batch: list[Batch], batch_idx: int) -> None:
        """Count the rows of every iteration, as optimizer=als does."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.rows_trained += (self.iterations - 1) * sum(self.batch_rows)

    def _rating_blocks(self) -> Iterator[Batch]:
        """Yield the training rows, ROWS_AT_ONCE at a time."""
        ratings = self.data.train_ratings_in_stars
        for block in as_tensors(ratings).split(ROWS_AT_ONCE):
            yield block
            ratings.drop_pages()

    def _residual_blocks(self) -> Iterator[Mapping[str, NDArray[Any] | None]]:
        """Yield the training rows with the residuals r − (μ + b_u + b_i) in place of ratings, in stars."""
        user_bias, item_bias = self.equation.user_side().bias, self.equation.item_side().bias
        for user, item, rating, _ in self._rating_blocks():
            residual = rating - self.equation.rating_mean
            if user_bias is not None and item_bias is not None:
                residual = residual - user_bias(user)[:, 0] - item_bias(item)[:, 0]
            yield {"user": user.numpy(), "item": item.numpy(), "rating": residual.numpy()}

    def _fit_factors(self, session: Any, folder: Path) -> None:
        """Run MLlib on the files, and let it write the factors."""
        from pyspark.ml.recommendation import ALS

        als = ALS(
            rank=self.equation.user_side().embedding.embedding_dim,
            maxIter=self.iterations,
            regParam=self.equation.regularization,
            numUserBlocks=self.blocks,
            numItemBlocks=self.blocks,
            userCol="user",
            itemCol="item",
            ratingCol="rating",
            seed=self.seed,
        )
        # without checkpoints, the plan of many iterations overflows the JVM's stack
        session.sparkContext.setCheckpointDir((folder / "checkpoints").as_uri())
        model = als.fit(session.read.parquet((folder / "ratings.parquet").as_uri()))
        model.userFactors.write.parquet((folder / "user").as_uri())
        model.itemFactors.write.parquet((folder / "item").as_uri())

    def _mean_squared_error(self) -> float:
        """Compute the MSE of the training rows, in squared stars."""
        squares = 0.0
        for user, item, rating, _ in self._rating_blocks():
            squares += float((self.equation(user, item) - rating).double().square().sum())
        return squares / len(self.data.train_ratings_in_stars)


def read_factors(folder: Path, rows: NDArray[np.float32]) -> None:
    """Read the factors that Spark has written into the rows of a side: (num_rows, D) float32.

    Raises:
        RunFailedError: rows are missing, because executors wrote them into a folder of their own.
    """
    is_read = np.zeros(len(rows), dtype=bool)
    for path in sorted(folder.glob("part-*")):
        with pyarrow.parquet.ParquetFile(path) as content:
            for batch in content.iter_batches():
                index = batch.column("id").to_numpy()
                rows[index] = batch.column("features").flatten().to_numpy().reshape(len(index), rows.shape[1])
                is_read[index] = True
    if not is_read.all():
        raise RunFailedError(
            f"{folder} has {int(is_read.sum()):,} of {len(rows):,} rows of factors; all nodes must see the same "
            "optimizer.folder"
        )


class SparkProcess:
    """A JVM with its own Spark session, and the folder of the files exchanged with it.

    The JVM reads a pipe from this process, so it ends with this process, even after SIGKILL. A `with` block ends the
    JVM and removes the folder.
    """

    def __init__(self, options: SparkALSOptions) -> None:
        """Keep the settings for `start`."""
        self._options = options
        self._session: Any = None
        self._gateway: Any = None

    @property
    def is_running(self) -> bool:
        """Whether `start` has succeeded and `__exit__` has not been called."""
        return self._session is not None

    def start(self, run_folder: Path) -> None:
        """Start the JVM and connect to the master.

        `run_folder` holds Spark's log and, unless there is another folder, the exchanged files.

        Raises:
            UserError: Java is missing, the folder cannot be written, or Spark cannot use the master or a setting.
        """
        java = "java" if "JAVA_HOME" not in os.environ else f"{os.environ['JAVA_HOME']}/bin/java"
        if shutil.which(java) is None:
            raise UserError(f"optimizer=spark_als needs Java 17 or newer; there is no {java}")
        check_reachable(self._options.master)
        self._folder, self._log_copy = self._make_folder(run_folder), run_folder / LOG
        self._log_copy.unlink(missing_ok=True)  # an interrupted run left it
        with ExitStack() as after_failure:
            after_failure.callback(self._end)
            try:
                self._connect()
                self._wait_for_executors()
            except UserError:
                raise
            except Exception as error:
                raise UserError(f"optimizer.master={self._options.master}: {self._describe_failure(error)}") from error
            after_failure.pop_all()

    def __enter__(self) -> Path:
        return self._folder

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            shutil.copyfile(self._folder / LOG, self._log_copy)
        self._end()

    def call(self, function: Callable[[Any, Path], None]) -> None:
        """Call a function with the session and the folder.

        Raises:
            RunFailedError: Spark failed.
        """
        try:
            function(self._session, self._folder)
        except Exception as error:
            reason = self._describe_failure(error)
            raise RunFailedError(f"Spark failed: {reason}; its log is {self._log_copy}") from error

    def _make_folder(self, run_folder: Path) -> Path:
        """Make the folder of exchanged files. Removes the folder of an interrupted run."""
        if (parent := self._options.folder) is not None:
            try:
                return Path(mkdtemp(prefix="ratinglab-", dir=Path(parent).expanduser().absolute()))
            except OSError as error:
                raise UserError(f"optimizer.folder: {parent} cannot be written: {error.strerror}") from error
        folder = run_folder.absolute() / SHARED_FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _collect_settings(self) -> dict[str, str]:
        """Collect Spark's settings. Settings in optimizer.conf override the ones made here."""
        is_local = self._options.master.startswith("local")
        return {
            "spark.master": self._options.master,
            "spark.app.name": "ratinglab",
            "spark.ui.enabled": "false",  # it would listen on all interfaces
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.warehouse.dir": (self._folder / "warehouse").as_uri(),
            **({"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"} if is_local else {}),
            **(self._options.conf or {}),
        }

    def _connect(self) -> None:
        """Start the JVM and the session, with all output in the log."""
        from pyspark import SparkConf, SparkContext
        from pyspark.java_gateway import launch_gateway
        from pyspark.sql import SparkSession

        warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")  # unused here
        logging.getLogger("py4j").setLevel(logging.WARNING)
        if SparkContext._active_spark_context is not None:
            raise UserError("optimizer=spark_als starts Spark itself: stop the active SparkContext first")
        conf = SparkConf(loadDefaults=False).setAll(list(self._collect_settings().items()))
        with (self._folder / LOG).open("wb") as log:
            # in its own session, so that a signal to the process group does not end Spark before StopOnSignal acts
            popen = {"stdout": log, "stderr": log, "start_new_session": True}
            self._gateway = launch_gateway(conf, popen_kwargs=popen)
        handler = signal.getsignal(signal.SIGINT)
        context = SparkContext(conf=conf, gateway=self._gateway)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)  # pyspark has set its own
        context.setLogLevel("WARN")
        self._session = SparkSession(context)

    def _wait_for_executors(self) -> None:
        """Wait for the first executor of a cluster, since Spark would wait forever without executors.

        Raises:
            UserError: none has started in time.
        """
        context, master = self._session.sparkContext, self._options.master
        if master.startswith("local") or context.getConf().get("spark.dynamicAllocation.enabled") == "true":
            return
        end = time.monotonic() + EXECUTOR_SECONDS
        while context._jsc.sc().getExecutorMemoryStatus().size() < 2:  # the driver also counts
            if time.monotonic() > end:
                raise UserError(
                    f"optimizer.master={master} has started no executor in {EXECUTOR_SECONDS:.0f} s; "
                    "it may not have the memory or cores that optimizer.conf asks for"
                )
            time.sleep(0.2)

    def _describe_failure(self, error: Exception) -> str:
        """Describe a failure in one line, from Spark's exception or, if the JVM has ended, from the log."""
        log = (self._folder / LOG).read_text(encoding="utf-8", errors="replace")
        has_ended = self._gateway is None or (self._gateway.proc is not None and self._gateway.proc.poll() is not None)
        logged = JAVA_ERROR.findall(log)
        if "java.lang.OutOfMemoryError" in log:
            return "out of memory (java.lang.OutOfMemoryError); optimizer.conf sets spark.driver.memory and others"
        reasons = logged[-1:] if has_ended else JAVA_ERROR.findall(str(error))[:1]
        if has_ended and not reasons:  # Java has refused an argument, or the process was killed
            reasons = [line for line in log.splitlines() if line.startswith(("Error", "Invalid"))][:1]
        text = reasons[0] if reasons else "its JVM has ended" if has_ended else str(error)
        return " ".join(text.split())[:300]

    def _end(self) -> None:
        """End the session and the JVM, and remove the folder."""
        from pyspark import SparkContext

        gateway, session = self._gateway, self._session
        self._gateway = self._session = None
        try:
            if session is not None:
                session.stop()
        except Exception:  # the JVM has ended
            SparkContext._active_spark_context = None
        if gateway is not None and gateway.proc is not None:
            gateway.shutdown()
            gateway.proc.stdin.close()
            try:
                gateway.proc.wait(timeout=10)
            except Exception:
                gateway.proc.kill()
                gateway.proc.wait()
            SparkContext._gateway = SparkContext._jvm = None
        shutil.rmtree(self._folder, ignore_errors=True)


def check_reachable(master: str) -> None:
    """Raise UserError if no host of a spark:// or k8s:// master accepts connections. Spark would try for a minute."""
    match = re.fullmatch(r"(?:spark|k8s)://(?:(?P<scheme>https?)://)?(?P<addresses>[^/]+)/?", master)
    if match is None:
        return
    failures = []
    default_ports = {"spark": 7077, "k8s": 80 if match["scheme"] == "http" else 443}
    for address in match["addresses"].split(","):
        host, _, port = address.rpartition(":") if re.search(r":\d+$", address) else (address, "", "")
        port_number = int(port or default_ports[master.partition(":")[0]])
        try:
            socket.create_connection((host.strip("[]"), port_number), timeout=CONNECT_SECONDS).close()
        except (OSError, OverflowError, UnicodeError) as error:
            failures.append(f"{address}: {getattr(error, 'strerror', None) or error}")
        else:
            return
    raise UserError(f"optimizer.master={master} cannot be reached: {'; '.join(failures)}")
