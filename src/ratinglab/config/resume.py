"""`resume=FOLDER`: the arguments with which a run was started, once more, into its own folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from ratinglab.errors import UserError
from ratinglab.files import user_path

EXTENDS = "trainer.max_epochs"
"""The one key that may be set beside resume: more epochs of the same experiment."""


def resumed_arguments(overrides: Sequence[str], *, multirun: bool) -> list[str] | None:
    """The overrides under which the run that `resume=` names goes on; None where no run is resumed.

    Raises:
        UserError: there is no such run, or a key is set beside `resume` that would make it another experiment.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    resume = next((override for override in parsed if override.key_or_group == "resume"), None)
    if resume is None or resume.value() is None:
        return None
    if multirun:
        raise UserError("resume goes on with one run: leave out -m")
    folder = _folder(resume)
    for override in parsed:
        if override.key_or_group not in ("resume", EXTENDS):
            raise UserError(
                f"{override.input_line} cannot be set beside resume, which goes on with the run's own configuration; "
                f"only {EXTENDS} can"
            )
    path = folder / ".hydra" / "overrides.yaml"
    if not path.is_file():
        raise UserError(f"resume: {folder} is not the folder of a run: it has no .hydra/overrides.yaml")
    extended = [override.input_line or "" for override in parsed if override.key_or_group == EXTENDS]
    max_epochs = extended or [f"{EXTENDS}={_max_epochs(folder)}"]
    kept = [str(text) for text in OmegaConf.load(path) if not str(text).startswith(f"{EXTENDS}=")]
    quoted = QuotedString(str(folder), Quote.single).with_quotes()
    return [*kept, *max_epochs, f"resume={quoted}", f"hydra.run.dir={quoted}", "hydra.output_subdir=null"]


def with_saved_values(config: DictConfig) -> None:
    """Give a resumed run's config the values it was started with, even if a default in conf/ has changed since."""
    saved = OmegaConf.load(Path(config.resume) / ".hydra" / "config.yaml")
    config.merge_with(saved, {"resume": config.resume, "trainer": {"max_epochs": config.trainer.max_epochs}})


def _max_epochs(folder: Path) -> int:
    """The epochs that the run was to have, when it was started or last extended."""
    try:
        return int(json.loads((folder / "run.json").read_text(encoding="utf-8"))["max_epochs"])
    except (OSError, ValueError, LookupError, TypeError):  # not written yet, or damaged, which is told later
        return int(OmegaConf.select(OmegaConf.load(folder / ".hydra" / "config.yaml"), EXTENDS))


def _folder(resume: Override) -> Path:
    value = resume.value()
    assert resume.input_line is not None
    # as it was typed, should Hydra read a number there
    text = value if isinstance(value, str) else resume.input_line.split("=", 1)[1]
    folder = user_path(text, key="resume")
    if not folder.is_dir():
        raise UserError(f"resume: there is no folder {folder}")
    return folder.absolute()
