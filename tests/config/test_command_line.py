"""Forms of the command line: arguments without a key, flags of each script, choices beside an experiment."""

import json
import re
import shutil

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from ratinglab.config.arguments import MAX_CHECKED_JOBS, jobs_to_check, quote_texts
from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.options import as_override

EXPERIMENT = "# @package _global_\ntrainer:\n  max_epochs: 7\n  min_epochs: 3\n"


@pytest.fixture
def config_dir(tmp_path):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(EXPERIMENT)
    return ["--config-dir", "own", "experiment=mine"]


def test_last_value_of_a_key_counts_whatever_the_first_was(command, tmp_path):
    ended = command(tmp_path, "train", "seed=${oops}", "seed=3", "trainer=debug", "logger=none")
    assert ended.stderr == ""
    assert json.loads((ended.run / "run.json").read_text())["provenance"]["seed"] == 3


@pytest.mark.parametrize("script", ["evaluate", "reproduce"])
def test_argument_without_a_key_is_the_run(command, tmp_path, quick, script):
    shutil.copytree(quick.run, tmp_path / "a run")
    assert command(tmp_path, script, "a run").stdout.splitlines()[-1].endswith("last digit")
    assert command(tmp_path, script, "nowhere", status=2).stderr == "error: run: there is no folder nowhere\n"


def test_error_names_the_run_that_latest_resolves_to(command, tmp_path, quick):
    shutil.copytree(quick.run, tmp_path / "outputs" / "run")
    for name, note in (("latest", "run=latest: outputs/run"), ("best", "run=best: outputs/run, val/mse ")):
        refused = command(tmp_path, "similar", f"run={name}", "item=nothing", status=2).stderr
        assert refused.startswith(f"error: item: no item has the id or the title 'nothing' ({note}")
    missing = command(tmp_path, "similar", "run=nowhere/latest", "item=nothing", status=2).stderr
    assert missing == "error: run=nowhere/latest: there is no finished run in nowhere\n"


@pytest.mark.parametrize("arguments", [["{run}", "pairs.csv"], ["run={run}", "pairs.csv"], ["pairs.csv", "run={run}"]])
def test_second_argument_without_a_key_is_the_input(command, tmp_path, quick, arguments):
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n1,2\n")
    typed = [argument.format(run=quick.run) for argument in arguments]
    named = command(tmp_path, "predict", f"run={quick.run}", "input=pairs.csv").stdout
    assert command(tmp_path, "predict", *typed).stdout == named


@pytest.mark.parametrize(
    ("script", "arguments", "reason"),
    [
        ("evaluate", ["run=nowhere", "pairs.csv"], "since run= is given"),
        ("evaluate", ["nowhere", "pairs.csv"], "since run= is given"),
        ("predict", ["nowhere", "input=x.csv", "pairs.csv"], "since run= and input= are given"),
    ],
)
def test_argument_without_a_key_that_it_could_set_is_refused(command, tmp_path, script, arguments, reason):
    refused = command(tmp_path, script, *arguments, status=2)
    assert refused.stderr == f"error: pairs.csv: an argument must be KEY=VALUE, {reason}; see --help\n"


@pytest.mark.parametrize(
    "script",
    ["train", "evaluate", "recommend", "similar", "predict", "export", "serve", "inspect_data", "reproduce", "report"],
)
def test_version_is_that_of_ratinglab(command, tmp_path, script):
    assert command(tmp_path, script, "--version").stdout.startswith("ratinglab ")


def test_help_of_reproduce_is_its_own(command, tmp_path):
    lines = command(tmp_path, "reproduce", "--help").stdout.splitlines()
    assert lines[0] == "Train a run again from its record, in a new folder, and compare the metrics."
    assert len(lines) < 10


@pytest.mark.parametrize("choice", ["", "defaults: [override /model: biased_mf]\n"])
@pytest.mark.parametrize("sweep", [[], ["-m", "experiment=movielens_100k_u1,mine"]])
def test_experiment_without_the_package_line_is_named(command, tmp_path, config_dir, choice, sweep):
    path = tmp_path / "own" / "experiment" / "mine.yaml"
    path.write_text(choice + EXPERIMENT.split("\n", 1)[1])
    outcome = command(tmp_path, "train", *config_dir, *sweep, status=2)
    assert outcome.stderr == (
        f"error: {path} must begin with the line `# @package _global_`, to set keys of other groups\n"
    )


def test_choice_on_the_command_line_wins_over_keys_of_an_experiment(command, tmp_path, config_dir):
    debug = command(tmp_path, "train", *config_dir, "trainer=debug", "--cfg", "job").stdout
    assert "\n  max_epochs: 2\n  min_epochs: 3\n" in debug  # debug.yaml itself sets max_epochs only
    assert "trainer.max_epochs=2" in command(tmp_path, "train", *config_dir, "trainer=debug", "--help").stdout
    key = command(tmp_path, "train", *config_dir, "trainer=debug", "trainer.max_epochs=5", "--cfg", "job").stdout
    assert "\n  max_epochs: 5\n" in key
    run = command(tmp_path, "train", *config_dir, "trainer=debug", "trainer.min_epochs=0", "logger=none").run
    assert "epoch 2/2" in (run / "train.log").read_text(encoding="utf-8")


def test_typed_choice_wins_over_an_experiment_whose_choice_includes_it(command, tmp_path, config_dir):
    chosen = EXPERIMENT.replace("trainer:", "defaults: [override /trainer: debug]\ntrainer:", 1)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(chosen)
    composed = command(tmp_path, "train", *config_dir, "trainer=default", "--cfg", "job").stdout
    assert "\n  max_epochs: 100\n  min_epochs: 0\n" in composed


@pytest.mark.parametrize("included", ["_self_, biased_mf", "biased_mf, _self_"])
def test_overlay_that_makes_the_same_choice_keeps_its_values(command, tmp_path, config_dir, included):
    (tmp_path / "own" / "model").mkdir()
    (tmp_path / "own" / "model" / "mine.yaml").write_text(f"defaults: [{included}]\nembedding_dim: 3\n")
    chosen = "# @package _global_\ndefaults: [override /model: mine]\nmodel:\n  embedding_dim: 5\n"
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(chosen)
    composed = command(tmp_path, "train", *config_dir, "model=mine", "--cfg", "job").stdout
    assert "\n  embedding_dim: 5\n" in composed
    help_text = command(tmp_path, "train", *config_dir, "model=mine", "--help").stdout
    assert re.findall(r"^  \* (mine|biased_mf)\b", help_text, re.M) == ["mine", "mine"], "the model and the experiment"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["recipe=svdpp_gibbs", "model=svdpp"], []),  # the recipe makes the same choice
        (["recipe=svdpp_gibbs", "model=mf"], ["model.embedding_dim=32"]),
        (["recipe=svdpp_gibbs", "trainer=default"], []),  # the choice without the argument
        (["trainer=debug"], []),
    ],
)
def test_only_keys_of_another_choice_are_set_again(overrides, expected):
    conf = PrimaryConfig("train")
    kept = conf.keep_typed_choices(overrides)
    assert [text for text in kept if not text.startswith("model.init_std=")] == [*expected, *overrides]


@pytest.mark.parametrize(
    "text",
    ["7", "007", ".5", "1e5", "1_0", "null", "x,y", "it's", "./a b", "../a", "\\", "a ${b}", "\\${b}", "\\\\${b", "é"],
)
def test_texts_are_formatted_as_hydra_reads_them(text):
    parse = OverridesParser.create().parse_override
    config = OmegaConf.create([parse(as_override("key", value)).value() for value in (text, [text, text])])
    assert [str(config[0]), *map(str, config[1])] == [text, text, text]


def test_interpolations_of_yaml_files_are_kept():
    override = OverridesParser.create().parse_override(as_override("key", "a ${seed}", interpolates=True))
    assert override.value() == "a ${seed}"


def records_of_sweep(folder):
    """Return run.json and config.yaml of each job, sorted by the job's name."""
    return [
        (json.loads(path.read_text(encoding="utf-8")), OmegaConf.load(path.parent / ".hydra" / "config.yaml"))
        for path in sorted(folder.glob("*/run.json"))
    ]


def test_swept_choice_wins_over_keys_of_an_experiment(command, tmp_path, config_dir):
    sweep = ["-m", "trainer=debug,default", "trainer.min_epochs=0", "logger=none", "hydra.sweep.dir=s"]
    command(tmp_path, "train", *config_dir, *sweep)
    debug, default = records_of_sweep(tmp_path / "s")  # trainer=default changes nothing: the experiment's keys stay
    assert [record["max_epochs"] for record, _ in (debug, default)] == [2, 7]
    assert [config.trainer.max_epochs for _, config in (debug, default)] == [2, 7]


def test_search_sweeps_its_keys_beside_a_typed_choice(command, tmp_path):
    (tmp_path / "own" / "search").mkdir(parents=True)
    grid = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      model.embedding_dim: 2,3\n"
    (tmp_path / "own" / "search" / "mine.yaml").write_text(grid + "model:\n  embedding_dim: 5\n")
    options = ["model=mf", "trainer=debug", "logger=none", "hydra.sweep.dir=s"]
    command(tmp_path, "train", "-m", "--config-dir", "own", "search=mine", *options)
    assert [record["model_options"]["embedding_dim"] for record, _ in records_of_sweep(tmp_path / "s")] == [2, 3]


@pytest.mark.parametrize("argument", ["item=Matrix, The", "item=a,b", "user=a,b", "user=1,2"])
def test_ids_and_titles_may_contain_commas(argument):
    key, _, value = argument.partition("=")
    assert quote_texts([argument]) == [f"{key}='{value}'"]
    assert quote_texts(["model.embedding_dim=4,8"]) == ["model.embedding_dim=4,8"]


def test_hydras_own_choices_of_logging_work(command, command_apart, tmp_path):
    arguments = ["trainer=debug", "logger=none"]
    stdout = command(tmp_path, "train", *arguments, "hydra/job_logging=stdout", "hydra.run.dir=a").stdout
    assert "epoch 2/2" in stdout
    # in a process of its own, since this choice disables the loggers of the process
    disabled = command_apart(tmp_path, "train", *arguments, "hydra/job_logging=disabled", "hydra.run.dir=b").stdout
    assert "epoch 2/2" not in disabled
    assert not list(tmp_path.glob("*/train.log"))


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
