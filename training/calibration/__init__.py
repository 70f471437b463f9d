"""Scores that mean what they say: `python -m training calibrate`."""
