"""Compares the results of two models, or of two recordings, frame by frame. Start with `comparison`."""
