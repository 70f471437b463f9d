"""How many pixels of the image one cell of each output stands for."""

SEGMENTATION_STRIDE = 4
DETECTION_STRIDES = (8, 16, 32)
