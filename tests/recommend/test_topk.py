import torch

from ratinglab.models.baselines import BiasBaseline
from ratinglab.models.equation import Equation
from ratinglab.models.predictor import Predictor
from ratinglab.recommend.topk import top_k


class ByItem(Equation):
    """Scores that depend on the item alone, beyond the scale."""

    scores = torch.tensor([7.0, 9.0, 1.0, 9.0, 8.0])

    def forward(self, user, item):
        return self.scores[item.long()]

    def penalty(self, user, item):
        return torch.zeros(())


def best(candidates: list[int], k: int) -> list[int]:
    predictor = Predictor(ByItem(), BiasBaseline(num_users=1, num_items=5), scale=(0.0, 5.0))
    return top_k(predictor, user=0, candidates=torch.tensor(candidates, dtype=torch.int32), k=k).tolist()


def test_the_best_come_first_though_all_clip_to_the_same_rating():
    assert best([0, 1, 2, 4], k=3) == [1, 4, 0]


def test_equal_scores_keep_the_order_of_the_candidates():
    assert best([3, 2, 1], k=2) == [3, 1]


def test_only_candidates_are_returned_and_no_more_than_there_are():
    assert best([2, 0], k=10) == [0, 2]
    assert best([], k=10) == []
