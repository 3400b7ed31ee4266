"""Options of equations: forms and needs."""

import pytest
from equations import CLASSES, options_of

from ratinglab.models.equation_options import RATING_FORMS, EquationForm, EquationOptions, equation_names
from ratinglab.ratings.side_information import Needs


def outside_names() -> set[str]:
    """Find the names of equations of tests/outside that this process has imported."""
    classes = [EquationOptions]
    for cls in classes:
        classes += cls.__subclasses__()
    return {cls.name for cls in classes if "name" in vars(cls) and not cls.__module__.startswith("ratinglab.")}


@pytest.mark.parametrize(
    ("forms", "names"),
    [
        ({EquationForm.embeddings}, ["biased_mf", "mf"]),
        ({EquationForm.terms}, ["best", "svdpp", "timesvdpp"]),
        ({EquationForm.function}, ["bias", "mean", "nmf"]),
        ({EquationForm.embeddings, EquationForm.terms}, ["best", "biased_mf", "mf", "svdpp", "timesvdpp"]),
        (RATING_FORMS, ["best", "bias", "biased_mf", "mean", "mf", "nmf", "svdpp", "timesvdpp"]),
        ({EquationForm.score_sum, EquationForm.score_product}, ["ease", "implicit_mf", "item_knn"]),
        (set(), []),
    ],
)
def test_names_of_lists_equations_by_form(forms, names):
    assert [name for name in equation_names(forms) if name not in outside_names()] == names


FEATURES = {"user_features": ["gender", "age"], "item_features": ["genres"]}
BOTH = {"user_features": ("gender", "age"), "item_features": ("genres",)}


@pytest.mark.parametrize(
    ("name", "changed", "needs"),
    [
        ("mf", {}, Needs()),
        ("biased_mf", {}, Needs()),
        ("biased_mf", FEATURES, Needs(**BOTH)),
        ("svdpp", {}, Needs(interactions=True)),
        ("svdpp", FEATURES, Needs(interactions=True, **BOTH)),
        ("timesvdpp", {}, Needs(interactions=True, days=True)),
        ("timesvdpp", FEATURES, Needs(interactions=True, days=True, **BOTH)),
        ("nmf", {}, Needs()),
    ],
)
def test_needs_follow_from_the_options(name, changed, needs):
    assert options_of(name, **changed).needs() == needs


def test_every_equation_has_options_and_a_unique_name():
    names = [name for name in equation_names(RATING_FORMS) if name not in outside_names()]
    assert sorted([*CLASSES, "best"]) == names  # best chooses one of the others
    assert all(issubclass(cls, EquationOptions) and "name" in vars(cls) for cls in CLASSES.values())
