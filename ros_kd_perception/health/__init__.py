"""Figures of each camera and what they mean: images, stamps, counts, status."""
