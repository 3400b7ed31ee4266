"""The fit of equations whose weights have a closed form."""

from ratinglab.batches import Batch
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.fit_setup import FitSetup
from ratinglab.fitting.whole_epoch_options import ClosedFormOptions
from ratinglab.models.item_weights import ItemWeights
from ratinglab.models.predictor import Predictor


class ClosedFormFit(Fit):
    """A single epoch that computes all weights; the number of epochs and the seed have no effect."""

    def __init__(self, predictor: Predictor, setup: FitSetup, options: ClosedFormOptions) -> None:
        """Fit `predictor.model`; there are no options."""
        super().__init__(predictor, setup)

    def training_step(self, batches: list[Batch]) -> None:
        """Compute the weights."""
        equation = self.predictor.model
        assert isinstance(equation, ItemWeights), "the options refuse other equations"
        equation.solve()
        self.stops_early = self.trainer.should_stop = True

    def report_training(self) -> None:
        """Report nothing: there is no loss."""
