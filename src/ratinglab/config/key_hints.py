"""Suggestions of the nearest valid key for a mistyped one."""

from collections.abc import Sequence
from difflib import SequenceMatcher

KEYS_BY_PEER_NAME = {
    "learning_rate": "optimizer.lr",
    "lr_all": "optimizer.lr",
    "n_epochs": "trainer.max_epochs",
    "n_iterations": "trainer.max_epochs",
    "max_iter": "trainer.max_epochs",
    "n_factors": "model.embedding_dim",
    "num_factors": "model.embedding_dim",
    "rank": "model.embedding_dim",
    "reg_all": "model.regularization",
    "lambda_reg": "model.regularization",
    "test_size": "split.test",
    "n_splits": "split.folds",
    "random_state": "seed",
    "gpus": "trainer.devices",
}
"""Our key for each option name of Surprise, Cornac, Spark, scikit-learn and Lightning."""


def did_you_mean_key(key: str, valid: Sequence[str]) -> str:
    """Return `; did you mean KEY?` for the nearest valid key, such as optimizer.lr, or "" if none is close.

    A key with the same last part is nearest. Otherwise, compares the last parts of the keys. A key of another group
    must be more similar than a key of the same group. A key is also close if its last part contains the typed word, or
    begins with it.
    """
    group, _, name = key.rpartition(".")
    if KEYS_BY_PEER_NAME.get(name) in valid:
        return f"; did you mean {KEYS_BY_PEER_NAME[name]}?"
    last_parts = {candidate: candidate.rpartition(".")[2] for candidate in valid}
    if same_name := [candidate for candidate in valid if last_parts[candidate] == name]:
        return f"; did you mean {max(same_name, key=lambda candidate: SequenceMatcher(None, key, candidate).ratio())}?"

    def similarity(candidate: str) -> float:
        last = last_parts[candidate]
        is_part = len(name) >= 3 and (name in last.split("_") or last.startswith(name))
        return 0.9 if is_part else SequenceMatcher(None, name, last).ratio()

    def is_sibling(candidate: str) -> bool:
        return candidate.rpartition(".")[0] == group

    close = [candidate for candidate in valid if similarity(candidate) >= (0.6 if is_sibling(candidate) else 0.75)]
    if not close:
        return ""
    return f"; did you mean {max(close, key=lambda candidate: (similarity(candidate), is_sibling(candidate)))}?"
