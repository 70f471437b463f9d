"""The student: a plain-convolution network for segmentation and detection, from blocks to whole."""
