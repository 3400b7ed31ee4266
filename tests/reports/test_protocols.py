"""Protocols: comparison with published results, whether a run is comparable, and reports over many runs."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from documented import CONF, options_of
from equations import options_of as equation_options
from run_folders import PROVENANCE, accept_files, edit_record, write_run_of
from tables import table_of, table_with_features

from ratinglab.config.primary_config import ChosenFile
from ratinglab.errors import UserError
from ratinglab.reports.comparison import tabulate_comparisons
from ratinglab.reports.protocols import describe_comparability, tabulate_with_references
from ratinglab.reports.statistics import corrected_t
from ratinglab.runs.run_files import RUN_FORMAT
from ratinglab.splits.random_rows import RandomSplitOptions
from ratinglab.training.new_record import describe_departures, make_protocol_record

PROTOCOLS = sorted(path.stem for path in CONF.glob("protocol/*.yaml") if path.stem != "none")
RECIPES = sorted(path.stem for path in CONF.glob("recipe/*.yaml"))
SPLIT = RandomSplitOptions(refit=False, seed=0, validation=0.0, test=0.2).apply(
    table_of([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [1, 2, 3, 4, 5])
)
OWN = """# @package _global_
# Folds of the demo data.
defaults:
  - override /split: kfold
protocol:
  _target_: ratinglab.evaluation.protocol_options.Protocol
  title: the demo data
  metric: rmse
  folds: {folds}
  data_digest: {digest}
  num_ratings: null
  side_digests: {{}}
  pins: {{split.name: kfold, clip_predictions: true}}
  references:
    - {{system: better, value: 0.1, kind: published, uses: [], source: a paper}}
    - {{system: worse, value: 9.0, kind: measured, uses: [times], source: here}}
"""


def recorded(options):
    """Make the entry of run.json for a run on the protocol's data."""
    digests = {"data_digest": options.protocol.data_digest, "side_digests": options.protocol.side_digests}
    return make_protocol_record(options, describe_departures(options, **digests, split=SPLIT))


def test_run_without_a_protocol_has_no_entry():
    assert make_protocol_record(options_of("train"), departures=[]) is None


NAMED_FREELY = {
    "fast": "biased_mf_block_sgd",
    "ease": "ease_closed_form",
    "item_knn": "item_knn_closed_form",
    "ials": "implicit_mf_implicit_als",
}


def test_no_recipe_sets_a_key_that_a_protocol_pins():
    chosen = [options_of("train", f"protocol={name}", "recipe=ease").protocol for name in PROTOCOLS]
    pinned = {key for protocol in chosen for key in protocol.pins}
    assert {"split.fold", "split.seed", "clip_predictions"} <= pinned
    for recipe in RECIPES:
        keys = ChosenFile(recipe, "", CONF / "recipe" / f"{recipe}.yaml").values().keys()
        assert not keys & pinned, recipe
        assert not any(key.startswith("data.") and key != "data.batch_size" for key in keys), recipe


HELD_OUT_USERS = [name for name in PROTOCOLS if name.endswith("held_out_users")]
PAIRS = [
    *((PROTOCOLS[0], recipe) for recipe in RECIPES),
    *((protocol, "timesvdpp_gibbs") for protocol in PROTOCOLS[1:] if protocol not in HELD_OUT_USERS),
    *((protocol, "ials") for protocol in HELD_OUT_USERS),
]
"""Each recipe under one protocol, and one that needs times and features, or folds users in, under all."""


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "recipe"), PAIRS)
def test_every_recipe_is_comparable_under_every_protocol(protocol, recipe):
    options = options_of("train", f"protocol={protocol}", f"recipe={recipe}")
    options.protocol.num_ratings = None
    record = recorded(options)
    assert record["departures"] == []
    if recipe == "best":  # the data decide
        return
    if recipe != "timesvdpp_gibbs":
        assert (record["uses"], describe_comparability([record])) == ([], "comparable")
    elif not any({"times", "item features"} <= set(reference["uses"]) for reference in record["figures"]):
        assert describe_comparability([record]) == "not comparable: no system here uses times and item features"
    else:
        assert describe_comparability([record]) == "comparable with systems that use times and item features too"
    assert record["figures"] == json.loads(json.dumps(record["figures"]))
    assert f"{options.model.name}_{options.optimizer.name}" == NAMED_FREELY.get(recipe, recipe)


def test_protocol_has_the_published_results():
    references = options_of("train", "protocol=movielens_u1").protocol.references
    values = {reference.system: reference.value for reference in references}
    assert values["Surprise SVD"] == 0.9515
    assert values["GLocal-K"] == 0.889


def test_run_with_more_information_than_every_reference_is_not_comparable():
    options = options_of("train", "protocol=latest_small_80_20", "model=biased_mf", "model.user_features=[age]")
    record = recorded(options)
    assert record["uses"] == ["user features"]
    assert describe_comparability([record]) == "not comparable: no system here uses user features"
    references = [*record["figures"], {"uses": ["times", "user features"]}]
    more_references = record | {"figures": references}
    assert describe_comparability([more_references]) == "comparable with systems that use user features too"
    # a single reference must use all that the run uses
    parts = [{"uses": ["times"]}, {"uses": ["user features", "item features"]}]
    more = record | {"figures": parts, "uses": ["times", "user features"]}
    assert describe_comparability([more]) == "not comparable: no system here uses times and user features"


RECORD = {
    "title": "a table",
    "metric": "rmse",
    "folds": 2,
    "figures": [{"system": "other", "value": 0.9, "kind": "published", "uses": ["times"], "source": "a paper"}],
    "uses": [],
    "departures": [],
}


def record_under(protocol, fold=None):
    return SimpleNamespace(model="mf", fit={"optimizer": "adam"}, fold=fold, protocol=protocol)


def test_run_is_ranked_among_the_published_results():
    lines = list(tabulate_with_references([record_under(RECORD | {"folds": 1})], 0.85))
    assert lines == [
        "protocol   a table",
        "                         RMSE  uses besides the ratings",
        "this run   mf by adam  0.8500                            comparable",
        "published  other       0.9000  times                     a paper",
        "note: implicit feedback is not listed under `uses besides the ratings`: it follows from the ratings",
    ]
    assert list(tabulate_with_references([record_under(RECORD, fold=2)], 0.95))[-3:] == [
        "this run   mf by adam  0.9500                            fold 2 of 2; comparable",
        "note: implicit feedback is not listed under `uses besides the ratings`: it follows from the ratings",
        "note: this run is only fold 2; the results are means over 2: use -m split.fold=1,2",
    ]


def test_lists_are_ranked_with_the_highest_metric_first():
    (reference,) = RECORD["figures"]
    better, worse = (reference | {"system": name, "value": value} for name, value in (("A", 0.3), ("B", 0.1)))
    protocol = RECORD | {"folds": 1, "metric": "ndcg@10", "figures": [worse, better]}
    lines = list(tabulate_with_references([record_under(protocol)], 0.2))
    assert lines[1].split()[0] == "NDCG@10"
    assert [line.split()[1] for line in lines[2:5]] == ["A", "run", "B"]


def test_folds_are_ranked_by_their_mean():
    bad = RECORD | {"departures": ["seed is 1"]}
    lines = list(tabulate_with_references([record_under(RECORD), record_under(bad)], 0.85, half_width=0.04))
    note = "mean of 2 folds, ± 0.0400 (95%); not comparable: seed is 1"
    assert lines[2] == f"this run   mf by adam  0.8500{'':28}{note}"


@pytest.fixture(scope="module")
def reported(command, tmp_path_factory):
    """Train two folds of the demo data with two seeds under a test protocol, and one run without a protocol."""
    folder = tmp_path_factory.mktemp("reported")
    plain = command(folder, "train", "trainer=debug", "logger=none")
    digest = json.loads((plain.run / "run.json").read_text())["provenance"]["data_digest"]
    own = folder / "own" / "protocol"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(OWN.format(folds=2, digest=digest))
    options = [
        "protocol=mine", "--config-dir", str(own.parent), "split.folds=2", "split.validation=0",
        "trainer=debug", "logger=none",
    ]  # fmt: skip
    outcomes = [command(folder, "train", "-m", *options, "split.fold=1,2", f"seed={seed}") for seed in (0, 1)]
    return folder, outcomes


LISTS = """# @package _global_
# Lists of the demo data.
defaults:
  - override /split: per_user
split: {{test: 0.2, validation: 0.0}}
ranking: {{threshold: 4.0}}
protocol:
  _target_: ratinglab.evaluation.protocol_options.Protocol
  title: "lists of the demo data: NDCG"
  metric: ndcg@7
  folds: 1
  data_digest: {digest}
  num_ratings: null
  side_digests: {{}}
  pins: {{split.name: per_user, split.test: 0.2, ranking.threshold: 4.0}}
  references:
    - {{system: worse, value: 0.0001, kind: measured, uses: [], source: here}}
    - {{system: better, value: 0.9, kind: published, uses: [], source: a paper}}
"""


def test_protocol_of_lists_measures_and_ranks_them(reported, command, report, tmp_path):
    folder, _ = reported
    digest = json.loads(next(folder.glob("outputs/*/*/run.json")).read_text())["provenance"]["data_digest"]
    (tmp_path / "own" / "protocol").mkdir(parents=True)
    (tmp_path / "own" / "protocol" / "lists.yaml").write_text(LISTS.format(digest=digest))
    options = ["--config-dir", "own", "protocol=lists", "logger=none"]
    scores = command(tmp_path, "train", *options, "recipe=item_knn", "monitor=val/ndcg@10")
    value = json.loads((scores.run / "metrics.json").read_text())["test/ndcg@7"]
    lines = scores.stdout.splitlines()
    first = lines.index("protocol   lists of the demo data: NDCG")
    assert [line.split()[0] for line in lines[first + 1 : first + 5]] == ["NDCG@7", "published", "this", "measured"]
    assert re.match(rf"this run   item_knn by closed_form  {value:.4f} +comparable$", lines[first + 3])
    for by in ("prediction", "expected_gain"):  # a rating model in two orders: two rows
        command(tmp_path, "train", *options, "model=biased_mf", "trainer=debug", f"ranking.by={by}")
    rows = [line for line in report(tmp_path, "outputs").stdout.splitlines() if " by " in line]
    assert [line.split()[0] for line in rows] == ["item_knn", "biased_mf", "biased_mf"]
    assert [line.rpartition("  ")[2] for line in rows] == ["comparable"] * 3
    assert "by=expected_gain" in rows[1]
    assert "by=prediction" in rows[2]
    table = report(tmp_path, "--models", "outputs").stdout.splitlines()
    assert table[0].startswith("|  | uses besides the ratings | lists of the demo data, NDCG@7 | fit s")
    cells = [float(line.split("|")[3]) for line in table[2:]]
    assert cells == sorted(cells, reverse=True)
    assert f"{value:.4f}" in table[2]
    other = command(tmp_path, "train", *options, "recipe=item_knn", "ranking.threshold=3").stdout
    assert "not comparable: ranking.threshold is 3.0, but the protocol requires 4.0" in other
    by_time = command(tmp_path, "train", *options, "recipe=item_knn", "split=leave_last").stdout
    assert "; the protocol does not pin the timestamps" in by_time  # the split depends on them


def test_unknown_metric_of_a_protocol_is_refused():
    with pytest.raises(UserError) as refusal:
        options_of("train", "protocol=movielens_u1", "protocol.metric=ndgc@10")
    assert str(refusal.value).startswith("protocol.metric must be one of mse, rmse, mae, precision@K, ")
    assert str(refusal.value).endswith("hit_rate@K, got ndgc@10")


def test_protocol_without_its_data_set_is_refused(command, tmp_path):
    options = ["protocol=movielens_1m_held_out_users", "recipe=ials", "data.root=ml-1m"]
    refused = command(tmp_path, "train", *options, status=2)
    assert refused.stderr == "error: data.root: there is no folder or archive ml-1m\n"


@pytest.fixture
def report(command):
    """Run report.py in a folder."""
    return lambda folder, *arguments, status=0: command(folder, "report", *map(str, arguments), status=status)


def test_sweep_over_folds_prints_the_table_of_their_mean(reported):
    _, outcomes = reported
    lines = outcomes[0].stdout.splitlines()
    rows = [json.loads((run / "metrics.json").read_text())["test/rmse"] for run in sorted(outcomes[0].run.glob("?-*"))]
    assert "protocol   the demo data" in lines
    own = [line for line in lines if line.startswith("this run")][-1]
    assert re.match(rf"this run   mf by adam  {sum(rows) / 2:.4f} +mean of 2 folds, ± [0-9.]+ \(95%\)", own)
    assert "comparable" in outcomes[0].stdout
    assert "published  better      0.1000                            a paper" in lines
    assert "measured   worse       9.0000  times                     here" in lines


def test_report_averages_runs_that_differ_only_in_seed_and_fold(reported, report):
    folder, outcomes = reported
    by_seed = [
        [json.loads((run / "metrics.json").read_text())["test/rmse"] for run in sorted(outcome.run.glob("?-*"))]
        for outcome in outcomes
    ]
    means = np.mean(by_seed, axis=0)  # of each fold
    interval = corrected_t(means, share=1.0)
    lines = report(folder, "outputs").stdout.splitlines()
    (row,) = [line.split() for line in lines if line.startswith("mf by adam") and "comparable" in line]
    assert row[3:5] == [f"{means.mean():.4f}", f"{interval.high - interval.mean:.4f}"]
    note = "± 95%      half-width of the mean's 95% confidence interval, by Nadeau and Bengio's corrected t over splits"
    assert note in lines
    assert row[-1] == "comparable"
    places = [lines.index(line) for line in lines if line.startswith(("better", "mf by adam", "worse"))]
    assert [lines[place].split()[0] for place in places[-3:]] == ["better", "mf", "worse"]
    assert lines[0].startswith("demo, split ")
    assert "val MSE" in lines[1]


def test_sweep_and_table_of_its_runs_have_the_same_interval(reported, report):
    folder, outcomes = reported
    lines = [line.split() for line in report(folder, outcomes[0].run).stdout.splitlines()]
    (of_sweep,) = [cells for cells in lines if cells[:2] == ["±", "95%"] and cells[2] != "half-width"]
    (of_runs,) = [cells for cells in lines if cells[:3] == ["mf", "by", "adam"]]
    assert of_sweep[-1] == of_runs[4]
    (note,) = [cells for cells in lines if cells[:2] == ["this", "run"]]
    assert note[note.index("±") + 1] == of_runs[4]


def test_models_table_has_one_column_per_protocol_and_only_comparable_runs(reported, report, tmp_path):
    _, outcomes = reported
    errors = []
    for number, run in enumerate(run for outcome in outcomes for run in sorted(outcome.run.glob("?-*"))):
        errors.append(json.loads((run / "metrics.json").read_text())["test/rmse"])
        record = json.loads((run / "run.json").read_text())
        shutil.copytree(run, tmp_path / "one" / str(number))
        # another protocol of one fold on another split, and a third one with a missing fold
        for title, folds in (("another: RMSE", 1), ("third", 3)):
            folder = tmp_path / title / str(number)
            shutil.copytree(run, folder)
            split = {"split": "rows/0123"} if folds == 1 else {}
            protocol = record["protocol"] | {"title": title, "folds": folds}
            edit_record(folder, protocol=protocol, provenance=record["provenance"] | split)
    lines = report(tmp_path, "--models", ".").stdout.splitlines()
    assert (
        lines[0]
        == "|  | uses besides the ratings | another, RMSE | the demo data, RMSE | third, RMSE | fit s | parameters |"
    )
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    (row,) = lines[2:]
    mean = sum(errors) / 4
    assert row.startswith(f"| mf by adam |  | {mean:.4f} | {mean:.4f} |  | ")
    (header, *_) = report(tmp_path, "--models", "one").stdout.splitlines()
    assert header == "|  | uses besides the ratings | the demo data, RMSE | fit s | parameters |"


def test_models_table_without_a_protocol_is_refused(reported, report, tmp_path):
    folder, _ = reported
    plain = next(path.parent for path in folder.glob("outputs/*/*/run.json"))
    shutil.copytree(plain, tmp_path / "plain")
    found = report(tmp_path, "--models", "plain", status=2).stderr
    assert found == "error: there is no finished run under a protocol in plain\n"


def test_run_from_before_protocols_named_their_metric_is_reproduced(reported, command, tmp_path):
    _, outcomes = reported
    run = shutil.copytree(next(outcomes[0].run.glob("0-*")), tmp_path / "run")
    path = run / ".hydra" / "config.yaml"
    text = path.read_text().replace("  metric: rmse\n", "", 1).replace("  num_ratings: null\n", "", 1)
    path.write_text(text.replace("    value:", "    rmse:"))
    assert text.count("    value:") == 2
    again = command(tmp_path, "reproduce", "run=run")
    assert again.stdout.splitlines()[-1].endswith("equal to the last digit")
    assert "published  better      0.1000                            a paper" in again.stdout


def test_missing_folds_make_runs_not_comparable(reported, report):
    folder, outcomes = reported
    one = sorted(outcomes[0].run.glob("?-*"))[0]
    assert "not comparable: 1 of 2 folds" in report(folder, one).stdout
    # missing for seed 0 only
    found = report(folder, one, outcomes[1].run).stdout
    assert "not comparable: seed 0 has 1 of 2 folds" in found


def test_report_separates_settings_and_counts_repeated_runs_once(command, report, tmp_path):
    plain = ["train", "trainer=debug", "logger=none"]
    others = ["data.batch_size=256"], ["clip_predictions=false"], ["split.refit=true"]
    runs = [command(tmp_path, *plain, *more).run for more in ([], [], *others)]
    rows = [line for line in report(tmp_path, "outputs").stdout.splitlines() if line.startswith("mf by adam")]
    assert len(rows) == 4
    alone = report(tmp_path, runs[-1]).stdout.splitlines()
    assert len([line for line in alone if line.startswith("mf by adam")]) == 1  # the first of the two fits is not a run
    told = ("batch_size=1024", "clip_predictions=true", "refit=false")
    (own,) = [row for row in rows if all(text in row for text in told)]
    expected = json.loads((runs[0] / "metrics.json").read_text())["val/mse"]
    assert f"{expected:.4f}" in own


def write_finished(folder, *, rmse=1.0, provenance, **changed):
    """Write a run whose RMSE on validation and test rows is `rmse`."""
    write_run_of(folder, equation_options("mf"), table_with_features(), provenance=PROVENANCE | provenance, **changed)
    metrics = {"val/mse": rmse**2, "test/rmse": rmse, "fit/seconds": 1.0, "fit/parameters": 1}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    accept_files(folder)


def rows_of_report(folder):
    """Split the row of each group into its cells."""
    lines = tabulate_comparisons([str(folder)], only_protocols=False)
    return [line.split() for line in lines if line.startswith("mf by adam")]


def test_later_of_two_runs_of_the_same_settings_and_seed_counts(tmp_path):
    for name, seed, rmse in (("a", 0, 9.0), ("b", 1, 1.0), ("c", 0, 2.0)):
        write_finished(tmp_path / name, rmse=rmse, provenance={"seed": seed})
    (row,) = rows_of_report(tmp_path)
    assert row[3:5] == ["2", "2.5000"], "the number and the mean MSE of b and c"


@pytest.mark.parametrize(("splits", "count"), [(("aaa/1", "bbb/1"), 2), (("aaa/1", "aaa/2"), 1)])
def test_report_separates_runs_of_different_splits(tmp_path, splits, count):
    for number, split in enumerate(splits):
        write_finished(tmp_path / str(number), provenance={"split": split}, fold=1, protocol=RECORD)
    assert len(rows_of_report(tmp_path)) == count


def test_run_without_test_rows_is_not_compared(command, report, tmp_path):
    (tmp_path / "own" / "protocol").mkdir(parents=True)
    own = OWN.format(folds=1, digest="x").replace("split: kfold", "split: random")
    (tmp_path / "own" / "protocol" / "mine.yaml").write_text(own)
    plain = ["train", "--config-dir", "own", "trainer=debug", "logger=none", "protocol=mine", "split.test=0"]
    assert "protocol   " not in command(tmp_path, *plain).stdout
    (row,) = [line for line in report(tmp_path, "outputs").stdout.splitlines() if line.startswith("mf by adam")]
    assert "comparable" not in row


def test_report_skips_unreadable_runs_with_a_note(command, report, tmp_path):
    plain = ["train", "trainer=debug", "logger=none"]
    good = command(tmp_path, *plain).run
    bad = shutil.copytree(good, tmp_path / "outputs" / "bad")
    edit_record(bad, format_version=1)
    lines = report(tmp_path, "outputs").stdout.splitlines()
    assert sum(line.startswith("mf by adam") for line in lines) == 1
    assert lines[-1].startswith("note: left out: ")
    assert "has format 1" in lines[-1]
    edit_record(bad, format_version=RUN_FORMAT)
    (bad / "metrics.json").unlink()
    accept_files(bad)
    assert "note: 1 unfinished run is left out" in report(tmp_path, "outputs").stdout


def test_report_without_finished_runs_is_refused(reported, report, tmp_path):
    folder, _ = reported
    assert report(folder, tmp_path, status=2).stderr == f"error: there is no finished run in {tmp_path}\n"
    assert report(folder, "nowhere", status=2).stderr == "error: there is no folder nowhere\n"
