"""The classes of the shipped student: the eleven of CamVid for segmentation, four of them for boxes.

Segmentation ids are the ids in CamVid's masks. The node does not use this table. It reads the classes from the contract
of the model that it runs.
"""

from __future__ import annotations

from ros_kd_perception.model.contract import ClassInfo

UNLABELED_ID = 255

SEGMENTATION_CLASSES = (
    ClassInfo(0, "sky", (128, 180, 230)),
    ClassInfo(1, "building", (140, 70, 70)),
    ClassInfo(2, "pole", (220, 220, 160)),
    ClassInfo(3, "road", (128, 64, 128)),
    ClassInfo(4, "pavement", (244, 100, 200)),
    ClassInfo(5, "tree", (90, 150, 40)),
    ClassInfo(6, "sign", (240, 210, 0)),
    ClassInfo(7, "fence", (170, 140, 120)),
    ClassInfo(8, "car", (30, 60, 220)),
    ClassInfo(9, "pedestrian", (230, 30, 60)),
    ClassInfo(10, "bicyclist", (0, 190, 200)),
)

DETECTION_CLASSES = (
    ClassInfo(0, "car", (30, 60, 220)),
    ClassInfo(1, "pedestrian", (230, 30, 60)),
    ClassInfo(2, "bicyclist", (0, 190, 200)),
    ClassInfo(3, "sign", (240, 210, 0)),
)

SEGMENTATION_ID_OF_DETECTION_ID = {
    detection.id: next(c.id for c in SEGMENTATION_CLASSES if c.name == detection.name)
    for detection in DETECTION_CLASSES
}
