"""The label set of a network whose classes are known by their names: of an exported file, or of an old checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from ros_kd_perception.model.contract import ClassInfo, ModelContract
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set, shipped_names

LABEL_SET_KEY = "label_set"  # in the contract's provenance: the name of the set


def label_set_of(contract: ModelContract) -> LabelSet:
    """Return the classes of an exported model, to which the labels of frames are mapped by name.

    Its name is what the file says, or that of the shipped set with the same classes: tables are found by it.
    """
    masks, boxes = contract.segmentation_classes, contract.detection_classes
    name = contract.provenance.get(LABEL_SET_KEY)
    if not isinstance(name, str) or not name:
        shipped = shipped_set_with([info.name for info in masks], [info.name for info in boxes])
        name = shipped.name if shipped else contract.name
    rows = [[{"id": info.id, "name": info.name, "color": info.color_rgb} for info in task] for task in (masks, boxes)]
    return LabelSet.checked({"name": name, "segmentation": rows[0], "detection": rows[1]})


def shipped_set_with(masks: Sequence[str], boxes: Sequence[str]) -> LabelSet | None:
    """Return the first set of the package whose classes have these names, in the order of their ids.

    Args:
        masks: Classes of masks; empty = any.
        boxes: Classes of boxes; empty = any.
    """
    for candidate in map(load_label_set, shipped_names()):
        pairs = ((masks, candidate.segmentation_classes), (boxes, candidate.detection_classes))
        if all(not names or list(names) == _names(classes) for names, classes in pairs):
            return candidate
    return None


def _names(classes: Sequence[ClassInfo]) -> list[str]:
    return [info.name for info in classes]
