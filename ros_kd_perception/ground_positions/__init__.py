"""Finds where detected objects stand on the ground, from their boxes and the calibration of the camera."""
