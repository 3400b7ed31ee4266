from hydra.core.override_parser.overrides_parser import OverridesParser

from ratinglab.config.sweep_jobs import MAX_CHECKED_JOBS, jobs_to_check


def parsed(*overrides):
    return OverridesParser.create().parse_overrides(list(overrides))


def test_all_jobs_of_a_small_sweep_are_checked():
    jobs = list(jobs_to_check(parsed("a=1,2", "b=x,y", "c=[1,2]")))
    assert jobs == [["a=1", "b=x", "c=[1,2]"], ["a=1", "b=y", "c=[1,2]"], ["a=2", "b=x", "c=[1,2]"],
                    ["a=2", "b=y", "c=[1,2]"]]  # fmt: skip


def test_each_value_of_a_large_sweep_is_checked_once():
    jobs = list(jobs_to_check(parsed("a=range(0,100)", "b=range(0,100)")))
    assert len(jobs) == 199 > MAX_CHECKED_JOBS
    assert jobs[0] == ["a=0", "b=0"]
    assert {tuple(job) for job in jobs} >= {("a=99", "b=0"), ("a=0", "b=99")}


def test_last_argument_wins_and_both_ends_of_an_interval_are_checked():
    assert list(jobs_to_check(parsed("a=1,2", "a=3"))) == [["a=3"]]
    assert list(jobs_to_check(parsed("a=tag(log,interval(1e-4,0.1))"))) == [["a=0.0001"], ["a=0.1"]]
    assert next(jobs_to_check(parsed("a=1,2", "b=x"))) == ["a=1", "b=x"]
