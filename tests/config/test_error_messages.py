"""User mistakes: one line on stderr, status 2, nothing on disk."""

import copy
import errno
import itertools

import pytest
from documented import CONF, HAS_OPTUNA, composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from ratinglab.config.error_messages import translate_exceptions
from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.config.typed_options import to_options
from ratinglab.errors import UserError
from ratinglab.training.train_options import TrainOptions

UNKNOWN_KEYS = {
    "lr": "; did you mean optimizer.lr?",
    "learning_rate": "; did you mean optimizer.lr?",
    "epochs": "; did you mean trainer.max_epochs?",
    "num_epochs": "; did you mean trainer.max_epochs?",
    "max_epochs": "; did you mean trainer.max_epochs?",
    "patience": "; did you mean callbacks.early_stopping.patience?",
    "embedding_dim": "; did you mean model.embedding_dim?",
    "embeding_dim": "; did you mean model.embedding_dim?",
    "dim": "; did you mean model.embedding_dim?",
    "rank": "; did you mean model.embedding_dim?",
    "batch_size": "; did you mean data.batch_size?",
    "test_size": "; did you mean split.test?",
    "weight_decay": "; did you mean optimizer.weight_decay?",
    "device": "; did you mean trainer.devices?",
    "gpus": "; did you mean trainer.devices?",
    "separator": "; see --help",
    "sed": "; did you mean seed?",
    "monitr": "; did you mean monitor?",
    "optimzer": "; did you mean optimizer?",
    "fold": "; split.fold belongs to split=kfold, split=movielens_u, split=surprise_kfold",
    "path": "; data.path belongs to data=csv",
    "user_features": "; model.user_features belongs to model=biased_mf, model=svdpp, model=timesvdpp",
    "data.file": "; data=demo has duplicates, min_rating, min_ratings_per_user, min_ratings_per_item, cache, "
    "batch_size, seed",
    "data.seeds": "; did you mean data.seed?",
    "data.batchsize": "; did you mean data.batch_size?",
    "model.batchsize": "; did you mean data.batch_size?",
    "model.dim": "; did you mean model.embedding_dim?",
    "model.rank": "; did you mean model.embedding_dim?",
    "model.reg": "; did you mean model.regularization?",
    "model.lr": "; did you mean optimizer.lr?",
    "modle.embeding_dim": "; did you mean model.embedding_dim?",
    "optimizer.learning_rate": "; did you mean optimizer.lr?",
    "optimizer.l2": "; optimizer=adam has lr, beta1, beta2, weight_decay",
    "trainer.epochs": "; did you mean trainer.max_epochs?",
    "trainer.device": "; did you mean trainer.devices?",
    "spilt.seed": "; did you mean split.seed?",
    "split.test_size": "; did you mean split.test?",
    "callbacks.patience": "; did you mean callbacks.early_stopping.patience?",
    "callbacks.early_stopping.enabled": ": callbacks.early_stopping.patience=null turns early stopping off",
    "callbacks.early_stopping.n_warmup_steps": "; callbacks.early_stopping has patience, min_delta",
    "callbacks.early_stopping.patiance": "; did you mean callbacks.early_stopping.patience?",
    "callbacks.early_stoping.patience": "; did you mean callbacks.early_stopping.patience?",
    "logger.csvs": "; logger=tensorboard has tensorboard.figures, tensorboard.data_figures, "
    "tensorboard.projector_items",
    "ranking.n": "; ranking has k, by, threshold",
    "hydra.swep.dir": "; see --help",
}
"""Unknown keys of train.py, and the hint for each."""

VALUES = [
    (["seed=99999999999999999999"], "seed must be from 0 to 4294967295, got 99999999999999999999"),
    (["model.embedding_dim=65537"], "model.embedding_dim must be from 1 to 65536, got 65537"),
    (["data.batch_size=3000000000"], "data.batch_size must be from 1 to 2147483647, got 3000000000"),
    (
        ["trainer.check_val_every_n_epoch=9", "trainer.max_epochs=5"],
        "trainer.check_val_every_n_epoch must be at most trainer.max_epochs, got 9 and 5",
    ),
    (["model.embedding_dim=1.5"], "model.embedding_dim must be an integer, got 1.5"),
    (["model.embedding_dim=true"], "model.embedding_dim must be an integer, got true"),
    (["model.embedding_dim=-1"], "model.embedding_dim must be from 1 to 65536, got -1"),
    (["optimizer=als", "model.regularization=0"], "model.regularization must be above 0 with optimizer=als, got 0.0"),
    (
        ["optimizer=gibbs", "schedule=cosine"],
        "schedule must be constant with optimizer=gibbs, which has no learning rate; got cosine",
    ),
    (
        ["optimizer=gibbs", "optimizer.burn_in=5", "trainer.max_epochs=5"],
        "optimizer.burn_in must be below trainer.max_epochs, got 5 and 5",
    ),
    (["model=svdpp", "model.implicit=users"], "model.implicit must be one of user, item, both, got users"),
    (["optimizer=block_sgd", "optimizer.slices=0"], "optimizer.slices must be from 1 to 1024, got 0"),
    (
        ["optimizer=block_sgd", "trainer.limit_train_batches=0.5"],
        "trainer.limit_train_batches must be 1 with optimizer=block_sgd, got 0.5",
    ),
    (
        ["optimizer=block_sgd", "trainer.gradient_clip_val=1"],
        "trainer.gradient_clip_val must be null with optimizer=block_sgd, got 1.0",
    ),
    (
        ["optimizer=block_sgd", "trainer.accelerator=gpu"],
        "trainer.accelerator must be cpu with optimizer=block_sgd, got gpu",
    ),
    (
        ["optimizer=sparse_adam", "trainer.gradient_clip_val=1"],
        "trainer.gradient_clip_val must be null with optimizer=sparse_adam, got 1.0",
    ),
    (["optimizer.lr=fast"], "optimizer.lr must be a number, got fast"),
    (["optimizer.lr=0"], "optimizer.lr must be above 0, got 0.0"),
    (["optimizer.lr=nan"], "optimizer.lr must be above 0, got nan"),
    (["data.batch_size=0"], "data.batch_size must be from 1 to 2147483647, got 0"),
    (["trainer.max_epochs=-3"], "trainer.max_epochs must be at least 1, got -3"),
    (
        ["optimizer=block_sgd", "trainer.devices=2"],
        "trainer.devices must be 1 with optimizer=block_sgd, which runs in one process, got 2; "
        "adam, adamw, sgd, sparse_adam run in several",
    ),
    (
        ["recipe=ease", "trainer.num_nodes=2"],
        "trainer.num_nodes must be 1 with optimizer=closed_form, which runs in one process, got 2",
    ),
    (
        ["split.refit=true", "trainer.devices=2"],
        "trainer.devices must be 1 with split.refit=true, got 2; set split.refit=false",
    ),
    (["trainer.strategy=dpp"], "trainer.strategy must be one of auto, ddp, got dpp"),
    (["trainer.enable_progress_bar=perhaps"], "trainer.enable_progress_bar must be true or false, got perhaps"),
    (["trainer.accelerator=cqu"], "trainer.accelerator must be one of cpu, gpu, mps, auto, got cqu"),
    (["split=kfold", "split.fold=6"], "split.fold must be at most split.folds, got 6 and 5"),
    (["split.test=1"], "split.test must be at least 0 and below 1, got 1.0"),
    (["split.test=0.6", "split.validation=0.5"], "split.validation + split.test must be below 1, got 0.5 + 0.6 = 1.1"),
    (
        ["callbacks.pruning.n_startup_trials=-1"],
        "callbacks.pruning.n_startup_trials must be at least 0, got -1",
    ),
    (["logger.tensorboard.projector_items=-1"], "logger.tensorboard.projector_items must be at least 0, got -1"),
    (["logger.tensorboard.figures=yess"], "logger.tensorboard.figures must be true or false, got yess"),
    (["seed=-1"], "seed must be from 0 to 4294967295, got -1"),
    (["data=csv", "data.path=x", "data.separator=comm"], "data.separator must be one of comma, tab"),
]
"""Values that the options refuse."""

MISTAKES = [
    (["model.embeding_dim=64"], "unknown key model.embeding_dim; did you mean model.embedding_dim?"),
    (["modle=mf"], "unknown key modle; did you mean model?"),
    (
        ["optimizer=adan"],
        "unknown optimizer=adan: choose from adam, adamw, als, block_sgd, closed_form, gibbs, implicit_als, sgd, "
        "spark_als, sparse_adam; did you mean adam?",
    ),
    (["logger=null"], "logger=null: logger must be one of csv, mlflow, none, tensorboard, wandb"),
    (["logger=[]"], "logger=[]: logger must be one of csv, mlflow, none, tensorboard, wandb"),
    (["model=[mf]"], "model=[mf]: model must be one of best, bias, "),
    (
        ["logger=tensorbord"],
        "unknown logger=tensorbord: choose from csv, mlflow, none, tensorboard, wandb; did you mean tensorboard?",
    ),
    (
        ["logger=[tensorboard,csvv]"],
        "unknown logger=csvv: choose from csv, mlflow, none, tensorboard, wandb; did you mean csv?",
    ),
    (
        ["logger=tensorboard,csv"],
        "logger=tensorboard,csv: several values need a sweep: add -m; for several in one run, "
        "logger='[tensorboard,csv]'",
    ),
    (
        ["logger.tensorboard.figure=true"],
        "unknown key logger.tensorboard.figure; did you mean logger.tensorboard.figures?",
    ),
    (["logger.figures=false"], "unknown key logger.figures; did you mean logger.tensorboard.figures?"),
    (["logger.tensorboard=5"], "logger.tensorboard has keys of its own, got 5"),
    (["logger.csv.x=1"], "unknown key logger.csv.x with logger=tensorboard; it needs logger=[tensorboard,csv]"),
    (
        ["logger=[none,csv]", "logger.tensorboard.figures=true"],
        "unknown key logger.tensorboard.figures with logger=[none,csv]; it needs logger=[csv,tensorboard]",
    ),
    (["-m", "logger=[csv],[csv,tensorbord]"], "unknown logger=tensorbord: choose from "),
    (["hydra.output_subdir=null"], "hydra.output_subdir=null: hydra.output_subdir cannot be set"),
    (["-m", "seed=1,2", "hydra.sweep.subdir=same"], "hydra.sweep.subdir=same: hydra.sweep.subdir cannot be set"),
    (["-m", "hydra.launcher=joblib"], "hydra.launcher=joblib: hydra.launcher cannot be set; hydra/launcher=NAME"),
    (["n_trials=3"], "unknown key n_trials: hydra.sweeper.n_trials sets the number of a search's jobs"),
    (["hydra=5"], "hydra=5: hydra cannot be set; set one of its keys, such as hydra.run.dir"),
    (["hydra.run=x"], "hydra.run has keys of its own, got x"),
    (["model="], "model=: model must be one of best, "),
    (["seed="], "seed must be an integer, got ''"),
    (["metrics="], "metrics: unknown metric '': choose from "),
    (["hydra.sweeper=null"], "hydra.sweeper=null: hydra.sweeper cannot be set; hydra/sweeper=NAME chooses a sweeper"),
    (["hydra.job.chdir=true"], "hydra.job.chdir=true: hydra.job.chdir cannot be set"),
    (["hydra.run.dir=bad.csv/x"], "hydra.run.dir: "),
    (["data.cache=bad.csv"], "data.cache: "),
    (["data=csv", "data.path='~nosuchuser/x.csv'"], "data.path: ~nosuchuser/x.csv is not a valid path"),
    (["data=csv", f"data.path={'x' * 300}"], f"data.path: {'x' * 80} is not a valid path: File name too long"),
    (["data=csv", "data.pth=x"], "unknown key data.pth; did you mean data.path?"),
    (["+model.embedding_dim=3"], "+model.embedding_dim=3: a key cannot be added; try model.embedding_dim=3"),
    (["++model.embedding_dim=3"], "++model.embedding_dim=3: a key cannot be added"),
    (["+model.embeding_dim=3"], "unknown key model.embeding_dim; did you mean model.embedding_dim?"),
    (["-m", "+sed=1,2"], "unknown key sed; did you mean seed?"),
    (["data=csv", "++data.pth=x"], "unknown key data.pth; did you mean data.path?"),
    (["~model.embedding_dim"], "~model.embedding_dim: a key cannot be removed"),
    (["model.embedding_dim=abc"], "model.embedding_dim must be an integer, got abc"),
    (["model.embedding_dim=null"], "model.embedding_dim must not be null"),
    (["model.embedding_dim=0"], "model.embedding_dim must be from 1 to 65536, got 0"),
    (
        ["recipe=biased_mf_gibbs", "optimizer=adam"],
        "recipe=biased_mf_gibbs sets optimizer.burn_in, which optimizer=adam does not have\n",
    ),
    (
        ["split=held_out_users"],
        "split=held_out_users needs a ranking model, such as ease, that can fold ",
    ),
    (["protocol=movielens_u11"], "unknown protocol=movielens_u11: choose from "),
    (["protocol=movielens_u1", "split.fold=6"], "split.fold must be from 1 to 5, got 6"),
    (["hydra/launcher=joblb", "-m", "seed=1,2"], "unknown hydra/launcher=joblb: choose from basic, joblib, "),
    (
        ["-m", "trainer.devices=2", "seed=1,2"],
        "trainer.devices and trainer.num_nodes must be 1 with -m: each job ",
    ),
    (
        ["-m", "trainer.num_nodes=2", "seed=1,2"],
        "trainer.devices and trainer.num_nodes must be 1 with -m: each job ",
    ),
    (["-m", "search=svdpp_gibbs", "model.embedding_dim=8,0"], "model.embedding_dim must be from 1 to 65536, got 0"),
    (["hydra.run.dir=null"], "hydra.run.dir must not be null"),
    (["-m", "hydra.sweeper.max_batch_size=x"], "hydra.sweeper.max_batch_size must be an integer, got x"),
    (
        ["-m", "optimizer.lr=interval(0.1,0.2)"],
        "optimizer.lr=interval(0.1,0.2): an interval needs hydra/sweeper=optuna",
    ),
    (
        ["-m", "optimizer=gibbs", "optimizer.burn_in=1,x", "trainer.max_epochs=10,5"],
        "optimizer.burn_in must be an integer, got x",
    ),
    (
        ["-m", "model=mf,bias", "model.embedding_dim=3"],
        "unknown key model.embedding_dim with model=bias; it belongs to model=best, model=biased_mf, ",
    ),
    (["trainer.precision=16"], "unknown key trainer.precision: all fits compute in float32"),
    (["trainer.limit_val_batches=2"], "unknown key trainer.limit_val_batches: validation and test use all"),
    (["trainer.max_time=5"], "trainer.max_time must be DD:HH:MM:SS above 0, as in "),
    (["trainer.max_time=00:00:00:00"], "trainer.max_time must be DD:HH:MM:SS above 0, as in "),
    (["data.path", "=", "x"], "data.path =: leave out the spaces around ="),
    (["data.path=", "x"], "data.path= x: leave out the spaces around ="),
    (["data.path", "=x"], "data.path =x: leave out the spaces around ="),
    (["@anking.k=5"], "@anking.k=5: @anking.k is not a key, such as model or model.embedding_dim; see --help"),
    (["+model@x=mf"], "+model@x=mf: model@x is not a key, such as model or model.embedding_dim"),
    (["model.=3"], "model.=3: model. is not a key, such as model or model.embedding_dim"),
    (["/model=mf"], "/model=mf: /model is not a key, such as model or model.embedding_dim"),
    (["bad.csv"], "bad.csv: an argument must be KEY=VALUE, such as data=csv data.path=bad.csv; see --help"),
    (["."], ".: an argument must be KEY=VALUE, such as resume=.; see --help"),
    (["--config-path", "x", "--config-name", "config"], "--config-path and --config-name cannot be set: python "),
    (["--experimental-rerun", "config.pickle"], "--experimental-rerun cannot be set: python "),
    (["--resolve"], "--resolve works only with --cfg, as in --cfg job --resolve"),
    (["--package", "model"], "--package model works only with --cfg, as in --cfg job --package model"),
    (
        ["model._target_=torch.load"],
        "model._target_ must be a subclass of ratinglab.models.equation_options.EquationOptions",
    ),
    (["callbacks.early_stopping=5"], "callbacks.early_stopping has keys of its own (patience, min_delta), got 5"),
    (
        ["model=transformer"],
        "unknown model=transformer: choose from best, bias, biased_mf, ease, implicit_mf, item_knn, mean, mf, nmf, "
        "svdpp, timesvdpp; --config-dir FOLDER adds your own\n",
    ),
    (["schedule=exponential", "schedule.decay=0"], "schedule.decay must be above 0 and at most 1, got 0"),
    (["recipe=nul"], "unknown recipe=nul: choose from best, biased_mf_als, "),
    (
        ["model=tanh_mf"],
        "unknown model=tanh_mf: choose from best, bias, biased_mf, ease, implicit_mf, item_knn, mean, mf, nmf, svdpp, "
        "timesvdpp; did you mean nmf? (--config-dir FOLDER adds your own)",
    ),
    ([f"data={__file__}"], f"unknown data={__file__}: for a file of your own, set data=csv data.path={__file__}"),
    (["data=."], "unknown data=.: for a file of your own, set data=csv data.path=."),
    (["recipe=null"], "recipe=null: recipe must be one of best, biased_mf_als, "),
    (["--config-dir", "nowhere"], "--config-dir: there is no folder nowhere"),
    (
        ["optimizer=gibbs", "optimizer.lr=0.1"],
        "unknown key optimizer.lr with optimizer=gibbs; it belongs to optimizer=adam, optimizer=adamw, "
        "optimizer=block_sgd, optimizer=sgd, optimizer=sparse_adam",
    ),
    (["data.path=ratings.csv"], "unknown key data.path with data=demo; add data=csv"),
    (
        ["data=csv", "data.path=a,b"],
        "data.path=a,b: several values need a sweep: add -m; for several in one run, data.path='[a,b]'",
    ),
    (["model=svdpp", "optimizer=block_sgd"], "optimizer=block_sgd fits biased_mf and mf, got model=svdpp"),
    (["trainer.min_epochs=160"], "trainer.min_epochs must be at most trainer.max_epochs, got 160 and 100"),
    (["reproduces=x"], "reproduces cannot be set: use python "),
    (["data=csv"], "data.path must be given, as in data.path=VALUE"),
    (["data=csv", "data.path=a=b c,d"], "data.path: there is no file a=b c,d"),
    (["model.embedding_dim=8,"], "model.embedding_dim must be an integer, got 8,"),
    (["-m", "data=csv", "data.path=a=b,c"], "data.path=a=b,c cannot be parsed: quote"),
    (["nonsense"], "nonsense: an argument must be KEY=VALUE; see --help"),
    (["model.embedding_dim=8,16"], "model.embedding_dim=8,16: several values need a sweep: add -m"),
    (["model.embedding_dim=choice(8,16)"], "model.embedding_dim=choice(8,16): several values need a sweep: add -m"),
    (["model.embedding_dim=range(3,1)", "-m"], "model.embedding_dim=range(3,1) has no values"),
    (["search=biased_mf_gibbs"], "search=biased_mf_gibbs needs a sweep: add -m"),
    (["-m", "seed=1,2", "hydra.sweeper.max_batch_size=0"], "hydra.sweeper.max_batch_size must be at least 1, got 0"),
    (["logger=[tensorboard,tensorboard]"], "logger=[tensorboard,tensorboard]: logger takes each name once"),
    (["-m", "seed=1,2", "logger=[csv],[csv,csv]"], "logger=[csv],[csv,csv]: logger takes each name once"),
    (["-m", "model.embedding_dim=8,0"], "model.embedding_dim must be from 1 to 65536, got 0"),
    (["model.embedding_dim=8,abc", "-m"], "model.embedding_dim must be an integer, got abc"),
    (["--sweep"], "unrecognized arguments: --sweep; see --help"),
    (["data=movielens_1n"], "unknown data=movielens_1n: choose from csv, demo, movielens_100k, "),
    (["data=movielens_1m", "data.root=nowhere"], "data.root: there is no folder or archive nowhere"),
    (["split=movielens_u"], "split=movielens_u needs all rows of MovieLens 100K"),
    (["split=random", "split.refit=true", "split.validation=0"], "split.refit=true needs validation rows"),
    (["data=csv", "data.path=none.csv"], "data.path: there is no file none.csv"),
    (["data=csv", "data.path=bad.csv"], "bad.csv, line 3: the rating must be a number, got 'abc'"),
    (["-m", "data=csv", "data.path=bad.csv", "seed=1,2"], "bad.csv, line 3: the rating must be a number, got 'abc'"),
    (["split=rows", "split.test_start=0", "split.test_stop=40000"], "split.test_stop must be at most 20000"),
]
"""Mistakes found before or after the options are made, and one refused value of each kind."""


@pytest.mark.parametrize("key", UNKNOWN_KEYS)
def test_unknown_key_gets_a_hint(key):
    conf = PrimaryConfig("train")
    with pytest.raises(UserError) as error, translate_exceptions(conf):
        conf.compose([f"{key}=1"])
    assert str(error.value) == f"unknown key {key}{UNKNOWN_KEYS[key]}"


@pytest.mark.parametrize(("arguments", "message"), VALUES, ids=[" ".join(arguments) for arguments, _ in VALUES])
def test_wrong_value_gives_a_one_line_error(arguments, message):
    parsed = OverridesParser.create().parse_overrides(arguments)
    is_choice = [(CONF / override.key_or_group).is_dir() for override in parsed]
    config, _ = composed("train", *itertools.compress(arguments, is_choice))
    config = copy.deepcopy(config)
    for override, chooses in zip(parsed, is_choice, strict=True):
        if not chooses:
            OmegaConf.update(config, override.key_or_group, override.value())
    with pytest.raises(UserError) as error:
        to_options(config, TrainOptions, parsed)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_mistake_gives_a_one_line_error_status_2_and_no_files(command, tmp_path, arguments, message):
    (tmp_path / "bad.csv").write_text("user_id,item_id,rating\n1,2,3\n1,3,abc\n")
    error = command(tmp_path, "train", *arguments, status=2).stderr
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


def test_unavailable_accelerator_is_refused_and_leaves_no_files(command, tmp_path):
    torch = pytest.importorskip("torch")
    if torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    outcome = command(tmp_path, "train", "trainer.accelerator=mps", status=2)
    assert outcome.stderr.startswith("error: trainer.accelerator=mps with trainer.devices=1: ")
    assert outcome.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("evaluate", [], "run must be given"),
        ("evaluate", ["run=nowhere"], "run: there is no folder nowhere"),
        ("evaluate", ["run=empt"], "run: there is no folder empt; did you mean empty?"),
        ("reproduce", ["run=./empt"], "run: there is no folder empt; did you mean empty?"),
        ("evaluate", ["run="], "run must be the folder of a run, latest or best, got ''"),
        ("evaluate", ["run=empty"], "run: empty is not the folder of a run: it has no run.json"),
        ("evaluate", ["-m", "run=a,b"], "evaluate does not support sweeps: leave out -m"),
        ("recommend", ["run=empty", "user=' '"], "user must not be blank"),
        ("evaluate", ["rum=empty"], "unknown key rum; did you mean run?"),
        (
            "recommend",
            ["run=empty"],
            "set output=FILE to recommend to all users, or user=ID for one; got neither",
        ),
        ("recommend", ["run=empty", "output=no/x.csv"], "output: there is no folder no"),
        ("recommend", ["run=empty", "output=."], "output must be a file, got the folder ."),
        ("recommend", ["run=empty", "user=1", "k=0"], "k must be at least 1, got 0"),
        ("recommend", ["run=empty", "output=-"], "output must be a file, got -; for the standard output, set"),
        ("export", ["run=empty", "output=-"], "output must be a new or empty folder, got -"),
        ("predict", ["run=empty", "input=none.csv", "output=x.csv"], "input: there is no file none.csv"),
        ("export", ["run=nowhere"], "run: there is no folder nowhere"),
        ("export", ["run=empty", "format=onx"], "format must be one of torch, onnx, numpy, parquet, got onx"),
        ("export", ["run=empty", "output=no/x"], "output: there is no folder no"),
        ("serve", [], "run must be given"),
        ("serve", ["run=empty", "port=70000"], "port must be from 0 to 65535, got 70000"),
        ("serve", ["run=empty", "reload_seconds=0"], "reload_seconds must be above 0, got 0"),
    ],
)
def test_mistake_in_a_command_on_a_run_gives_a_one_line_error(command, tmp_path, script, arguments, message):
    (tmp_path / "empty").mkdir()
    error = command(tmp_path, script, *arguments, status=2).stderr
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("arguments", [["hydra.run.dir=mine"], ["-m", "hydra.sweep.dir=mine", "seed=1,2"]])
def test_run_folder_with_files_is_refused(command, tmp_path, arguments):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "train.log").write_text("mine")
    outcome = command(tmp_path, "train", *arguments, status=2)
    assert "must be a new or empty folder" in outcome.stderr
    assert [path.name for path in folder.iterdir()] == ["train.log"]
    assert (folder / "train.log").read_text() == "mine"


@pytest.mark.parametrize("arguments", [["hydra.run.dir=full"], ["-m", "hydra.sweep.dir=full", "seed=1,2"]])
def test_disk_that_is_full_before_the_run_starts_is_named(command, tmp_path, monkeypatch, arguments):
    def fail(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("hydra.core.utils._save_config", fail)
    outcome = command(tmp_path, "train", *arguments, status=1)
    assert outcome.stderr == f"error: {tmp_path}/full: No space left on device\n"
    assert "-m" in arguments or list(tmp_path.iterdir()) == []  # the same command continues a sweep


def test_existing_empty_run_folder_is_kept_after_a_mistake(command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for name in ("mine", "link"):
        command(tmp_path, "train", f"hydra.run.dir={name}", "data=csv", "data.path=none.csv", status=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "mine"]
    assert list((tmp_path / "mine").iterdir()) == []


def test_sweep_keeps_finished_runs_when_a_later_job_fails(command, tmp_path):
    rows = [f"{user},{item},{1 + user * item % 5}" for user in range(20) for item in range(20)]
    (tmp_path / "good.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    data = ["data=csv", "data.path=good.csv,none.csv"]
    outcome = command(tmp_path, "train", "-m", *data, "trainer=debug", "logger=none", status=1)
    assert "failed     1-path-none.csv: data.path: there is no file none.csv" in outcome.stdout
    (record,) = tmp_path.glob("outputs/sweeps/*/*/*/run.json")
    assert (record.parent / "metrics.json").exists()
    names = sorted(path.name for path in record.parent.parent.iterdir() if path.is_dir() and path.name != "figures")
    assert names == ["0-path-good.csv", "1-path-none.csv"]
    assert (record.parent.parent / "multirun.yaml").exists()


def test_existing_output_folder_is_kept_after_a_mistake(command, tmp_path):
    (tmp_path / "outputs").mkdir()
    command(tmp_path, "train", "data=csv", "data.path=none.csv", status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    assert list((tmp_path / "outputs").iterdir()) == []


OWN_FILES = [
    ("model: {embeding_dim: 3}", "experiment=mine sets model.embeding_dim, which model=mf does not have; did you mean "
     "model.embedding_dim?"),
    ("modle: {embedding_dim: 3}", "experiment=mine sets modle, which train does not have; did you mean model?"),
    ("sed: 3", "experiment=mine sets sed, which train does not have; did you mean seed?"),
    ("callbacks: {early_stopping: {patients: 3}}", "experiment=mine sets callbacks.early_stopping.patients, which "
     "callbacks=default does not have; did you mean callbacks.early_stopping.patience?"),
    ("model: {embedding_dim: abc}", "model.embedding_dim must be an integer, got abc"),
    ("defaults: [override /modle: bias]", "unknown key modle; did you mean model?"),
    ("defaults: [override /model: biass]", "unknown model=biass: choose from best, bias, "),
    ("defaults: [/model: bias]", "/mine.yaml: write `- override /model: bias` in place of `- /model: bias`"),
    ("defaults: [override model: bias]", "write `- override /model: bias` in place of `- override model: bias`"),
    ("defaults: [model: bias]", "write `- override /model: bias` in place of `- model: bias`"),
    ("model: {embedding_dim: [3}", "mine.yaml, line 2: "),
    ("defaults: [override /logger: [csv, tensorbord]]", "unknown logger=tensorbord: choose from "),
    ("logger: {tensorbord: {figures: false}}", "experiment=mine sets logger.tensorbord, which logger=tensorboard does "
     "not have; did you mean logger.tensorboard?"),
    ("logger: {figures: false}", "logger.figures has keys of its own, got false"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), OWN_FILES, ids=[text for text, _ in OWN_FILES])
def test_mistake_in_a_user_config_names_the_file_or_the_key(command, tmp_path, text, message):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    error = command(tmp_path, "train", "--config-dir", "own", "experiment=mine", status=2).stderr
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_search_values_are_checked_before_the_first_run(command, tmp_path):
    (tmp_path / "own" / "search").mkdir(parents=True)
    search = "# @package _global_\n# Mine.\nhydra:\n  sweeper:\n    params:\n      seed: 1,-1\n"
    (tmp_path / "own" / "search" / "mine.yaml").write_text(search)
    outcome = command(tmp_path, "train", "-m", "--config-dir", "own", "search=mine", status=2)
    assert outcome.stderr == "error: seed must be from 0 to 4294967295, got -1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


@pytest.mark.skipif(HAS_OPTUNA, reason="the extra `sweep` is installed")
@pytest.mark.parametrize("choice", ["hydra/sweeper=optuna", "hydra/launcher=joblib", "search=nmf_adam"])
def test_plugins_that_are_not_installed_are_named(command, tmp_path, choice):
    outcome = command(tmp_path, "train", "-m", choice, "seed=0,1", status=2)
    assert outcome.stderr.endswith(" needs a plugin of Hydra: pip install 'ratinglab[sweep]'\n")
    assert outcome.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
