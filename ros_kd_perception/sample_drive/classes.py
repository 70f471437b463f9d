"""The classes of rendered frames. training/label_sets/rendered.yaml says the same to the training; a test compares."""

from __future__ import annotations

UNLABELED_ID = 255
MASK_CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(len(MASK_CLASSES))
# The classes of boxes in the order of their ids, as ids of masks.
BOX_CLASSES = (CAR, PEDESTRIAN, BICYCLIST, SIGN)
