"""Caches of the parts of a composed config. Making each part took a tenth to a quarter of a short command.

The cached parts depend only on files of packages, which no test changes. Configs with a user's folder are not cached.
"""

import copy
import functools
from collections import defaultdict
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from omegaconf import (
    AnyNode,
    BooleanNode,
    DictConfig,
    EnumNode,
    FloatNode,
    IntegerNode,
    ListConfig,
    OmegaConf,
    StringNode,
    base,
    grammar_parser,
)

Sources = tuple[tuple[str, str, str], ...]
NODES = (DictConfig, ListConfig, AnyNode, BooleanNode, EnumNode, FloatNode, IntegerNode, StringNode)
"""Types of the nodes of a config."""


def cache_configs() -> None:
    """Let OmegaConf cache parsed interpolations, and Hydra parsed files, lists of files and composed configs.

    Hydra and OmegaConf copy whole configs forty times per command. Nodes are copied without their constructors, which
    check a value that is then replaced.
    """
    for node in NODES:
        node.__deepcopy__ = copy_node
    base.parse = functools.cache(grammar_parser.parse)
    OmegaConf.structured = staticmethod(_cache_structured(OmegaConf.structured))
    Plugins.instance()  # Hydra 1.3 loads the module of its sources again to register them: the import has another class
    source = SourcesRegistry.instance().resolve("pkg")
    source._read_config = _cache_files(source._read_config)
    config_loader_impl.create_defaults_list = _cache_lists(config_loader_impl.create_defaults_list)
    compose = ConfigLoaderImpl._compose_config_from_defaults_list
    ConfigLoaderImpl._compose_config_from_defaults_list = _cache_composed(compose)


def copy_node(node: base.Node, memo: dict[int, Any]) -> base.Node:
    """Copy a node as its own method `__deepcopy__` does: everything below it is copied, and the parent is shared."""
    copied = object.__new__(type(node))
    copied.__dict__.update(node.__dict__)
    copied.__dict__["_metadata"] = _copy_metadata(node._metadata)
    if isinstance(node, base.Container):
        copied.__dict__["_flags_cache"] = copy.copy(node.__dict__["_flags_cache"])
        copied.__dict__["_content"] = _copy_content(copied, memo)
    else:
        copied.__dict__["_flags_cache"] = None
    return copied


def _copy_content(container: Any, memo: dict[int, Any]) -> Any:
    content = container.__dict__["_content"]
    if not isinstance(content, dict | list):
        return content  # null, or text that stands for a container
    nodes = content.values() if isinstance(content, dict) else content
    copies = [copy_node(node, memo) if type(node) in NODES else copy.deepcopy(node, memo) for node in nodes]
    for child in copies:
        child.__dict__["_parent"] = container
    return dict(zip(content, copies, strict=True)) if isinstance(content, dict) else copies


def _copy_metadata(metadata: base.Metadata) -> base.Metadata:
    copied = object.__new__(type(metadata))
    copied.__dict__.update(metadata.__dict__)
    copied.flags = copy.copy(metadata.flags)
    copied.resolver_cache = copy.deepcopy(metadata.resolver_cache) if metadata.resolver_cache else defaultdict(dict)
    return copied


def _cache_structured(structured: Any) -> Any:
    """Cache the typed config of each dataclass of the package, but not of a user's, whose name may be used again."""
    structured_class = functools.cache(structured)

    def typed(obj: Any, *options: Any, **more: Any) -> Any:
        if isinstance(obj, type) and obj.__module__.startswith("ratinglab.") and not options and not more:
            return copy.deepcopy(structured_class(obj))
        return structured(obj, *options, **more)

    return typed


def _cache_files(read: Any) -> Any:
    cache = {}

    def read_config(self: Any, file: Any) -> Any:
        key = self.provider, self.path, str(file)
        if key not in cache:
            cache[key] = read(self, file)
        return copy.deepcopy(cache[key])

    return read_config


def _cache_lists(create: Any) -> Any:
    """Cache the list of files of each set of choices. The values of keys do not affect the list."""
    cache = {}

    def create_defaults_list(
        *, repo: Any, config_name: str, overrides_list: list[Any], **options: bool
    ) -> DefaultsList:
        sources = _sources(repo)
        values = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        choices = [override for override in overrides_list if override not in values]
        key = sources, config_name, tuple(override.input_line for override in choices), *options.values()
        if sources is None or key not in cache:
            files = create(repo=repo, config_name=config_name, overrides_list=choices, **options)
            if sources is not None:
                cache[key] = files
        else:
            files = cache[key]
        return DefaultsList(files.defaults, files.defaults_tree, values, files.overrides)

    return create_defaults_list


def _cache_composed(compose: Any) -> Any:
    """Cache the config of each list of files."""
    cache = {}

    def compose_from_list(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> DictConfig:
        sources = _sources(repo)
        if sources is None:
            return compose(self, defaults=defaults, repo=repo)
        key = sources, *((file.config_path, file.package, file.primary) for file in defaults)
        if key not in cache:
            cache[key] = compose(self, defaults=defaults, repo=repo)
        return copy.deepcopy(cache[key])

    return compose_from_list


def _sources(repo: Any) -> Sources | None:
    """List the sources of configs; None if one of them is a folder, whose files can change."""
    sources = tuple((source.provider, source.scheme(), source.path) for source in repo.get_sources())
    return None if any(scheme == "file" for _, scheme, _ in sources) else sources
