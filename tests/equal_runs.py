"""Comparison of two runs, bit for bit."""

import json
from pathlib import Path

import torch


def assert_equal_runs(run: Path, other: Path) -> None:
    """Compare weights, optimizer states and metrics; times may differ."""
    for name in ("best", "last"):
        weights, others = (
            torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True) for folder in (run, other)
        )
        assert weights["epochs"] == others["epochs"]
        assert weights["state_dict"].keys() == others["state_dict"].keys()
        for key, value in weights["state_dict"].items():
            for part, tensor in value.items() if isinstance(value, dict) else [("", value)]:  # samples are a dict
                other_value = others["state_dict"][key]
                assert torch.equal(tensor, other_value[part] if part else other_value), key
        assert str(weights["optimizer_states"]) == str(others["optimizer_states"])
    names = ["epochs.csv", *(["predictions.parquet"] if (other / "predictions.parquet").exists() else [])]
    for name in names:  # a ranking model has no predictions
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    metrics, others = (json.loads((folder / "metrics.json").read_text()) for folder in (run, other))
    timed = {"fit/seconds", "fit/ratings_per_second"}
    assert {tag: value for tag, value in metrics.items() if tag not in timed} == {
        tag: value for tag, value in others.items() if tag not in timed
    }
