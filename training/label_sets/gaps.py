"""Which classes of a student neither sources nor teachers label, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from training.label_sets.label_set import LabelSet

_THINGS = {"segmentation": "masks", "detection": "boxes"}


def unlabeled_classes(student: LabelSet, known: Mapping[str, Iterable[Sequence[bool]]]) -> str:
    """Return which classes nothing labels, for example `masks of wall, fence; boxes of rider`; empty if there are none.

    Args:
        student: Classes of the student.
        known: By task, for each source or teacher whether it labels each class of the student, in the order of their
            ids. A task that is left out has no gaps.
    """
    classes = {"segmentation": student.segmentation_classes, "detection": student.detection_classes}
    parts = []
    for task, covered in known.items():
        each = list(covered)
        names = [info.name for info in classes[task]]
        missing = [name for place, name in enumerate(names) if not any(one[place] for one in each)]
        if missing:
            parts.append(f"{_THINGS[task]} of {'all classes' if missing == names else ', '.join(missing)}")
    return "; ".join(parts)
