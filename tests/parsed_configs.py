"""Parts of a composed config, made once per process: each took a tenth to a quarter of a short command.

They depend only on files of packages, which no test changes: configs with a folder of the user's are composed anew.
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


def parse_once() -> None:
    """Let OmegaConf keep parsed interpolations, and Hydra parsed files, the lists of files and what they add up to.

    Hydra and OmegaConf copy whole configs forty times per command. Nodes are copied without their constructors, which
    check a value that is then replaced.
    """
    for node in NODES:
        node.__deepcopy__ = copied_node
    base.parse = functools.cache(grammar_parser.parse)
    OmegaConf.structured = staticmethod(_structured_once(OmegaConf.structured))
    Plugins.instance()  # Hydra 1.3 loads the module of its sources again to register them: the import has another class
    source = SourcesRegistry.instance().resolve("pkg")
    source._read_config = _reading_once(source._read_config)
    config_loader_impl.create_defaults_list = _listing_once(config_loader_impl.create_defaults_list)
    compose = ConfigLoaderImpl._compose_config_from_defaults_list
    ConfigLoaderImpl._compose_config_from_defaults_list = _adding_up_once(compose)


def copied_node(node: base.Node, memo: dict[int, Any]) -> base.Node:
    """Copy a node as its own method `__deepcopy__` does: below it everything anew, with the same parent above."""
    copied = object.__new__(type(node))
    copied.__dict__.update(node.__dict__)
    copied.__dict__["_metadata"] = _copied_metadata(node._metadata)
    if isinstance(node, base.Container):
        copied.__dict__["_flags_cache"] = copy.copy(node.__dict__["_flags_cache"])
        copied.__dict__["_content"] = _copied_content(copied, memo)
    else:
        copied.__dict__["_flags_cache"] = None
    return copied


def _copied_content(container: Any, memo: dict[int, Any]) -> Any:
    content = container.__dict__["_content"]
    if not isinstance(content, dict | list):
        return content  # null, or text that stands for a container
    nodes = content.values() if isinstance(content, dict) else content
    copies = [copied_node(node, memo) if type(node) in NODES else copy.deepcopy(node, memo) for node in nodes]
    for each in copies:
        each.__dict__["_parent"] = container
    return dict(zip(content, copies, strict=True)) if isinstance(content, dict) else copies


def _copied_metadata(metadata: base.Metadata) -> base.Metadata:
    copied = object.__new__(type(metadata))
    copied.__dict__.update(metadata.__dict__)
    copied.flags = copy.copy(metadata.flags)
    copied.resolver_cache = copy.deepcopy(metadata.resolver_cache) if metadata.resolver_cache else defaultdict(dict)
    return copied


def _structured_once(structured: Any) -> Any:
    """Keep the typed config of each dataclass of the package. Later tests would find a kept class of the user's."""
    of_class = functools.cache(structured)

    def typed(obj: Any, *options: Any, **more: Any) -> Any:
        if isinstance(obj, type) and obj.__module__.startswith("ratinglab.") and not options and not more:
            return copy.deepcopy(of_class(obj))
        return structured(obj, *options, **more)

    return typed


def _reading_once(read: Any) -> Any:
    kept = {}

    def read_config(self: Any, file: Any) -> Any:
        key = self.provider, self.path, str(file)
        if key not in kept:
            kept[key] = read(self, file)
        return copy.deepcopy(kept[key])

    return read_config


def _listing_once(create: Any) -> Any:
    """Keep the list of files for each set of choices; values of keys have no part in it."""
    kept = {}

    def create_defaults_list(
        *, repo: Any, config_name: str, overrides_list: list[Any], **options: bool
    ) -> DefaultsList:
        sources = _sources(repo)
        values = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        choices = [override for override in overrides_list if override not in values]
        key = sources, config_name, tuple(override.input_line for override in choices), *options.values()
        if sources is None or key not in kept:
            found = create(repo=repo, config_name=config_name, overrides_list=choices, **options)
            if sources is not None:
                kept[key] = found
        else:
            found = kept[key]
        return DefaultsList(found.defaults, found.defaults_tree, values, found.overrides)

    return create_defaults_list


def _adding_up_once(compose: Any) -> Any:
    """Keep the config of each list of files."""
    kept = {}

    def compose_from_list(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> DictConfig:
        sources = _sources(repo)
        if sources is None:
            return compose(self, defaults=defaults, repo=repo)
        key = sources, *((file.config_path, file.package, file.primary) for file in defaults)
        if key not in kept:
            kept[key] = compose(self, defaults=defaults, repo=repo)
        return copy.deepcopy(kept[key])

    return compose_from_list


def _sources(repo: Any) -> Sources | None:
    """List the sources of configs; None: one of them is a folder, whose files can change."""
    sources = tuple((source.provider, source.scheme(), source.path) for source in repo.get_sources())
    return None if any(scheme == "file" for _, scheme, _ in sources) else sources
