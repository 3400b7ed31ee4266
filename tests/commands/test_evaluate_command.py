"""Recomputed metrics, and the comparison with metrics.json."""

import pytest
from documented import options_of
from equations import options_of as equation_options
from run_folders import write_run_of
from tables import table_with_features

from ratinglab.commands.evaluate_command import evaluate as evaluate_command
from ratinglab.errors import UserError
from ratinglab.inference.run import Run
from ratinglab.runs.record import write_metrics


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Make a finished run that measured no lists."""
    folder = tmp_path_factory.mktemp("evaluating") / "run"
    write_run_of(folder, equation_options("biased_mf"), table_with_features())
    run = Run.load(folder)
    write_metrics(folder, run.evaluate(), monitor="val/mse")
    return run


def evaluate(run, *arguments):
    evaluate_command(options_of("evaluate", f"run={run.folder}", *arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ranking.threshold=6"], r"^ranking\.threshold must be at most 5, the highest held-out rating, got 6: "),
        (["ranking.by=lower_bound"], r"^ranking\.by=lower_bound needs .*; got a run of optimizer=adam$"),
    ],
)
def test_mistake_in_the_order_names_the_option(run, arguments, message):
    with pytest.raises(UserError, match=message):
        evaluate(run, "ranking.k=5", *arguments)


def test_comparison_says_what_is_equal(run, capsys):
    evaluate(run)
    assert capsys.readouterr().out.endswith("\nequal to metrics.json to the last digit\n")
    evaluate(run, "ranking.k=5")
    assert capsys.readouterr().out.endswith("\nthe errors are equal to metrics.json to the last digit\n")
    lists = run.evaluate_ranking(k=5)
    write_metrics(run.folder, run.evaluate() | lists, monitor="val/mse")
    evaluate(run, "ranking.k=5")
    assert capsys.readouterr().out.endswith("\nequal to metrics.json to the last digit\n")
