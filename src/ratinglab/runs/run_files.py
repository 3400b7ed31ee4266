"""Names of the files in the folder of a run, and in the folder of a sweep.

Readers verify each file of a run, and raise UserError if it is missing or damaged, or belongs to another run. Event
files, train.log and the loggers' files have no digests, because no command needs them.
"""

RUN_RECORD, RUN_FORMAT = "run.json", 5
"""The record, which marks a folder as a run, with Hydra's files about its start; the version of the folder's format."""
DIGESTS = "digests.json"
"""Digests of the files beside it; each checkpoint ends with its own."""
USERS = "users.parquet"
"""user_id by index, with the features that the equation needs."""
ITEMS = "items.parquet"
"""item_id by index, with titles, if any, and all features."""
RATINGS = "ratings.parquet"
"""user, item, rating and part of every row, and the day if the equation takes days."""
TABLES = (USERS, ITEMS, RATINGS)
"""Tables that are written at the start."""
CHECKPOINTS = "checkpoints"
"""Subfolder for the checkpoints."""
BEST, LAST = f"{CHECKPOINTS}/best.ckpt", f"{CHECKPOINTS}/last.ckpt"
"""Checkpoints: the best epoch, and the last one, from which the run resumes."""
METRICS = "metrics.json"
"""Metrics, written when the run finishes; flat, with the TensorBoard tags as keys."""
EPOCHS = "epochs.csv"
"""Train and validation metrics by epoch."""
PREDICTIONS = "predictions.parquet"
"""part, rating and prediction of each evaluated row, in the order of ratings.parquet."""
INTEREST = "interest.npz"
"""Interest model (who would rate what), fitted when a list first needs it."""
VALIDATION_FIT = "validation"
"""Subfolder for the validation fit of a run with split.refit, which finds the number of epochs of the refit."""
HYDRA_FOLDER = ".hydra"
"""Subfolder where Hydra stores the configuration."""
HYDRA_FILES = {"config.yaml": dict, "overrides.yaml": list, "hydra.yaml": dict}
"""Files in that subfolder, with the types of their contents.

The run's record has a copy of each, from which the run is resumed or reproduced.
"""
SWEEP_RECORD = "sweep.json"
"""Arguments that choose the jobs of a sweep, in the sweep's folder."""
FAILURE, PRUNED = "failure.txt", "pruned.txt"
"""Reason why a job of a sweep failed or was pruned, in the folder of the job's run."""
