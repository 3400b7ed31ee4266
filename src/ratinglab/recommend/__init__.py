"""The computations behind lists and fold-in: top-k, orders, held-out lists, similar items, weights of new rows."""
