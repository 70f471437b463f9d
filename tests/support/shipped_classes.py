"""The classes of the shipped student, as tests of students and contracts use them."""

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
