"""Factor equations with all terms summed: one stored row per user, day or item, in a form that torch.export traces."""

import torch
from torch import Tensor, nn

from ratinglab.models.day_rows import DayRows
from ratinglab.models.equation import Equation
from ratinglab.models.factors import Factors

MAX_COLUMNS = 1024
"""Number of columns multiplied at once: at most 12 KiB of memory per pair, with any number of samples."""


class TraceableRows(Equation):
    """r̂_ui = μ + b_u + b_i + x_u · y_i over the rows of a fitted equation, for torch.export.

    Stores the rating of every pair of rows instead of the factors if that takes less memory, as with many samples of
    few users and items.
    """

    def __init__(self, rows: Factors, *, user_days: DayRows | None, item_days: DayRows | None) -> None:
        """Store the rows of both sides. `user_days` and `item_days` find the row of a day, if rows differ by day."""
        super().__init__()
        self.takes_day = user_days is not None or item_days is not None
        self.user_days, self.item_days = user_days, item_days
        user, item = _append_biases(rows)
        self.num_item_rows = len(item)
        self.user_columns, self.item_columns = nn.ModuleList(), nn.ModuleList()
        if len(user) * len(item) <= user.numel() + item.numel():
            self.user_columns.append(_frozen_embedding((user @ item.T).flatten()[:, None]))
            return
        for columns, table in ((self.user_columns, user), (self.item_columns, item)):
            columns.extend(_frozen_embedding(part) for part in table.split(MAX_COLUMNS, dim=1))

    def forward(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """user: (B,) int32, item: (B,) int32, day: (B,) int32 → rating: (B,) float32."""
        user_row = user if self.user_days is None else self.user_days.find(user, day)
        item_row = item if self.item_days is None else self.item_days.find(item, day)
        if len(self.item_columns) == 0:
            rating: Tensor = self.user_columns[0](user_row.long() * self.num_item_rows + item_row)
            return rating[:, 0]
        pairs = zip(self.user_columns, self.item_columns, strict=True)
        return torch.stack([(users(user_row) * items(item_row)).sum(dim=1) for users, items in pairs]).sum(dim=0)


def _append_biases(rows: Factors) -> tuple[Tensor, Tensor]:
    """Write μ + b_u + b_i + x · y as one product: rows (x, b_u, 1) of users and (y, 1, μ + b_i) of items.

    Both are float32, (num_user_rows, D + 2) and (num_item_rows, D + 2).
    """
    users, items = rows.user.factors, rows.item.factors
    ones = torch.ones(len(users), 1), torch.ones(len(items), 1)
    user_bias = torch.zeros_like(ones[0]) if rows.user.bias is None else rows.user.bias
    item_bias = torch.zeros_like(ones[1]) if rows.item.bias is None else rows.item.bias
    user = torch.cat([users, user_bias, ones[0]], dim=1).detach()
    return user, torch.cat([items, ones[1], rows.mean + item_bias], dim=1).detach()


def _frozen_embedding(weights: Tensor) -> nn.Embedding:
    return nn.Embedding.from_pretrained(weights.contiguous())
