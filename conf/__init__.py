"""Hydra's configs as the package ratinglab.conf: src/ratinglab/conf is a link to this folder."""
