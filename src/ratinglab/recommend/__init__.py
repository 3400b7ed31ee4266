"""The computations behind lists: top-k, orders, held-out lists, similar items."""
