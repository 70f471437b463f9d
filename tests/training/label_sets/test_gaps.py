"""Which classes of a student nothing labels, in words."""

from __future__ import annotations

from training.label_sets.gaps import unlabeled_classes
from training.label_sets.label_set import LabelSet

STUDENT = LabelSet.checked(
    {
        "name": "three",
        # Not in the order of their ids, by which sources and teachers say what they label.
        "segmentation": [{"id": 2, "name": "sky"}, {"id": 0, "name": "road"}, {"id": 1, "name": "tree"}],
        "detection": [{"id": 0, "name": "car"}],
    }
)


def test_a_class_counts_as_labelled_if_one_labels_it() -> None:
    masks = [[True, False, False], [False, False, True]]
    assert unlabeled_classes(STUDENT, {"segmentation": masks, "detection": [[True]]}) == "masks of tree"
    assert unlabeled_classes(STUDENT, {"segmentation": [*masks, [False, True, False]], "detection": [[True]]}) == ""


def test_a_task_without_labels_has_gaps_everywhere_and_one_that_is_not_learnt_has_none() -> None:
    every = {"segmentation": [[True] * 3], "detection": [[False]]}
    assert unlabeled_classes(STUDENT, every) == "boxes of all classes"
    assert unlabeled_classes(STUDENT, {"detection": []}) == "boxes of all classes"
    assert (
        unlabeled_classes(STUDENT.replace(detection=()), {"segmentation": [], "detection": []})
        == "masks of all classes"
    )
