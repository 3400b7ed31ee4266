"""The one place where all parts meet: train, evaluate, recommend, predict, reproduce."""
