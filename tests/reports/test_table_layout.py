"""Tables of text: columns, and characters that Markdown or LaTeX would read as commands."""

import pandas as pd

from ratinglab.reports.table_layout import (
    align,
    drop_empty_columns,
    format_latex,
    format_markdown,
    format_metric,
    print_rows,
)

ROWS = [["key", "MSE"], ["a|b_1", "0.5 ± 0.1"], ["c", ""]]


def test_columns_are_as_wide_as_their_widest_cell():
    assert list(align(ROWS)) == ["key    MSE", "a|b_1  0.5 ± 0.1", "c"]
    assert list(align(ROWS[:2], right=[1])) == ["key          MSE", "a|b_1  0.5 ± 0.1"]


def test_cell_of_an_undefined_metric_is_empty():
    assert [format_metric(value) for value in (0.90006, None, float("nan"))] == ["0.9001", "", ""]


def test_value_that_is_rounded_to_zero_has_no_minus_sign(capsys):
    assert [format_metric(value) for value in (-0.00004, -0.00006)] == ["0.0000", "-0.0001"]
    print_rows(pd.DataFrame({"similarity": [-0.004, -0.006]}))
    assert capsys.readouterr().out.split() == ["similarity", "0.00", "-0.01"]


def test_control_characters_in_titles_are_escaped(capsys):
    print_rows(pd.DataFrame({"title": ["Alien\x1b[31m\nAliens"]}))
    assert capsys.readouterr().out.splitlines() == ["title", r"Alien\x1b[31m\nAliens"]


def test_deviations_are_left_out_if_no_row_has_one(capsys):
    rows = pd.DataFrame({"prediction": [4.0, 3.0], "standard_deviation": [float("nan"), 0.5]})
    print_rows(rows[:1])
    assert capsys.readouterr().out.split() == ["prediction", "4.00"]
    print_rows(rows)
    header, _, _, explained = capsys.readouterr().out.splitlines()
    assert header.split() == ["prediction", "±"]
    assert explained == "±: standard deviation of the rating around its prediction"


def test_columns_that_are_empty_below_the_header_are_dropped():
    assert drop_empty_columns([["key", "MSE", ""], ["a", "", "x"], ["b", "", ""]]) == [
        ["key", ""],
        ["a", "x"],
        ["b", ""],
    ]


def test_bar_in_a_cell_of_markdown_does_not_end_it():
    assert list(format_markdown(ROWS)) == ["| key | MSE |", "| --- | --- |", "| a\\|b_1 | 0.5 ± 0.1 |", "| c |  |"]
    assert list(format_markdown(ROWS, bold=2))[-1] == "| **c** |  |"


def test_bar_in_a_bold_cell_of_markdown_does_not_end_it():
    assert list(format_markdown(ROWS, bold=1))[2] == "| **a\\|b_1** | **0.5 ± 0.1** |"


def test_special_characters_of_latex_are_escaped():
    rows = [["50% & more", "x^2"], ["a_1 ~{b}", "\\cmd #$"]]
    assert list(format_latex(rows, bold=1)) == [
        "\\begin{tabular}{ll}",
        "50\\% \\& more & x\\textasciicircum{}2 \\\\ \\hline",
        "\\textbf{a\\_1 \\textasciitilde{}\\{b\\}} & \\textbf{\\textbackslash{}cmd \\#\\$} \\\\",
        "\\end{tabular}",
    ]
    assert list(format_latex(ROWS))[2] == "a|b\\_1 & 0.5 $\\pm$ 0.1 \\\\"
