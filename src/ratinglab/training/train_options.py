"""Options of training, and checks for conflicts. Imports nothing slow: the command line reads this module first."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ratinglab.datasets.sources import DataOptions
from ratinglab.errors import UserError
from ratinglab.evaluation.list_options import OrderBy, OrderOptions, RankingOptions
from ratinglab.evaluation.protocol_options import ProtocolOptions
from ratinglab.fitting.fit_options import FitOptions, named_fits
from ratinglab.fitting.loggers.logger_options import LoggerOptions
from ratinglab.fitting.schedules import Schedule
from ratinglab.fitting.trainer_options import Accelerator, CallbackOptions, TrainerOptions
from ratinglab.models.equation_options import EquationOptions, equation_names
from ratinglab.options import valid_seed
from ratinglab.splits.split import SplitOptions
from ratinglab.targets import named_subclasses


@dataclass
class TrainOptions:
    """Options of training: one object per group, and the options outside groups."""

    data: DataOptions
    """Ratings to train on."""
    split: SplitOptions
    """Rows held out for validation and test."""
    model: EquationOptions
    """Equation that predicts a rating, or a score to order lists by."""
    optimizer: FitOptions
    """Algorithm that fits the equation."""
    schedule: Schedule
    """Learning-rate schedule."""
    trainer: TrainerOptions
    """Lightning's Trainer: epochs, device, speed."""
    callbacks: CallbackOptions
    """Early stopping, checkpoints, and pruning of a search's jobs."""
    logger: dict[str, LoggerOptions]
    """Loggers of the metrics, besides metrics.json. logger=[tensorboard,csv] chooses several."""
    protocol: ProtocolOptions
    """Data, split and published results, fixed to make runs comparable."""
    seed: int = field(metadata=valid_seed())
    """Seed of the initial weights, the order of the training rows, and the random draws of a fit."""
    metrics: list[str]
    """Names of the metrics of every part: mse, rmse, mae, or MODULE.NAME for your own. mse must be one of them."""
    monitor: str
    """Validation metric that decides the best epoch, early stopping and the order of a sweep. It is one of `metrics`,
    as in val/mse, or a ranking metric at any k, such as val/ndcg@10."""
    ranking: RankingOptions
    """Recommendation lists to evaluate after training, and to compare with lists of the most popular items."""
    test: bool
    """Whether to evaluate on the test rows at the end. A search does not; report.py --test evaluates its best
    configuration."""
    resume: str | None
    """Folder of a run to resume, with the options that it was started with. null starts a new run."""
    from_: str | None
    """Folder of a run with the same model, data and split. This run starts from its best weights or, for a sampler,
    from its last draw. null starts from random weights."""
    reproduces: str | None
    """Folder of the run to reproduce. reproduce.py sets it."""
    clip_predictions: bool
    """Whether to clip predictions to the rating scale."""

    @property
    def order(self) -> OrderOptions:
        """Order of lists: a model that predicts scores orders them by its scores."""
        by = OrderBy.prediction if self.model.predicts_scores else self.ranking.by
        return OrderOptions(by, self.ranking.threshold)

    @property
    def monitors_lists(self) -> bool:
        """Whether the monitored metric is one of lists, such as val/ndcg@10."""
        return "@" in self.monitor

    def check_together(self) -> None:
        """Raise UserError if groups conflict."""
        fit = self.optimizer
        if self.model.form not in fit.forms:
            suitable = sorted(cls.name for cls in named_fits() if self.model.form in cls.forms)
            hint = f"; recipe={self.model.recipe} sets it, and the monitor" if self.model.recipe else ""
            raise UserError(
                f"optimizer={fit.name} fits {_join(equation_names(fit.forms))}, got model={self.model.name}, "
                f"which needs optimizer={_join(suitable, last='or')}{hint}"
            )
        if fit.initial_lr is None and self.schedule.name != "constant":
            raise UserError(
                f"schedule must be constant with optimizer={fit.name}, which has no learning rate; "
                f"got {self.schedule.name}"
            )
        self._check_order()
        if self.data.keeps_rows_on_disk:
            self._check_rows_on_disk()
        if self.split.holds_out_users and not self.model.predicts_scores:
            raise UserError(
                f"split={self.split.name} needs a ranking model, such as ease, that can fold in its held-out users; "
                f"got model={self.model.name}"
            )
        if self.model.predicts_scores and not self.monitors_lists:
            raise UserError(
                f"monitor must be a ranking metric, such as val/ndcg@10, with model={self.model.name}, which predicts "
                f"scores, not ratings; got {self.monitor}"
            )
        self._check_processes()
        fit.check(model=self.model, trainer=self.trainer)
        for key, needed in fit.trainer_values.items():
            value = getattr(self.trainer, key)
            if value != needed:
                text = "null" if needed is None else needed
                raise UserError(f"trainer.{key} must be {text} with optimizer={fit.name}, got {value}")
        if fit.runs_on_cpu_only and self.trainer.accelerator not in (Accelerator.cpu, Accelerator.auto):
            raise UserError(
                f"trainer.accelerator must be cpu with optimizer={fit.name}, got {self.trainer.accelerator.name}"
            )

    def _check_rows_on_disk(self) -> None:
        """Raise UserError for a choice that needs all rows in memory."""
        splits = named_subclasses(SplitOptions, "ratinglab.splits")
        for key, chosen, classes in (("optimizer", self.optimizer, named_fits()), ("split", self.split, splits)):
            valid = sorted(cls.name for cls in classes if cls.supports_on_disk)
            if chosen.name not in valid:
                raise UserError(f"{key} must be one of {', '.join(valid)} with data.on_disk=true, got {chosen.name}")
        if self.model.needs().interactions:
            raise UserError(f"data.on_disk must be false with model={self.model.name}, which uses implicit feedback")
        if self.monitors_lists:
            raise UserError(f"monitor must be a metric of ratings with data.on_disk=true, got {self.monitor}")
        if self.ranking.k is not None:
            raise UserError(f"ranking.k must be null with data.on_disk=true, got {self.ranking.k}")

    def _check_processes(self) -> None:
        """Raise UserError if several processes are requested, but the fit or split.refit needs a single one."""
        trainer = self.trainer
        if trainer.num_processes == 1:
            return
        key, value = next((key, count) for key in ("devices", "num_nodes") if (count := getattr(trainer, key)) > 1)
        suitable = sorted(cls.name for cls in named_fits() if cls.supports_processes and cls.takes_batches)
        if self.optimizer.name not in suitable:
            hint = "" if self.model.predicts_scores else f"; {', '.join(suitable)} run in several"
            raise UserError(
                f"trainer.{key} must be 1 with optimizer={self.optimizer.name}, which runs in one process, "
                f"got {value}{hint}"
            )
        if self.split.refit:
            raise UserError(f"trainer.{key} must be 1 with split.refit=true, got {value}; set split.refit=false")

    def _check_order(self) -> None:
        """Raise UserError if lists are ordered by lower bounds that do not exist, at all or in the first epochs."""
        if self.ranking.by is not OrderBy.lower_bound:
            return
        if not self.optimizer.keeps_samples:
            raise UserError(f"ranking.by=lower_bound needs optimizer=gibbs, got {self.optimizer.name}")
        if self.monitors_lists:
            raise UserError(
                f"ranking.by must be expected_gain or prediction with monitor={self.monitor}: before the first sample, "
                "there are no lower bounds"
            )


def _join(names: Sequence[str], *, last: str = "and") -> str:
    """Join names, as in `a, b and c`."""
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
