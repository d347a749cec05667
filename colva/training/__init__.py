"""Training of both stages: engines, stages, data loading, checkpoints, and the command `colva train`."""
