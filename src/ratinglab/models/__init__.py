"""The equations: one file each, with its Options and one nn.Module; and what stands beside every equation."""
