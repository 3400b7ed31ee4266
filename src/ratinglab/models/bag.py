"""Embeddings of what a row has: the items that a user rated, the users of an item, an item's genres."""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag


class Bag(nn.Embedding):
    """|N(r)|^−½ Σ_{c ∈ N(r)} w_c for each row r; 0 for a row that has nothing.

    Attributes:
        weight: (num_columns, D) float32, w.
        start: (num_rows + 1,) int64, where what each row has begins in `column`.
        column: (E,) int32. Neither is in checkpoints: a run has its training rows.
    """

    start: Tensor
    column: Tensor

    def __init__(
        self,
        row: Tensor,
        column: Tensor,
        *,
        num_rows: int,
        num_columns: int,
        dim: int,
        std: float,
        generator: torch.Generator,
    ) -> None:
        """Take pairs of a row and a column, (E,) int32 each; the weights are drawn from Normal(0, std²)."""
        super().__init__(num_columns, dim)
        nn.init.normal_(self.weight, mean=0.0, std=std, generator=generator)
        start = torch.zeros(num_rows + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(row, minlength=num_rows), dim=0, out=start[1:])
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("column", column[torch.argsort(row, stable=True)], persistent=False)

    @property
    def scale(self) -> Tensor:
        """|N(r)|^−½, 0 where that is of nothing: (num_rows,) float32."""
        count = self.start.diff()
        return torch.where(count > 0, count.clamp(min=1).float().rsqrt(), 0)

    def forward(self, row: Tensor) -> Tensor:
        """row: (B,) → (B, D) float32."""
        rows, place = torch.unique(row.long(), return_inverse=True)  # a user of the batch is added up once
        column, begin, count = self._of(rows)
        total = embedding_bag(column, self.weight, begin.to(column.dtype), mode="sum")
        return (total / count.clamp(min=1).sqrt()[:, None])[place]

    def squares(self, row: Tensor) -> Tensor:
        """Σ over these rows of Σ_{c ∈ N(r)} ‖w_c‖²: row (B,) → () float32."""
        rows, times = torch.unique(row.long(), return_counts=True)
        column, begin, _ = self._of(rows)
        squares = self.weight.square().sum(dim=1, keepdim=True)
        return (embedding_bag(column, squares, begin.to(column.dtype), mode="sum")[:, 0] * times).sum()

    def _of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What some rows have: (n,) int32, where each row's begin: (R,) int64, and how many: (R,) int64."""
        count = self.start[rows + 1] - self.start[rows]
        begin = torch.cumsum(count, dim=0) - count
        shift = torch.repeat_interleave(self.start[rows] - begin, count)
        return self.column[torch.arange(int(count.sum()), device=rows.device) + shift], begin, count
