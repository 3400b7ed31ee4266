"""Names of the files in the folder of a run, and in the folder of a sweep.

Readers verify each file of a run, and raise UserError if it is missing or damaged, or belongs to another run. Event
files, train.log and the loggers' files have no digests, because no command needs them.
"""

RUN_RECORD, RUN_FORMAT = "run.json", 5
"""The record of a run, which marks its folder as a run, and the version of the format of this folder."""
DIGESTS = "digests.json"
"""Digests of the files in the same folder. Each checkpoint ends with a digest of its own content."""
USERS = "users.parquet"
"""The user_id of each user, in the order of the indices, with the features that the equation needs."""
ITEMS = "items.parquet"
"""The item_id of each item, in the order of the indices, with all features, and its title if the data have titles."""
RATINGS = "ratings.parquet"
"""The user, item, rating and part of every row, and the day if the equation takes days."""
TABLES = (USERS, ITEMS, RATINGS)
"""Tables that are written at the start."""
CHECKPOINTS = "checkpoints"
"""Subfolder for the checkpoints."""
BEST, LAST = f"{CHECKPOINTS}/best.ckpt", f"{CHECKPOINTS}/last.ckpt"
"""Checkpoints: the best epoch, and the last one, from which the run resumes."""
METRICS = "metrics.json"
"""Metrics by TensorBoard tag, written when the run finishes."""
EPOCHS = "epochs.csv"
"""Train and validation metrics by epoch."""
PREDICTIONS = "predictions.parquet"
"""The part, rating and prediction of the validation rows, then of the test rows, in the order of ratings.parquet."""
INTEREST = "interest.npz"
"""The interest model, which predicts who would rate what. It is fitted when a list first needs it."""
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
