"""Callbacks of a fit: checkpoints, the learning curve, progress, pruning and signals."""
