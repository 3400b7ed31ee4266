"""Declarations of equations: their forms and needs."""

import pytest
from equations import CLASSES, options_of

from ratinglab.models.declarations import EquationOptions, Form, names_of
from ratinglab.ratings.side_information import Needs


@pytest.mark.parametrize(
    ("forms", "names"),
    [
        ({Form.embeddings}, ["biased_mf", "mf"]),
        ({Form.parts}, ["biased_mf", "svdpp", "timesvdpp"]),
        ({Form.function}, ["bias", "mean", "nmf", "timesvdpp"]),
        ({Form.embeddings, Form.parts}, ["biased_mf", "mf", "svdpp", "timesvdpp"]),
        (set(Form), ["bias", "biased_mf", "mean", "mf", "nmf", "svdpp", "timesvdpp"]),
        (set(), []),
    ],
)
def test_equations_are_found_by_the_forms_that_they_may_have(forms, names):
    assert names_of(forms) == names


@pytest.mark.parametrize(
    ("name", "changed", "form"),
    [
        ("mf", {}, Form.embeddings),
        ("biased_mf", {}, Form.embeddings),
        ("biased_mf", {"user_features": ["gender"]}, Form.parts),
        ("biased_mf", {"item_features": ["genres"]}, Form.parts),
        ("svdpp", {}, Form.parts),
        ("svdpp", {"item_features": ["genres"]}, Form.parts),
        ("timesvdpp", {"item_bins": 1}, Form.parts),
        ("timesvdpp", {"item_bins": 2}, Form.function),
        ("nmf", {}, Form.function),
        ("bias", {}, Form.function),
        ("mean", {}, Form.function),
    ],
)
def test_the_form_follows_from_the_options_and_is_one_of_the_class(name, changed, form):
    options = options_of(name, **changed)
    assert options.form() == form
    assert form in options.forms


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
def test_what_an_equation_needs_follows_from_its_options(name, changed, needs):
    assert options_of(name, **changed).needs() == needs


def test_every_equation_has_options_and_a_name_of_its_own():
    assert sorted(CLASSES) == names_of(set(Form))
    assert all(issubclass(cls, EquationOptions) and "name" in vars(cls) for cls in CLASSES.values())
