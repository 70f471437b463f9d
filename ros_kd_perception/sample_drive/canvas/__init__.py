"""Drawing in floating point: canvas, panels, shapes, noise."""
