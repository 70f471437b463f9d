"""Label sets that take ids and names from a file, and tables from a shipped set."""

import pytest

from training.errors import RecipeError
from training.label_sets.from_file import label_set_of_names
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import BACKGROUND_BOX, LabelMapping

BASE = LabelSet.checked(
    {
        "name": "base",
        "segmentation": [{"id": 1, "name": "floor", "color": [1, 2, 3]}, {"id": 2, "name": "machine"}],
        "detection": [
            {"id": 5, "name": "robot", "color": [9, 8, 7], "region": "machine"},
            {"id": 6, "name": "door"},
        ],
        "rare": ["machine"],
        "drivable": ["floor"],
        "usual_share": {"machine": [0.0, 0.5]},
        "mappings": {"small": {"segmentation": {"floor": "ground"}, "detection": {"robot": "thing", "door": "ignore"}}},
    }
)


def of_names(detection: dict[int, str], segmentation: dict[int, str] | None = None, strict: bool = False) -> LabelSet:
    return label_set_of_names("boxes.json", BASE, detection=detection, segmentation=segmentation or {}, strict=strict)


def test_ids_are_the_file_s_and_all_else_is_that_of_the_base():
    found = of_names({70: "robot"}, {3: "machine", 9: "floor"})
    assert [(info.id, info.name, info.color, info.region) for info in found.detection] == [
        (70, "robot", (9, 8, 7), "machine")
    ]
    assert [(info.id, info.name) for info in found.segmentation] == [(3, "machine"), (9, "floor")]
    assert (found.rare, found.drivable, found.usual_share) == (("machine",), ("floor",), {"machine": (0.0, 0.5)})
    assert found.mappings["small"].detection == {"robot": "thing"}, "a class that is not there needs no entry"
    assert found.mappings["small"].segmentation == {"floor": "ground"}


def test_a_region_that_the_file_does_not_label_is_left_out():
    assert of_names({0: "robot"}).regions == of_names({0: "robot"}, {1: "floor"}).regions == {}


def test_names_of_its_own_take_nothing_from_the_base():
    found = of_names({0: "robot", 1: "forklift"})
    assert (found.mappings, found.detection[0].color) == ({}, None)


def test_names_that_a_set_of_the_recipe_lacks_are_refused():
    with pytest.raises(RecipeError, match=r"boxes.json: the label set base lacks forklift, which the file names"):
        of_names({0: "robot", 1: "forklift"}, strict=True)


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(RecipeError, match="every name once, got robot"):
        of_names({0: "robot", 1: "robot"})


def test_coco_s_numbers_without_gaps_mean_the_same_by_name():
    """YOLO counts the same 80 names from 0: by number, its class 2 would be COCO's bicycle and not the car."""
    names = dict(enumerate(info.name for info in load_label_set("coco").detection_classes))
    numbered = label_set_of_names("data.yaml", load_label_set("coco"), detection=names, segmentation={}, strict=False)
    student = load_label_set("coco_driving")
    ids = {info.name: info.id for info in student.detection}
    mapping = LabelMapping.between(numbered, student)
    assert (mapping.box_ids[0], mapping.box_ids[2], mapping.box_ids[9]) == (
        ids["person"],
        ids["car"],
        ids["traffic light"],
    )
    assert mapping.box_ids[79] == BACKGROUND_BOX
