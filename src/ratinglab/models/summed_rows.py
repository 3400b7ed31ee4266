"""A factor equation over rows that are already sums of their parts."""

from torch import Tensor, nn

from ratinglab.models.equation import Factors
from ratinglab.models.factor_equation import FactorEquation, Side


class SummedRows(FactorEquation):
    """r̂_ui = μ + b_u + b_i + x_u · y_i over stored rows, such as rows of folded-in users. Not for fitting."""

    regularization = 0.0

    def __init__(self, rows: Factors) -> None:
        """Store the rows without copying them."""
        super().__init__()
        self.rating_mean = rows.mean
        self._user, self._item = _table(rows.user), _table(rows.item)
        self._user_bias = None if rows.user_bias is None else _table(rows.user_bias)
        self._item_bias = None if rows.item_bias is None else _table(rows.item_bias)

    def user_side(self) -> Side:
        """Return the users' rows."""
        return Side(self._user, self._user_bias)

    def item_side(self) -> Side:
        """Return the items' rows."""
        return Side(self._item, self._item_bias)


def _table(weights: Tensor) -> nn.Embedding:
    return nn.Embedding.from_pretrained(weights)
