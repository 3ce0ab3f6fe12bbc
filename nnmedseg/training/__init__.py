"""A training's machinery, whoever's trainer it is: steps, checkpoints, logs, processes, runs."""
