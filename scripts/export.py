"""Write a run in a form that predicts without ratinglab: export.py run=outputs/… format=onnx."""

from ratinglab.cli import COMMANDS

if __name__ == "__main__":
    COMMANDS["export"]()
