"""Finds the free space on the ground from a class map and a camera calibration."""
