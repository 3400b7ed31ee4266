"""Fits of an equation: LightningModules, optimizers, schedules, callbacks and loggers."""
