"""Commands that combine all packages: train, evaluate, recommend, predict, reproduce."""
