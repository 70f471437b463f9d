"""Weights that stay: `python -m training keep-weights`."""
