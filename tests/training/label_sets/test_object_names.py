"""Names of objects in files: classes, other names, groups, and names that stand for nothing."""

import pytest

from training.label_sets.label_set import LabelSet
from training.label_sets.object_names import EVERY_CLASS, ObjectClass, ObjectNames

SET = LabelSet.checked(
    {
        "name": "own",
        "segmentation": [{"id": 0, "name": "floor"}, {"id": 1, "name": "shelf"}],
        "detection": [{"id": 4, "name": "robot"}, {"id": 9, "name": "person"}],
        "aliases": {"bot": "robot"},
        "ignore_regions": {"crowd of robots": "robot", "blurred": ""},
        "without_class": ["sticker"],
    }
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("robot", ObjectClass(4)),
        ("bot", ObjectClass(4)),
        ("personpack", ObjectClass(9, ignored=True)),
        ("botpack", ObjectClass(4, ignored=True)),
        ("crowd of robots", ObjectClass(4, ignored=True)),
        ("blurred", ObjectClass(EVERY_CLASS, ignored=True)),
        ("floor", None),
        ("shelfpack", None),
        ("sticker", None),
    ],
)
def test_a_name_is_found(name: str, expected: ObjectClass | None):
    assert ObjectNames(SET, group_ending="pack").find(name) == expected


@pytest.mark.parametrize(("name", "nearest"), [("robbot", "robot"), ("Person", "person"), ("stiker", "sticker")])
def test_an_unknown_name_comes_with_the_nearest_one(name: str, nearest: str):
    with pytest.raises(KeyError, match=f"{name}.*did you mean {nearest}"):
        ObjectNames(SET, group_ending="pack").find(name)


def test_without_an_ending_there_are_no_groups():
    with pytest.raises(KeyError, match="personpack"):
        ObjectNames(SET).find("personpack")
