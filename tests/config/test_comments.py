from ratinglab.config.comments import find_key_comments, read_file_comment

TEXT = """# @package _global_
# What it is.
#
#   an example
defaults:
  # Equation.
  - model: mf
  - override /data: demo

# Not above a key.

# In two
# lines.
model:
  # Inner: with a colon.
  dim: 3  # beside
  plain: "# no comment"
"""


def test_file_comment_and_key_comments_are_parsed():
    assert read_file_comment(TEXT) == ["What it is.", "", "  an example"]
    assert find_key_comments(TEXT) == {
        ("defaults",): "@package _global_ What it is.  an example",
        ("defaults", "model"): "Equation.",
        ("defaults", "override /data"): "",
        ("model",): "In two lines.",
        ("model", "dim"): "Inner: with a colon.",
        ("model", "plain"): "",
    }
    assert find_key_comments("# nothing\n") == {}
