"""Mappings written as the value of an option."""

import pytest

from ratinglab.errors import UserError
from ratinglab.formats.literals import is_inline_mapping, parse_inline_mapping


def test_a_mapping_begins_with_a_brace():
    assert is_inline_mapping(" {50: 5}")
    assert not is_inline_mapping("ratings{1}.csv")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("{50: 5, 007: 4.5}", [("50", "5"), ("007", "4.5")]),
        ("{50:5,172:4}", [("50", "5"), ("172", "4")]),
        ('{"Toy Story (1995)": 4, "50":3}', [("Toy Story (1995)", "4"), ("50", "3")]),
        ("{'2001: A Space Odyssey': 5}", [("2001: A Space Odyssey", "5")]),
        ("{2001: A Space Odyssey:5}", [("2001", "A Space Odyssey:5")]),
        ("{50: 5, 50: 4}", [("50", "5"), ("50", "4")]),  # the caller refuses it
        ("{50: true, 7: null, 8:}", [("50", "true"), ("7", "null"), ("8", "")]),
        ("{50, 7}", [("50", ""), ("7", "")]),
        ("{}", []),
    ],
)
def test_names_and_values_are_kept_as_typed(text, pairs):
    assert parse_inline_mapping(text, key="ratings") == pairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{50: 5", "ratings must be a mapping such as '{NAME: VALUE, …}', in quotation marks, got '{50: 5': "),
        ("{50: [1]}", "ratings must be a mapping of single values, got '{50: [1]}'"),
        ("{{1: 2}: 3}", "ratings must be a mapping of single values"),
        ("{50: \x00}", "ratings must be a mapping such as '{NAME: VALUE, …}', in quotation marks, got"),
    ],
)
def test_other_texts_are_refused_in_one_line(text, message):
    with pytest.raises(UserError) as error:
        parse_inline_mapping(text, key="ratings")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert ("\x00" in text) == str(error.value).endswith("it is not YAML")
