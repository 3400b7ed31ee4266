"""The equations, one file each, and the baseline beside them."""
