"""Monitors the cameras: faults in their frames and stamps, counts and rates, and the diagnostic status."""
