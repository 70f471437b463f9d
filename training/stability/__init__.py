"""Stability: how much the answers of a network change from frame to frame where the scene does not."""
