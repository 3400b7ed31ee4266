"""Find the items similar to one item: similar.py run=outputs/… item="Toy Story (1995)" k=10."""

from ratinglab.cli import COMMANDS

if __name__ == "__main__":
    COMMANDS["similar"]()
