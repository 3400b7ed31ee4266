"""Configs of packages and interpolations, parsed once per process: they take a quarter of a short command."""

import copy
import functools
from typing import Any

from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from omegaconf import base, grammar_parser


def parse_once() -> None:
    """Let Hydra keep the parsed files of conf/ and of its own package, and OmegaConf the parsed interpolations."""
    base.parse = functools.cache(grammar_parser.parse)
    Plugins.instance()  # Hydra 1.3 loads the module of its sources again to register them: the import has another class
    source = SourcesRegistry.instance().resolve("pkg")
    read, kept = source._read_config, {}

    def read_config(self: Any, file: Any) -> Any:
        key = self.provider, self.path, str(file)
        if key not in kept:
            kept[key] = read(self, file)
        return copy.deepcopy(kept[key])

    source._read_config = read_config
