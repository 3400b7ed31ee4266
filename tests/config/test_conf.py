"""YAML files of conf/: each composes, converts to options, and documents the same as its dataclass."""

import dataclasses

import pytest
from documented import CONF, FILES, composed, expected_comments, field_docstrings, key_docstrings, options_of
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from ratinglab.config.error_messages import OPTIONAL_GROUPS
from ratinglab.config.help_text import find_key_comments, read_file_comment
from ratinglab.config.job import OPTIONS_CLASSES
from ratinglab.config.primary_config import MULTIPLE_CHOICE_GROUPS, PrimaryConfig
from ratinglab.config.typed_options import to_options
from ratinglab.errors import UserError
from ratinglab.options import as_yaml, field_key

OVERLAY_GROUPS = ("protocol", *OPTIONAL_GROUPS)
GROUP_FILES = [path for path in FILES if path.parent != CONF and path.parent.name not in OVERLAY_GROUPS]
OVERLAY_FILES = [path for path in FILES if path.parent.name in OVERLAY_GROUPS]
OF_LISTS = "monitor=val/ndcg@10"
REQUIRED = {
    "data=csv": ["data.path=x.csv"],
    "split=files": ["split.test_files=x.csv"],
    "split=rows": ["split.test_start=0", "split.test_stop=5"],
    "split=held_out_users": ["recipe=ease"],
    "protocol=movielens_1m_held_out_users": ["recipe=ease"],
    "protocol=movielens_20m_held_out_users": ["recipe=ease"],
    "model=ease": ["optimizer=closed_form", OF_LISTS],
    "model=item_knn": ["optimizer=closed_form", OF_LISTS],
    "model=implicit_mf": ["optimizer=implicit_als", OF_LISTS],
    "optimizer=closed_form": ["model=ease", OF_LISTS],
    "optimizer=implicit_als": ["model=implicit_mf", OF_LISTS],
}


@pytest.fixture(autouse=True)
def has_all_packages(monkeypatch):
    """Let the options of loggers, fits and the server be made, whether or not their packages are installed."""
    monkeypatch.setattr("ratinglab.errors.find_spec", lambda name: name)


def choice(path):
    return f"{path.parent.name}={path.stem}"


@pytest.mark.parametrize("path", GROUP_FILES, ids=choice)
def test_every_choice_sets_each_field_and_no_field_has_a_default_in_python(path):
    group, arguments = path.parent.name, [choice(path), *REQUIRED.get(choice(path), [])]
    config, options = composed("train", *arguments)[0], options_of("train", *arguments)
    if path.name == "none.yaml":
        assert getattr(options, group) == config[group] == {}
        return
    content, choice_options = config[group], getattr(options, group)
    if group in MULTIPLE_CHOICE_GROUPS:
        assert content.keys() == choice_options.keys() == {path.stem}
        content, choice_options = content[path.stem], choice_options[path.stem]
    fields = dataclasses.fields(choice_options)
    assert content["_target_"] == f"{type(choice_options).__module__}.{type(choice_options).__qualname__}"
    assert {key for key in content if key != "_target_"} == {field.name for field in fields}
    for field in fields:
        assert field.default is dataclasses.MISSING
        assert field.default_factory is dataclasses.MISSING
    assert getattr(choice_options, "name", path.stem) == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_key_comment_equals_its_docstring_and_every_file_has_a_title(path):
    text = path.read_text(encoding="utf-8")
    comments, expected = find_key_comments(text), expected_comments(path)
    assert {key: comments[key] for key in expected} == expected, "write them with tests/documented.py"
    first = read_file_comment(text)[0]
    assert first
    assert len(first) < 100


@pytest.mark.parametrize("path", OVERLAY_FILES, ids=choice)
def test_no_overlay_repeats_the_docstring_of_a_key_that_another_file_defines(path):
    comments, expected = find_key_comments(path.read_text(encoding="utf-8")), expected_comments(path)
    docstrings = {key: text for key, text in key_docstrings(path).items() if key not in expected}
    repeated = [key for key, docstring in docstrings.items() if docstring in comments[key]]
    assert not repeated, "remove them with tests/documented.py"


def test_every_field_has_a_docstring():
    for root in OPTIONS_CLASSES.values():
        assert_documented(root)
    for path in [*GROUP_FILES, CONF / "protocol" / "movielens_u1.yaml"]:
        arguments = [choice(path), *REQUIRED.get(choice(path), [])]
        options = getattr(options_of("train", *arguments), path.parent.name)
        for choice_options in options.values() if isinstance(options, dict) else [options]:
            assert_documented(type(choice_options))


def assert_documented(cls):
    missing = {field_key(field.name) for field in dataclasses.fields(cls)} - set(field_docstrings(cls))
    assert not missing, f"{cls.__name__} has no docstring for {missing}"
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.type):
            assert_documented(field.type)


@pytest.mark.parametrize("path", OVERLAY_FILES, ids=choice)
def test_every_overlay_composes(path):
    options_of("train", choice(path), *REQUIRED.get(choice(path), []))


@pytest.mark.parametrize("name", ["movielens_100k_u1", "movielens_100k_u1_block_sgd"])
def test_experiments_use_fold_1_of_movielens_u(name):
    options = options_of("train", f"experiment={name}")
    assert (options.data.name, options.split.fold, options.split.validation) == ("movielens_100k", 1, 0)


@pytest.mark.parametrize(
    ("root", "overrides"),
    [
        ("inspect_data", ["data=movielens_1m"]),
        ("evaluate", ["run=x"]),
        ("recommend", ["run=x", "user=1"]),
        ("similar", ["run=x", "item=1"]),
        ("predict", ["run=x", "input=a.csv", "output=b.csv"]),
        ("export", ["run=x", "format=numpy"]),
        ("serve", ["run=x"]),
    ],
)
def test_configs_of_other_commands_compose(root, overrides):
    assert isinstance(options_of(root, *overrides), OPTIONS_CLASSES[root])


@pytest.mark.parametrize(
    ("protocol", "data", "split"),
    [
        ("movielens_u1", "movielens_100k", {"name": "movielens_u", "fold": 1, "validation": 0.0}),
        ("movielens_u1_u5", "movielens_100k", {"name": "movielens_u", "validation": 0.0}),
        ("surprise_5fold", "movielens_100k", {"name": "surprise_kfold", "seed": 0, "folds": 5, "validation": 0.0}),
        (
            "latest_small_80_20",
            "movielens_latest_small",
            {"name": "random", "seed": 42, "test": 0.2, "validation": 0.0},
        ),
        ("movielens_100k_leave_last", "movielens_100k", {"name": "leave_last", "test": 1, "validation": 0}),
        ("latest_small_per_user", "movielens_latest_small", {"name": "per_user", "seed": 0, "test": 0.2}),
    ],
)
def test_protocol_sets_data_and_split_but_not_model_and_optimizer(protocol, data, split):
    options = options_of("train", f"protocol={protocol}")
    assert options.data.name == data
    assert {key: getattr(options.split, key) for key in split} == split
    assert (options.model.name, options.optimizer.name) == ("mf", "adam")
    assert len(options.protocol.references) > 0


def test_command_line_overrides_protocol_recipe_and_experiment():
    chosen = ["protocol=movielens_u1", "recipe=biased_mf_als", "split.fold=3", "model.embedding_dim=5", "seed=4"]
    options = options_of("train", *chosen)
    assert (options.split.fold, options.model.embedding_dim, options.seed) == (3, 5, 4)
    assert (options.model.name, options.model.regularization) == ("biased_mf", 0.12)
    options = options_of("train", "protocol=movielens_u1", "recipe=biased_mf_als", "model=mf", "optimizer=als")
    assert (options.model.name, options.model.embedding_dim) == ("mf", 64)
    options = options_of("train", "experiment=movielens_100k_u1", "split=movielens_u", "data=csv", "data.path=x")
    assert (options.data.name, options.data.batch_size) == ("csv", 256)


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "search"], ids=choice)
def test_search_covers_the_settings_of_its_recipe_on_any_data(path):
    search, recipe = options_of("train", choice(path)), options_of("train", f"recipe={path.stem}")
    assert (search.model, search.optimizer, search.data) == (recipe.model, recipe.optimizer, recipe.data)
    assert search.split == options_of("train").split
    assert not search.test
    config, hydra = composed("train", choice(path))
    for key, values in hydra.sweeper.params.items():
        value = OmegaConf.to_container(config)[key.split(".")[0]][key.split(".")[1]]
        (override,) = OverridesParser.create().parse_overrides([f"{key}={values}"])
        if override.is_discrete_sweep():
            assert as_yaml(value) in list(override.sweep_string_iterator()), key
        else:
            assert override.value().start <= value <= override.value().end, key


EXPERIMENT = """# @package _global_
# Mine.
defaults:
  - override /protocol: movielens_u1
  - override /recipe: biased_mf_als
seed: 7
clip_predictions: false
split:
  fold: 2
model:
  embedding_dim: 9
"""


def test_experiment_can_choose_a_protocol_and_a_recipe_and_set_any_key(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(EXPERIMENT)
    conf = PrimaryConfig("train")
    conf.add_folder(str(tmp_path))
    options, other = (
        to_options(conf.compose(["experiment=mine", *more])[0], OPTIONS_CLASSES["train"]) for more in ([], ["seed=1"])
    )
    assert (options.seed, options.clip_predictions, options.split.fold) == (7, False, 2)
    assert (options.model.embedding_dim, options.model.regularization, options.optimizer.name) == (9, 0.12, "als")
    assert options.protocol.folds == 1
    assert other.seed == 1


def test_missing_config_dir_is_refused():
    with pytest.raises(UserError, match="--config-dir: there is no folder nowhere"):
        PrimaryConfig("train").add_folder("nowhere")
