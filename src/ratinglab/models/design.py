"""Sparse design matrices: the columns of each row, such as a user's rated items or an item's genres."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ratinglab.ratings.side_information import Column, check_feature, encode_categories, is_numeric, standardize


class Design(nn.Module):
    """A matrix F in compressed rows, with equal entries within a row: (F w)_r = s_r Σ_{c ∈ N(r)} w_c.

    `select_rows` returns S F, where each row of S selects one row of F, such as a user's items for each of the user's
    days.

    Checkpoints omit the buffers, which are computed from the run's training rows.

    Attributes:
        start: (num_inner + 1,) int64, where the columns of each row of F begin.
        column: (E,) int32.
        scale: (num_inner,) float32, s.
        inner_row: (num_rows,) int64, the row of F that each row of S selects, or None if the matrix is F itself.
        num_columns: columns of F.
    """

    start: Tensor
    column: Tensor
    scale: Tensor
    inner_row: Tensor | None

    def __init__(
        self, start: Tensor, column: Tensor, scale: Tensor, *, num_columns: int, inner_row: Tensor | None = None
    ) -> None:
        super().__init__()
        self.num_columns = num_columns
        for name, tensor in (("start", start), ("column", column), ("scale", scale), ("inner_row", inner_row)):
            self.register_buffer(name, tensor, persistent=False)
        self.is_one_hot = bool((start.diff() == 1).all())
        """Whether every row has exactly one column."""

    @classmethod
    def from_sets(cls, row: Tensor, column: Tensor, *, num_rows: int, num_columns: int) -> "Design":
        """Make rows with sets of columns, scaled by s_r = |N(r)|^−½: row (E,) int32, column (E,) int32."""
        start = torch.zeros(num_rows + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(row, minlength=num_rows), dim=0, out=start[1:])
        count = start.diff()
        scale = torch.where(count > 0, count.clamp(min=1).float().rsqrt(), 0)
        return cls(start, column[torch.argsort(row, stable=True)], scale, num_columns=num_columns)

    @classmethod
    def one_hot(cls, column: Tensor, *, num_columns: int, scale: Tensor | None = None) -> "Design":
        """Make rows with one column each, scaled by s_r or 1: column (num_rows,) int, scale (num_rows,) float32."""
        scale = torch.ones(len(column)) if scale is None else scale
        return cls(torch.arange(len(column) + 1), column.int(), scale, num_columns=num_columns)

    @classmethod
    def from_feature(cls, values: Column, *, key: str) -> "Design":
        """Encode a column of a user or item table: one design column per category, or one of standardized numbers.

        Raises:
            UserError: the column is unknown or constant in every row; the message begins with `key`.
        """
        check_feature(values, name=key)
        return cls.encode(values, like=values)

    @classmethod
    def encode(cls, values: Column, *, like: Column) -> "Design":
        """Encode values like the column that a model was trained on.

        Both are float64 for a number, and text (object) for categories: (num_rows,) and (num_trained,).
        """
        if is_numeric(like):
            assert is_numeric(values), "parse_new_values reads numbers"
            scale = torch.from_numpy(standardize(values, like))
            return cls.one_hot(torch.zeros(len(scale), dtype=torch.int32), num_columns=1, scale=scale)
        row, column, names = encode_categories(values, names=encode_categories(like)[2])
        pairs = torch.from_numpy(row), torch.from_numpy(column)
        return cls.from_sets(*pairs, num_rows=len(values), num_columns=len(names))

    def extract_row(self, row: int) -> "Design":
        """Return one row of F."""
        begin, end = int(self.start[row]), int(self.start[row + 1])
        start, scale = torch.tensor([0, end - begin]), self.scale[row : row + 1]
        return Design(start, self.column[begin:end], scale, num_columns=self.num_columns)

    def sample_columns(self, row: Tensor, *, max_columns: int) -> "Design":
        """Draw at most `max_columns` columns of each of these rows of F, scaled by their number^−½: row (B,).

        A row that occurs twice gets the same columns.
        """
        rows = self._inner_rows(row)
        count = self.start[rows + 1] - self.start[rows]
        column, _ = self._entries(rows)
        owner = torch.repeat_interleave(torch.arange(len(rows)), count)
        order = torch.rand(len(column), generator=torch.Generator().manual_seed(0)).argsort()
        order = order[owner[order].argsort(stable=True)]  # by row, in random order within each
        rank = torch.arange(len(column)) - torch.repeat_interleave(torch.cumsum(count, dim=0) - count, count)
        chosen = order[rank < max_columns]
        return Design.from_sets(owner[chosen], column[chosen], num_rows=len(rows), num_columns=self.num_columns)

    def select_rows(self, inner_row: Tensor) -> "Design":
        """Return the product S F, where row r of S selects row inner_row[r] of F: inner_row (num_rows,) int64."""
        inner_row = inner_row if self.inner_row is None else self.inner_row[inner_row]
        return Design(self.start, self.column, self.scale, num_columns=self.num_columns, inner_row=inner_row)

    @property
    def num_rows(self) -> int:
        """Number of rows of F or, for a product, of S."""
        return len(self.scale) if self.inner_row is None else len(self.inner_row)

    def multiply_rows(self, row: Tensor, embedding: nn.Embedding) -> Tensor:
        """Compute (F w)_r for a batch of rows: row (B,), weights (num_columns, D) → (B, D) float32."""
        row = self._inner_rows(row)
        if self.is_one_hot:
            weights: Tensor = embedding(self.column[row])
            return self.scale[row, None] * weights
        rows, position = torch.unique(row, return_inverse=True)  # sum each row once per batch
        column, begin = self._entries(rows)
        total = functional.embedding_bag(column, embedding.weight, begin.to(column.dtype), mode="sum")
        # not indexing, whose gradient adds up repeated rows in any order on several threads
        return functional.embedding(position, total * self.scale[rows, None])

    def multiply(self, weights: Tensor) -> Tensor:
        """Compute F w for all rows: weights (num_columns, D) → (num_rows, D) float32."""
        total = functional.embedding_bag(self.column, weights, self.start[:-1].to(self.column.dtype), mode="sum")
        scaled: Tensor = total * self.scale[:, None]
        return scaled if self.inner_row is None else scaled[self.inner_row]

    def sum_squares(self, row: Tensor, embedding: nn.Embedding) -> Tensor:
        """Sum Σ_{c ∈ N(r)} ‖w_c‖² over these rows: row (B,) → () float32."""
        row = self._inner_rows(row)
        if self.is_one_hot:
            weights: Tensor = embedding(self.column[row])
            return weights.square().sum()
        rows, repeats = torch.unique(row, return_counts=True)
        column, begin = self._entries(rows)
        squares = embedding.weight.square().sum(dim=1, keepdim=True)
        return (functional.embedding_bag(column, squares, begin.to(column.dtype), mode="sum")[:, 0] * repeats).sum()

    def _inner_rows(self, row: Tensor) -> Tensor:
        return row.long() if self.inner_row is None else self.inner_row[row.long()]

    def _entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Find the columns of these rows of F, (n,) int32, and the start of each row's columns, (R,) int64."""
        count = self.start[rows + 1] - self.start[rows]
        begin = torch.cumsum(count, dim=0) - count
        shift = torch.repeat_interleave(self.start[rows] - begin, count)
        return self.column[torch.arange(int(count.sum()), device=rows.device) + shift], begin
