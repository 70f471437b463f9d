"""One training run: Lightning module, callbacks, checkpoints, resume."""
