"""Training of one run: preparing, fitting, resuming and reproducing it, and its record."""
