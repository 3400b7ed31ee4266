"""Similarity of items, by their factors."""

import torch
from torch import Tensor

from ratinglab.models.equation import Equation
from ratinglab.models.factors import Factors

SHRINKAGE = 20
"""λ: number of shared raters at which the similarity is half the cosine."""
MIN_VARIANCE_SHARE = 1e-6
"""Directions with less than this share of the largest variance are ignored."""


class ItemSimilarity:
    """Similarity of items, from −1 to 1.

        s_ij = n_ij / (n_ij + λ) · cos(v_i, v_j)

    n_ij is the number of users who rated both items. v_i is row i of V S^½ in the singular value decomposition U S Vᵀ
    of the matrix of interactions, R_ui = (x_u − x̄) · (y_i − ȳ): the predicted ratings without the terms that depend
    only on the user or only on the item, so item biases do not matter. Means and decomposition weight each user and
    item by its number of training ratings. The cosine depends only on the predictions. The cosine of the factors y
    would not: shifting or scaling them changes it even if x compensates. With samples, the cosine is computed in each
    and averaged, which shrinks it for items with uncertain factors.

    Singular values count by their square roots. With S (the correlation of two items' predictions over users), a few
    strong directions would determine all lists; with V alone, the weak directions of a fit with many factors would add
    noise. λ penalizes items with few shared raters, whose factors fit noise. Both were chosen by the sequels and genres
    in the lists for MovieLens 100K and latest-small.

    Sources: Koren, "Factorization Meets the Neighborhood: a Multifaceted Collaborative Filtering Model", KDD 2008, the
    similarity in its neighborhood models, for λ; Moore, "Principal Component Analysis in Linear Systems:
    Controllability, Observability, and Model Reduction", IEEE TAC 1981, for the balanced coordinates V S^½.
    """

    def __init__(self, model: Equation, *, user_count: Tensor, item_count: Tensor) -> None:
        """Compute the metric of each sample.

        `user_count` (num_users,) and `item_count` (num_items,) are the numbers of training ratings.
        """
        weights = [(count / count.sum()).float()[:, None] for count in (user_count, item_count)]
        with torch.inference_mode():
            self._samples = [_SampleMetric(factors, *weights) for factors in model.factors_of_samples()]

    @property
    def is_empty(self) -> bool:
        """Whether the model has no factors."""
        return not self._samples

    def similarities(self, item: int, *, shared_raters: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the similarity of an item, by its index, to all items: shared_raters (num_items,), n_ij.

        Returns:
            (num_items,) float32, from −1 to 1, the average over samples, if there are any; and (num_items,) float32,
            the standard deviation over samples, 0 without samples.
        """
        total, squares = torch.zeros(2, len(shared_raters), dtype=torch.float64)
        with torch.inference_mode():
            for sample in self._samples:
                cosine = sample.cosine(item).double()
                total += cosine
                squares += cosine.square()
            mean = total / len(self._samples)
            deviation = (squares / len(self._samples) - mean.square()).clamp(min=0).sqrt()
            weight = shared_raters / (shared_raters + SHRINKAGE)
            return (weight * mean).float(), (weight * deviation).float()


class _SampleMetric:
    """Metric of the items' factors in one sample: v_i · v_j = (y_i − ȳ)ᵀ M (y_j − ȳ)."""

    def __init__(self, factors: Factors, user_weight: Tensor, item_weight: Tensor) -> None:
        """Compute ȳ (D,), M (D, D) and ‖v_i‖ (num_items,) from the weighted covariances of the factors."""
        self._item = factors.item.factors
        _, user_covariance = _moments(factors.user.factors, user_weight)
        self._mean, item_covariance = _moments(self._item, item_weight)
        transform = _balancing_transform(user_covariance, item_covariance).float()
        self._metric = transform @ transform.T
        self._length = ((self._item - self._mean) @ transform).norm(dim=1)

    def cosine(self, item: int) -> Tensor:
        """Compute the cosines of an item with all items: (num_items,) float32, or 0 for items of length 0."""
        direction = self._metric @ (self._item[item] - self._mean)
        product = self._item @ direction - self._mean @ direction
        return product / (self._length[item] * self._length).clamp(min=torch.finfo(torch.float32).tiny)


def _moments(factors: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the weighted mean and covariance of rows: (N, D) and (N, 1) → (D,) float32 and (D, D) float64."""
    mean = (factors.T @ weight)[:, 0]
    spread = (factors - mean).mul_(weight.sqrt())
    return mean, (spread.T @ spread).double()


def _balancing_transform(user_covariance: Tensor, item_covariance: Tensor) -> Tensor:
    """Find the B for which y B and x B⁻ᵀ have equal, diagonal covariances: (D, D) twice → (D, rank) float64."""
    variance, axes = torch.linalg.eigh(item_covariance)
    is_large = variance > MIN_VARIANCE_SHARE * variance[-1]
    deviation, axes = variance[is_large].sqrt(), axes[:, is_large]
    root = axes * deviation
    squared_singular, rotation = torch.linalg.eigh(root.T @ user_covariance @ root)
    return axes / deviation @ rotation * squared_singular.clamp(min=0) ** 0.25
