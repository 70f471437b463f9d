"""Which classes cannot be scored, because either the model or the labels do not know them."""

from __future__ import annotations

from training.label_sets.mapping import IGNORE, LabelMapping

NotScored = dict[str, dict[str, list[str]]]
_KNOWN_TO = {"model": "the labels do not have", "labels": "the model does not have"}
_THINGS = {"segmentation": "masks", "detection": "boxes"}


def not_scored(mapping: LabelMapping) -> NotScored:
    """Return the classes that only one side knows, in the tasks of the model.

    Args:
        mapping: From the classes of the labels to those of the model.

    Returns:
        By task: `model`, names of classes of the model that the labels do not have, and `labels`, names of classes of
        the labels that count as not labelled.
    """
    tasks = {
        "segmentation": (mapping.student.segmentation_classes, mapping.covered_segmentation, mapping.segmentation),
        "detection": (mapping.student.detection_classes, mapping.covered_detection, mapping.detection),
    }
    return {
        task: {
            "model": [info.name for info, known in zip(classes, covered, strict=True) if not known],
            "labels": [name for name, target in targets.items() if target == IGNORE],
        }
        for task, (classes, covered, targets) in tasks.items()
        if classes
    }


def not_scored_lines(found: NotScored) -> list[str]:
    """Return lines for people, the first one empty; no lines if all classes are scored."""
    lines = [
        f"not scored, {what}: {_THINGS[task]} of {', '.join(names[side])}"
        for task, names in found.items()
        for side, what in _KNOWN_TO.items()
        if names[side]
    ]
    return ["", *lines] if lines else []
