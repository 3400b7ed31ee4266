"""Loggers: TensorBoard, CSV, MLflow and W&B, with their options."""
