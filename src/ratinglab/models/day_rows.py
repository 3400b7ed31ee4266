"""Row index for equations with one row per user and day."""

import torch
from torch import Tensor, nn


class DayRows(nn.Module):
    """One row for each day on which a user (or item) has training rows, sorted by user, then day.

    Checkpoints omit the buffers, which are computed from the run's training rows.

    Attributes:
        key: (num_rows,) int64, user and day in one number.
        owner: (num_rows,) int64, the user of each row, in ascending order.
    """

    key: Tensor
    owner: Tensor

    def __init__(self, index: Tensor, day: Tensor) -> None:
        """Index the training rows: index (N,) int32, day (N,) int32."""
        super().__init__()
        self.register_buffer("key", torch.unique(_pack_key(index, day)), persistent=False)
        self.register_buffer("owner", self.key >> 32, persistent=False)

    def __len__(self) -> int:
        return len(self.key)

    @property
    def day(self) -> Tensor:
        """Day of each row: (num_rows,) int64."""
        return _day_of(self.key)

    def find(self, index: Tensor, day: Tensor | None) -> Tensor:
        """Find the row of the nearest day with training rows (on a tie, the earlier day). day=None means the last day.

        index: (B,) int32, day: (B,) int32 → (B,) int64.
        """
        if day is None:
            return torch.searchsorted(self.owner, index.long(), right=True) - 1
        after = torch.searchsorted(self.key, _pack_key(index, day))
        before = (after - 1).clamp(min=0)
        after = after.clamp(max=len(self.key) - 1)
        is_before, is_after = self.owner[before] == index, self.owner[after] == index
        is_nearer = day - _day_of(self.key[before]) <= _day_of(self.key[after]) - day
        return torch.where(is_before & (is_nearer | ~is_after), before, after)


def _pack_key(index: Tensor, day: Tensor) -> Tensor:
    """Pack user and day into one number that sorts by user, then day: (B,) int64."""
    return (index.long() << 32) + (day.long() + (1 << 31))


def _day_of(key: Tensor) -> Tensor:
    return (key & ((1 << 32) - 1)) - (1 << 31)
