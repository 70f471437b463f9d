"""Label sets: the files that come with the package, and the matching of two sets by name."""

import pytest

from ros_kd_perception.sample_drive import classes
from training.errors import RecipeError
from training.label_sets.label_set import LabelSet, NameTable
from training.label_sets.loading import load_label_set, shipped_names
from training.label_sets.mapping import BACKGROUND_BOX, IGNORED_BOX, UNKNOWN_ID, LabelMapping

DATA_SETS = (
    "bdd100k19",
    "bdd100k_drivable",
    "camvid11",
    "camvid32",
    "cityscapes",
    "cityscapes19",
    "mapillary124",
    "mapillary66",
    "rendered",
)
OWN = {
    "name": "own",
    "segmentation": [{"id": 3, "name": "floor"}, {"id": 300, "name": "wall"}],
    "detection": [{"id": 7, "name": "robot"}, {"id": 9, "name": "wall"}],
    "void_ids": [4],
}
STUDENT = {
    "name": "small",
    "segmentation": [{"id": 0, "name": "wall"}, {"id": 1, "name": "free"}, {"id": 2, "name": "door"}],
    "detection": [{"id": 0, "name": "wall"}, {"id": 1, "name": "door"}],
}


def label_set(content: dict, **changes: object) -> LabelSet:
    return LabelSet.checked(content | changes)


def test_every_shipped_set_can_be_read_and_has_the_name_of_its_file():
    assert {"camvid11", "cityscapes19", "rendered"} <= set(shipped_names())
    for name in shipped_names():
        assert load_label_set(name).name == name


def test_every_table_of_a_shipped_set_leads_to_classes_of_the_other_set():
    sets = {name: load_label_set(name) for name in shipped_names()}
    for label_set in sets.values():
        for target in label_set.mappings.keys() & sets.keys():
            LabelMapping.between(label_set, sets[target])


def test_a_key_that_yaml_takes_for_a_truth_value_is_refused_inside_of_a_table():
    with pytest.raises(RecipeError, match=r"unknown key mappings\.small\.True; valid are segmentation, detection"):
        label_set(OWN, mappings={"small": {True: "wall"}})  # YAML reads the key `on` as true


def test_classes_are_matched_by_name_and_by_the_table_never_by_number():
    table = NameTable(segmentation={"floor": "free"}, detection={"robot": "background"})
    mapping = LabelMapping.between(label_set(OWN), label_set(STUDENT), table)
    assert mapping.mask_ids[[3, 300]].tolist() == [1, 0]
    assert mapping.mask_ids[[4, 255]].tolist() == [255, 255]
    assert mapping.mask_ids[[0, 1, 299, 65535]].tolist() == [UNKNOWN_ID] * 4
    assert mapping.box_ids == {7: BACKGROUND_BOX, 9: 0}
    assert mapping.covered_segmentation == (True, True, False)
    assert mapping.covered_detection == (True, False)


def test_an_ignored_class_is_neither_there_nor_absent():
    table = NameTable(segmentation={"floor": "ignore"}, detection={"robot": "ignore"})
    mapping = LabelMapping.between(label_set(OWN), label_set(STUDENT), table)
    assert mapping.mask_ids[3] == 255
    assert mapping.box_ids[7] == IGNORED_BOX


def test_a_class_that_maps_to_nothing_is_named_with_the_choices():
    with pytest.raises(RecipeError, match=r"data.train.0: label set own to small, segmentation: floor maps to nothing"):
        LabelMapping.between(label_set(OWN), label_set(STUDENT), where="data.train.0")


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (NameTable(segmentation={"floor": "fre"}), "the table leads to fre; name one of door, free, wall, or ignore"),
        (NameTable(segmentation={"flor": "free"}), "the table names flor, which the first set lacks"),
        (NameTable(segmentation={"floor": "background"}), "the table leads to background"),
    ],
)
def test_a_wrong_table_is_refused(table: NameTable, sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        LabelMapping.between(label_set(OWN), label_set(STUDENT), table)


def test_a_table_in_the_file_of_the_source_counts_after_that_of_the_recipe():
    own = label_set(OWN, mappings={"small": {"segmentation": {"floor": "door"}, "detection": {"robot": "door"}}})
    mapping = LabelMapping.between(own, label_set(STUDENT), NameTable(segmentation={"floor": "free"}))
    assert (mapping.segmentation["floor"], mapping.detection["robot"]) == ("free", "door")


def test_a_task_that_the_student_lacks_needs_no_table():
    mapping = LabelMapping.between(
        label_set(OWN), label_set(STUDENT, segmentation=[]), NameTable(detection={"robot": "door"})
    )
    assert mapping.mask_ids[[3, 300]].tolist() == [255, 255]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"segmentation": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "expected every id once, got 1 twice"),
        ({"segmentation": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "expected every name once, got a twice"),
        ({"void_ids": [3]}, r"the ids \[3\] mean not labelled"),
        ({"rare": ["roof"]}, "rare must name classes of its segmentation, got roof"),
        ({"detection": [{"id": 0, "name": "robot", "region": "roof"}]}, "has region roof"),
        ({"segmentation": [{"id": -1, "name": "a"}]}, "must be"),
    ],
)
def test_a_set_that_contradicts_itself_is_refused(changes: dict, sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        label_set(OWN, **changes)


def test_the_ids_of_a_student_count_from_zero_and_there_are_some():
    label_set(STUDENT).check_student()
    with pytest.raises(RecipeError, match="needs classes of masks"):
        label_set(STUDENT, segmentation=[], detection=[]).check_student()
    with pytest.raises(RecipeError, match="ids of segmentation count from 0"):
        label_set(OWN).check_student()


def test_colours_are_given_to_classes_without_one_and_boxes_have_that_of_their_region():
    own = label_set(OWN)
    (floor, wall), (robot, wall_box) = own.segmentation_classes, own.detection_classes
    assert len({floor.color_rgb, wall.color_rgb, robot.color_rgb}) >= 2
    assert wall_box.color_rgb == wall.color_rgb
    assert own.region_ids == {9: 300}


def test_an_unknown_name_lists_the_sets(tmp_path):
    with pytest.raises(RecipeError, match="there is no label set 'camvid12'; name one of"):
        load_label_set("camvid12")
    with pytest.raises(RecipeError, match=r"missing\.yaml"):
        load_label_set(tmp_path / "missing.yaml")


def test_the_set_of_rendered_frames_is_that_of_the_renderer():
    rendered = load_label_set("rendered")
    assert tuple(info.name for info in rendered.segmentation_classes) == classes.MASK_CLASSES
    assert list(rendered.region_ids.values()) == list(classes.BOX_CLASSES)


def test_a_file_without_classes_is_refused(tmp_path):
    (tmp_path / "empty.yaml").write_text("name: empty\n")
    with pytest.raises(RecipeError, match="label set empty needs classes"):
        load_label_set(tmp_path / "empty.yaml")


@pytest.mark.parametrize("student", ["camvid11", "cityscapes19"])
@pytest.mark.parametrize("name", DATA_SETS)
def test_every_shipped_set_of_a_data_set_maps_to_the_students_that_come_with_the_package(name: str, student: str):
    LabelMapping.between(load_label_set(name), load_label_set(student))


@pytest.mark.parametrize("key", ["aliases", "ignore_regions"])
def test_names_in_files_lead_to_classes_of_boxes(key: str):
    label_set(OWN, **{key: {"machine": "robot"}})
    with pytest.raises(
        RecipeError, match=f"{key} must lead to classes of its detection, got floor; it has robot, wall"
    ):
        label_set(OWN, **{key: {"machine": "floor"}})


def test_a_set_becomes_that_of_a_student_with_ids_from_zero():
    student = label_set(OWN).as_student()
    student.check_student()
    assert [(info.id, info.name) for info in student.segmentation] == [(0, "floor"), (1, "wall")]
    assert [(info.id, info.name) for info in student.detection] == [(0, "robot"), (1, "wall")]
    assert LabelMapping.between(label_set(OWN), student).mask_ids[[3, 4, 300]].tolist() == [0, 255, 1]
    camvid = load_label_set("camvid11")
    assert camvid.as_student() is camvid
