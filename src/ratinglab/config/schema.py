"""Registers the options dataclasses as Hydra's typed schemas, and turns a composed config into options."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import make_dataclass
from hashlib import blake2b
from typing import Any

import platformdirs
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ratinglab.errors import UserError
from ratinglab.experiment.options import (
    GROUPS,
    EvaluateOptions,
    InspectOptions,
    PredictOptions,
    RecommendOptions,
    TrainOptions,
)
from ratinglab.models.discovery import model_names, options_class
from ratinglab.options import check_options

VERSION_BASE = "1.3"
"""The version of Hydra whose ways conf/ is written for."""
RUN_SUFFIX = secrets.token_hex(2)
"""Tells apart the folders of runs that start in the same second."""

ROOTS = {
    "train": TrainOptions,
    "inspect_data": InspectOptions,
    "evaluate": EvaluateOptions,
    "recommend": RecommendOptions,
    "predict": PredictOptions,
}
"""The class of each primary config in conf/."""


def register_schemas() -> None:
    """Make the schemas and the resolvers known to Hydra; conf/*.yaml take the schemas in by their defaults.

    A schema is named schema_GROUP_NAME, in no group: a group would stand in --help, among those that users choose from.
    """
    store = ConfigStore.instance()
    for name, root in ROOTS.items():
        store.store(name=f"schema_{name}", node=root)
    models = {name: _options_or_stand_in(name) for name in model_names()}
    for group, classes in {**GROUPS, "model": models}.items():
        for name, options in classes.items():
            store.store(name=f"schema_{group}_{name}", node=options)
    OmegaConf.register_new_resolver("run_suffix", lambda: RUN_SUFFIX, replace=True)
    OmegaConf.register_new_resolver("short_hash", _short_hash, replace=True)
    OmegaConf.register_new_resolver("unless_sweep", _unless_sweep, replace=True)
    OmegaConf.register_new_resolver("cache_folder", cache_folder, replace=True)


def _options_or_stand_in(name: str) -> type:
    """An equation's Options; where its file is at fault, a class that says so when the equation is chosen."""
    try:
        return options_class(name)
    except UserError as error:
        fault = error

    def refuse(self: Any) -> None:
        raise fault

    return make_dataclass("Options", [], namespace={"check_together": refuse})


def cache_folder() -> str:
    """Where generated and downloaded data lie: $RATINGLAB_DATA, or the user's cache folder."""
    return os.environ.get("RATINGLAB_DATA") or platformdirs.user_cache_dir("ratinglab", appauthor=False)


def _unless_sweep(value: Any, in_sweep: Any) -> Any:
    hydra = HydraConfig.instance()
    return in_sweep if hydra.cfg is not None and hydra.get().mode == RunMode.MULTIRUN else value


def _short_hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=3).hexdigest()


def to_options(config: DictConfig, overrides: Sequence[Override]) -> Any:
    """The options object that a composed config describes, every range checked.

    A text on the top level, such as user=1e5, is taken as it was typed, not as the number that Hydra reads there.

    Raises:
        UserError: a value is missing or out of its range.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]} must be given, as in {missing[0]}=VALUE")
    options: Any = OmegaConf.to_object(config)
    for override in overrides:
        key = override.key_or_group
        if isinstance(getattr(options, key, None), str) and not isinstance(override.value(), str):
            assert override.input_line is not None
            setattr(options, key, override.input_line.split("=", 1)[1])
    check_options(options)
    return options
