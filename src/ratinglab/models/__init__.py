"""The equations: one file each, with its Options and one Equation; and what stands beside every equation."""
