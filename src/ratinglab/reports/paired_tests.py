"""Paired tests of the difference between two configurations: over the same folds, or over the same rows."""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ratinglab.files import VALIDATION_FIT
from ratinglab.reports.finished_runs import FinishedRun
from ratinglab.runs.storage import PARTS, part_sizes, read_squared_errors

NUM_RESAMPLES, MAX_BLOCKS = 2000, 1000


class PairedDifference(NamedTuple):
    """Mean difference of a metric, other − best, with its 95 % confidence interval.

    Attributes:
        mean, low, high: the mean difference and its interval, in the units of the metric.
        p: two-sided p-value of no difference.
        test: the test, and over what.
    """

    mean: float
    low: float
    high: float
    p: float
    test: str

    @property
    def text(self) -> str:
        """The mean and half the width of the interval."""
        return f"{self.mean:.4f} ± {(self.high - self.low) / 2:.4f}"


def paired_difference(
    best: Sequence[FinishedRun], other: Sequence[FinishedRun], *, tag: str
) -> PairedDifference | None:
    """Test the difference of a metric between the runs of two configurations.

    Runs are paired by their split, and runs of one split are averaged, such as over seeds. With several splits it is
    Nadeau and Bengio's corrected t test over these; with one, and MSE, a bootstrap of the paired squared errors.

    Returns:
        The difference; None if they share no split, or the runs have not kept their predictions.
    """
    part, _, name = tag.partition("/")
    runs, others = _by_split(best), _by_split(other)
    shared = [split for split in runs if split in others]
    if len(shared) > 1:
        differences = [
            np.mean([run.metrics[tag] for run in others[split]]) - np.mean([run.metrics[tag] for run in runs[split]])
            for split in shared
        ]
        sizes = part_sizes(runs[shared[0]][0].folder)
        return corrected_t(np.array(differences), share=sizes[PARTS.index(part)] / sizes[0])
    if not shared or name != "mse":
        return None
    errors = [_squared_errors(group[shared[0]], part) for group in (runs, others)]
    if errors[0] is None or errors[1] is None:
        return None
    return bootstrap(errors[1] - errors[0])


def _by_split(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Group runs by the identity of their split, which includes the fold."""
    found: defaultdict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        found[run.record.provenance["split"]].append(run)
    return dict(found)


def _squared_errors(runs: Sequence[FinishedRun], part: str) -> NDArray[np.float64] | None:
    """Average the squared error of each row over runs, such as over seeds."""
    found = [read_squared_errors(_folder(run, part), part) for run in runs]
    kept = [errors for errors in found if errors is not None]
    return np.mean(kept, axis=0) if len(kept) == len(runs) else None


def _folder(run: FinishedRun, part: str) -> Path:
    """Return the folder with the predictions of a part: with two fits, the first one predicts the validation rows."""
    is_refitted = part == "val" and run.record.refit_epochs is not None
    return run.folder / VALIDATION_FIT if is_refitted else run.folder


def corrected_t(differences: NDArray[np.float64], *, share: float) -> PairedDifference:
    """Nadeau and Bengio's corrected t test (2003): t = d̄ / √((1/k + n₂/n₁) s²), with k − 1 degrees of freedom.

    Training sets of different folds overlap, so the plain t test's variance s²/k is too small.

    Args:
        differences: (k,) difference in each split, k ≥ 2.
        share: n₂/n₁, the number of rows evaluated over the number of rows trained on.
    """
    count, mean = len(differences), float(differences.mean())
    scale = float(np.sqrt((1 / count + share) * differences.var(ddof=1)))
    half_width = stats.t.ppf(0.975, count - 1) * scale
    p = 2 * stats.t.sf(abs(mean) / scale, count - 1) if scale > 0 else float(mean == 0)
    test = f"Nadeau and Bengio's corrected t test over {count} splits"
    return PairedDifference(mean, mean - half_width, mean + half_width, float(p), test)


def bootstrap(differences: NDArray[np.float64]) -> PairedDifference:
    """Bootstrap the mean of paired differences: the 2.5 % and 97.5 % quantiles of resampled means.

    It resamples blocks of neighbouring rows, at most MAX_BLOCKS, with a fixed seed.

    Args:
        differences: (N,) difference of the squared errors of each row.
    """
    blocks = np.array_split(differences, min(len(differences), MAX_BLOCKS))
    sums, sizes = np.array([(block.sum(), len(block)) for block in blocks], dtype=np.float64).T
    drawn = _drawn(len(blocks))
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means, [0.025, 0.975])
    p = min(1.0, 2 * max(min((means <= 0).mean(), (means >= 0).mean()), 1 / NUM_RESAMPLES))
    test = f"a bootstrap of the paired squared errors of {len(differences):,} rows"
    return PairedDifference(float(differences.mean()), float(low), float(high), float(p), test)


@lru_cache(maxsize=1)
def _drawn(count: int) -> NDArray[np.float64]:
    """Draw how often each of `count` blocks is in each resample: (NUM_RESAMPLES, count)."""
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=NUM_RESAMPLES)
    return drawn.astype(np.float64)  # for a product in BLAS
