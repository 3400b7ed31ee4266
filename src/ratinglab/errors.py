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


def require(*packages: str, extra: str, asked_by: str) -> None:
    """Raise UserError if a package is missing that an extra of ratinglab installs; `asked_by` is what needs it."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(f"{asked_by} needs {', '.join(missing)}: pip install 'ratinglab[{extra}]'")


WORDS_OF_PEERS = {
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
"""Keys of the options that Surprise, Cornac, Spark, scikit-learn and Lightning call by other names."""


def refuse_arguments(message: str) -> NoReturn:
    """Raise UserError, in place of `ArgumentParser.error`, which prints the usage first."""
    raise UserError(f"{message}; see --help")


def did_you_mean(name: str, valid: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return `; did you mean NAME?` for the closest valid name, or "" if none is close.

    The cutoff is the required similarity, from 0 to 1; file names with equal extensions need a higher one.
    """
    nearest = get_close_matches(name, list(valid), n=1, cutoff=cutoff)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def did_you_mean_key(key: str, valid: Sequence[str]) -> str:
    """Return `; did you mean KEY?` for the nearest valid key, such as optimizer.lr, or "" if none is close.

    A key with the same last part is nearest. Otherwise compares the last parts, more strictly with keys of other
    groups; one is close if the typed last part is one of its words or its beginning.
    """
    group, _, name = key.rpartition(".")
    if WORDS_OF_PEERS.get(name) in valid:
        return f"; did you mean {WORDS_OF_PEERS[name]}?"
    last_parts = {other: other.rpartition(".")[2] for other in valid}
    same_name = [other for other in valid if last_parts[other] == name]
    if same_name:
        return f"; did you mean {max(same_name, key=lambda other: _similarity(key, other))}?"

    def closeness(other: str) -> float:
        last = last_parts[other]
        is_part = len(name) >= 3 and (name in last.split("_") or last.startswith(name))
        return 0.9 if is_part else _similarity(name, last)

    def is_sibling(other: str) -> bool:
        return other.rpartition(".")[0] == group

    close = [other for other in valid if closeness(other) >= (0.6 if is_sibling(other) else 0.75)]
    if not close:
        return ""
    return f"; did you mean {max(close, key=lambda other: (closeness(other), is_sibling(other)))}?"


def _similarity(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
