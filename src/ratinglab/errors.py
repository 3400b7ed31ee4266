"""Errors whose message is one line for the user, and suggestions of names."""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from importlib.util import find_spec
from typing import NoReturn


class UserError(ValueError):
    """A user's mistake. The message is one line that names the place, the rule and the value."""


class ConflictError(UserError):
    """Options that are valid separately but not together."""


class RunFailedError(RuntimeError):
    """A run that cannot be completed, for example because its loss is NaN. The message is one line."""


def require(*packages: str, extra: str, needed_by: str) -> None:
    """Raise UserError if a package is missing. It names `needed_by` and the `extra` of ratinglab to install."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(f"{needed_by} needs {', '.join(missing)}: pip install 'ratinglab[{extra}]'")


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


def refuse_arguments(message: str) -> NoReturn:
    """Raise UserError, in place of `ArgumentParser.error`, which prints the usage first."""
    raise UserError(f"{message}; see --help")


def did_you_mean(name: str, valid: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return `; did you mean NAME?` for the closest valid name, or "" if none is close.

    `cutoff` is the required similarity, from 0 to 1. File names need a higher cutoff, because equal extensions make
    them similar.
    """
    nearest = get_close_matches(name, list(valid), n=1, cutoff=cutoff)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def did_you_mean_key(key: str, valid: Sequence[str]) -> str:
    """Return `; did you mean KEY?` for the nearest valid key, such as optimizer.lr, or "" if none is close.

    A key with the same last part is nearest. Otherwise compares the last parts, and demands more similarity of keys in
    other groups. A key is also close if the last part as typed is one of its words or its beginning.
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
