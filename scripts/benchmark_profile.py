"""Where the time of an epoch goes, on each path of the fit: by Adam, by sparse_adam and by block SGD.

    python scripts/benchmark_profile.py                     the demo data
    python scripts/benchmark_profile.py --root ml-100k      MovieLens 100K

Fits of biased_mf at dim 64 with validation, checkpoints and TensorBoard, as train.py makes them, in this process; the
times are a clock's around the calls named, each without the others inside it, means over the epochs.
"""

import argparse
import logging
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from time import perf_counter
from typing import Any

from hydra import compose, initialize_config_dir

from ratinglab.config.schema import VERSION_BASE, register_schemas, to_options

PATHS = {
    "adam, batches of 1,024": ["optimizer=adam", "data.batch_size=1024", "trainer.max_epochs=10"],
    "sparse_adam, batches of 8,192": ["optimizer=sparse_adam", "data.batch_size=8192", "trainer.max_epochs=10"],
    "block_sgd": ["optimizer=block_sgd", "trainer.max_epochs=50"],
}


class Clock:
    """Seconds inside the calls that it wraps, each without those of other wrapped calls inside."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside as `name`."""
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def _switch(self) -> None:
        now = perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Count the calls of a function or method as `name`."""
        inner: Callable[..., Any] = getattr(owner, attribute)

        @wraps(inner)  # Lightning looks at the arguments
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return inner(*arguments, **named)

        setattr(owner, attribute, timed)


def main() -> None:
    """Fit on each path, and print a table of shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with MovieLens 100K's u.data")
    arguments = parser.parse_args()
    from ratinglab.fitting.kernels.block_sgd import load

    load()  # before torch is imported
    clock = Clock()
    wrap_parts(clock)
    logging.disable()
    register_schemas()
    data = ["data=demo"]
    if arguments.root:
        data = ["data=movielens_100k", f"data.root={arguments.root.resolve()}", "split=movielens_u"]
    for name, path in PATHS.items():
        clock.seconds.clear()
        metrics = fit([*data, *path])
        epochs = metrics["fit/epochs"]
        total = sum(clock.seconds.values())
        print(f"\n{name}: {1000 * total / epochs:.2f} ms an epoch")
        for part, seconds in sorted(clock.seconds.items(), key=lambda entry: -entry[1]):
            print(f"  {part:44}{1000 * seconds / epochs:9.2f} ms{seconds / total:7.1%}")


def wrap_parts(clock: Clock) -> None:
    """Wrap what an epoch is made of."""
    import torch
    from pytorch_lightning import Trainer

    from ratinglab.datamodule import ShuffledBatches
    from ratinglab.fitting import block_sgd, sparse_adam
    from ratinglab.fitting.checkpoints import BestAndLast
    from ratinglab.fitting.fit import Fit
    from ratinglab.fitting.tensorboard import EventLog
    from ratinglab.metrics import ErrorSums
    from ratinglab.models.biased_mf import BiasedMF

    clock.wrap(Trainer, "fit", "Lightning, and what is not below")
    clock.wrap(BiasedMF, "forward", "predictions")
    clock.wrap(BiasedMF, "penalty", "penalty")
    clock.wrap(torch.Tensor, "backward", "backward pass")
    clock.wrap(torch.optim.Adam, "step", "optimizer's step")
    clock.wrap(sparse_adam.SparseRowAdam, "step", "optimizer's step")
    clock.wrap(ErrorSums, "update", "squared errors")
    clock.wrap(block_sgd, "epoch", "compiled loop")
    clock.wrap(Fit, "validation_step", "validation, without the predictions")
    clock.wrap(Fit, "on_train_epoch_end", "size of the weights")
    clock.wrap(BestAndLast, "_write", "checkpoints")
    clock.wrap(EventLog, "log_metrics", "TensorBoard")
    for name in ("move_to_blocks", "sort_blocks_by_user"):
        clock.wrap(block_sgd, name, "blocks, once")
    batches = ShuffledBatches.__iter__

    def timed(self: ShuffledBatches) -> Iterator[Any]:
        each = batches(self)
        while True:
            with clock.part("shuffling"):
                found = next(each, None)
            if found is None:
                return
            yield found

    ShuffledBatches.__iter__ = timed  # type: ignore[method-assign]


def fit(overrides: list[str]) -> dict[str, float]:
    """Train a run in a folder that is thrown away; its metrics."""
    from ratinglab.experiment.train import train
    from ratinglab.runs import read_metrics

    common = ["model=biased_mf", "model.embedding_dim=64", "logger.figures=false", "trainer.enable_progress_bar=false"]
    conf = str(Path(__file__).parents[1] / "conf")
    with initialize_config_dir(config_dir=conf, version_base=VERSION_BASE):
        options = to_options(compose("train", overrides=[*common, *overrides]), [])
    with tempfile.TemporaryDirectory() as folder:
        train(options, Path(folder))
        return read_metrics(Path(folder))


if __name__ == "__main__":
    main()
