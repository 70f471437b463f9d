"""Strides of the outputs: input pixels per cell."""

SEGMENTATION_STRIDE = 4
DETECTION_STRIDES = (8, 16, 32)
