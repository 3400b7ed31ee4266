"""Gibbs sampling of factor equations."""
