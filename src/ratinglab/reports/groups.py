"""A group of runs that differ only in seed and fold, the ranking of groups, and paired tests against the best group.

`comparison` groups runs by all recorded settings, because the runs may come from anywhere. `sweep_results` groups the
jobs of a sweep by the arguments in which they differ, and knows which jobs are missing.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.reports.averages import DECIMALS, mean_of
from ratinglab.reports.paired_tests import PairedDifference, paired_difference
from ratinglab.runs.finished_runs import FinishedRun
from ratinglab.runs.run_files import PRUNED
from ratinglab.runs.sweep_folder import SweepJob


class Group(NamedTuple):
    """Runs that differ only in `finished_runs.REPLICATES`: seed, split.seed or split.fold.

    Attributes:
        settings: the settings in which the groups of a table differ, by key.
        runs: the finished runs.
        num_missing: number of runs that the group lacks, compared with other groups: other seeds or folds.
        jobs: all jobs of the group, finished or not. Empty if the runs are not jobs of a sweep.
        behind: difference from the best testable group, or None if it was not tested.
    """

    settings: dict[str, str]
    runs: list[FinishedRun]
    num_missing: int = 0
    jobs: Sequence[SweepJob] = ()
    behind: PairedDifference | None = None

    @property
    def is_pruned(self) -> bool:
        """Whether a sweep has pruned one of the runs."""
        return any((run.folder / PRUNED).is_file() for run in self.runs)

    @property
    def is_testable(self) -> bool:
        """Whether no run is missing or pruned, so that the group can be tested against others."""
        return self.num_missing == 0 and not self.is_pruned


def rank_groups(groups: Sequence[Group], metric: MetricKind) -> list[Group]:
    """Sort groups by the mean of a metric, named by its tag, best first.

    Of groups whose printed means are equal, the one with fewer parameters is first. Groups without the metric follow.
    Groups with missing runs are last, because their means cover different rows.
    """

    def sort_key(group: Group) -> tuple[bool, float, float, float]:
        mean = mean_of(group.runs, metric.name)
        cost = math.inf if math.isnan(mean) else -mean if metric.higher_is_better else mean
        parameters = float(np.nan_to_num(mean_of(group.runs, "fit/parameters")))
        return group.num_missing > 0, round(cost, DECIMALS), parameters, cost

    return sorted(groups, key=sort_key)


def compare_with_best(groups: Sequence[Group], metric: MetricKind) -> list[Group]:
    """Test how far ranked groups are behind the best testable one in a metric, named by its tag.

    Returns the groups with `behind`, which stays None for groups that `paired_difference` cannot compare.
    """
    best = next((group for group in groups if group.is_testable), None)
    tag, higher_is_better = metric.name, metric.higher_is_better
    compared = []
    for group in groups:
        behind = None
        if best is not None and group is not best and group.is_testable:
            behind = paired_difference(best.runs, group.runs, tag=tag, higher_is_better=higher_is_better)
        compared.append(group._replace(behind=behind))
    return compared


def list_tests(groups: Sequence[Group]) -> list[str]:
    """List the names of the tests that compared the groups, each once."""
    return list(dict.fromkeys(group.behind.test for group in groups if group.behind is not None))
