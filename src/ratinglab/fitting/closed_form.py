"""The fit of equations whose weights have a closed form."""

from ratinglab.batches import Batch
from ratinglab.fitting.fit import Fit
from ratinglab.models.item_weights import ItemWeights


class ClosedFormFit(Fit):
    """A single epoch that computes all weights. The number of epochs and the seed have no effect."""

    def training_step(self, batches: list[Batch]) -> None:
        """Compute the weights."""
        equation = self.predictor.model
        assert isinstance(equation, ItemWeights), "the options refuse other equations"
        equation.solve()
        self.stop_early()

    def report_training(self) -> None:
        """Report nothing: there is no loss."""
