"""Copies of configs as the tests make them (tests/cached_configs.py), which must equal OmegaConf's own."""

import copy
from typing import Any

import pytest
from documented import composed
from omegaconf import DictConfig, ListConfig, Node, OmegaConf, base


def content_of(node: Node) -> dict[Any, Node]:
    content = node.__dict__.get("_content")
    return dict(enumerate(content)) if isinstance(content, list) else content if isinstance(content, dict) else {}


def assert_equal_but_separate(node: Node, other: Node) -> None:
    assert type(node) is type(other)
    assert node is not other
    assert node._metadata == other._metadata
    assert type(node._metadata) is type(other._metadata)
    for name in ("flags", "resolver_cache"):
        assert getattr(node._metadata, name) is not getattr(other._metadata, name)
    nodes, others = content_of(node), content_of(other)
    assert list(nodes) == list(others)
    if not nodes:
        assert node.__dict__.get("_val") == other.__dict__.get("_val")
        assert node.__dict__.get("_content") == other.__dict__.get("_content")
    for key, child in nodes.items():
        assert (child._parent, others[key]._parent) == (node, other)
        assert child._parent is node
        assert_equal_but_separate(child, others[key])


@pytest.mark.parametrize("part", [0, 1], ids=["config", "hydra"])
def test_copy_of_a_config_is_equal_and_shares_no_node(part):
    config = composed("train")[part]
    copied = copy.deepcopy(config)
    assert_equal_but_separate(copied, config)
    assert copied._parent is config._parent


def test_copied_containers_keep_flags_nulls_and_missing_values():
    config = OmegaConf.create({"list": [1, "${oc.env:HOME}"], "null": None, "missing": "???", "own": {"a": 1}})
    config.null = DictConfig(None)
    config["empty"] = ListConfig("???")
    OmegaConf.set_readonly(config.own, True)
    copied = copy.deepcopy(config)
    assert_equal_but_separate(copied, config)
    assert OmegaConf.is_readonly(copied.own)
    assert isinstance(copied, base.Container)
    copied.list[0] = 2
    assert config.list[0] == 1
