"""Configs of packages, parsed once per process: Hydra parses them at each composition, a sixth of a command."""

import copy
from typing import Any

from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource


def parse_once() -> None:
    """Let Hydra keep the parsed files of conf/ and of its own package."""
    read, kept = ImportlibResourcesConfigSource._read_config, {}

    def read_config(self: ImportlibResourcesConfigSource, file: Any) -> Any:
        key = self.provider, self.path, str(file)
        if key not in kept:
            kept[key] = read(self, file)
        return copy.deepcopy(kept[key])

    ImportlibResourcesConfigSource._read_config = read_config
