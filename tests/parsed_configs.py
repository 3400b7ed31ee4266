"""Configs of packages, parsed once per process: Hydra parses them at each composition, a sixth of a command."""

import copy
from typing import Any

from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins


def parse_once() -> None:
    """Let Hydra keep the parsed files of conf/ and of its own package."""
    Plugins.instance()  # Hydra 1.3 loads the module of its sources again to register them: the import has another class
    source = SourcesRegistry.instance().resolve("pkg")
    read, kept = source._read_config, {}

    def read_config(self: Any, file: Any) -> Any:
        key = self.provider, self.path, str(file)
        if key not in kept:
            kept[key] = read(self, file)
        return copy.deepcopy(kept[key])

    source._read_config = read_config
