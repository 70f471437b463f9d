"""Annotation files of COCO: what is read of their parts, beside what another implementation reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval import COCO
from faster_coco_eval import mask as coco_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from training.data.coco_file import CocoFile, first_problems, read_coco
from training.data.coco_masks import draw_shapes
from training.errors import DataError

IMAGES = [
    {"id": 9, "file_name": "000009.jpg", "height": 40, "width": 60},
    {"id": 25, "file_name": "sub/000025.jpg", "height": 40, "width": 60},
]
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]


def annotation(number: int, bbox: list, image_id: object = 9, category_id: object = 3, **more: object) -> dict:
    return {"id": number, "image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": 0} | more


def read(folder: Path, annotations: list, shapes: bool = False, **changes: object) -> CocoFile:
    path = folder / "instances.json"
    path.write_text(
        json.dumps({"info": {}, "images": IMAGES, "annotations": annotations, "categories": CATEGORIES} | changes)
    )
    return read_coco(path, shapes)


def test_boxes_are_corners_and_crowds_teach_nothing(tmp_path: Path):
    runs = {"size": [40, 60], "counts": [2400]}
    found = read(
        tmp_path,
        [
            annotation(1, [1.5, 2, 10, 20.25]),
            annotation(2, [0, 0, 30, 30], category_id=1, iscrowd=1, segmentation=runs),
            annotation(3, [4, 4, 4, 4], ignore=1),
        ],
    )
    boxes = found.images["000009.jpg"].boxes
    assert boxes.boxes_xyxy.tolist() == [[1.5, 2, 11.5, 22.25], [0, 0, 30, 30], [4, 4, 8, 8]]
    assert boxes.ids.tolist() == [3, 1, 3]
    assert boxes.ignored.tolist() == [False, True, True]
    assert found.images["sub/000025.jpg"].rows == [], "an image without annotations shows nothing of the categories"
    assert found.images["000009.jpg"].size == (40, 60)
    assert (found.things, found.panoptic, found.notes) == ({1: "person", 3: "car"}, False, [])


def test_harmless_oddities_are_said(tmp_path: Path):
    twice = annotation(1, [1, 1, 5, 5])
    found = read(tmp_path, [twice, twice, annotation(2, [1, 1, 0, 5]), annotation(4, [0, 0, 1, 1], image_id=77)])
    assert found.images["000009.jpg"].boxes.boxes_xyxy.tolist() == [[1, 1, 6, 6]]
    path = tmp_path / "instances.json"
    assert found.notes == [
        f"{path}: 1 annotations have the id of another; objects that are equal count once",
        f"{path}: 1 boxes have no width or height and are left out",
        f"{path}: annotations of 1 images that it does not list are left out",
    ]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (annotation(7, [1, 2, 3]), "annotation 7: expected bbox as left, top, width and height"),
        (annotation(7, [1, 2, 3, float("nan")]), "annotation 7: expected bbox"),
        (annotation(7, [1, 2, 3, 10**400]), "annotation 7: expected bbox"),
        (annotation(7, [1, 2, -3, 4]), "annotation 7: expected bbox"),
        (annotation(7, "box"), "annotation 7: expected bbox"),
        (annotation(7, [1, 2, 3, 4], category_id="car"), "annotation 7: category_id: expected int, got 'car'"),
        (annotation(7, [1, 2, 3, 4], category_id=2), r"expected ids of its categories, got category_id \[2\]"),
        ({"image_id": 9, "segments_info": {}}, "file_name of a panoptic mask: expected str, got None"),
    ],
)
def test_a_wrong_annotation_is_kept_with_its_image(tmp_path: Path, entry: dict, sentence: str):
    image = read(tmp_path, [entry, annotation(8, [0, 0, 1, 1])]).images["000009.jpg"]
    assert len(image.rows) >= 1
    with pytest.raises(DataError, match=sentence):
        raise DataError(first_problems(image))


def test_many_problems_of_an_image_are_counted(tmp_path: Path):
    image = read(tmp_path, [annotation(number, []) for number in range(5)]).images["000009.jpg"]
    assert first_problems(image).count("annotation") == 3
    assert first_problems(image).endswith(" | and 2 more")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": []}, "expected a list of images, there is none"),
        ({"categories": []}, "expected a list of categories, there is none"),
        ({"images": [*IMAGES, {"id": 9, "file_name": "x.jpg"}]}, r"images\[2\]: expected each id once, got 9"),
        ({"images": [*IMAGES, {"id": 10, "file_name": "000009.jpg"}]}, "two images have the file_name '000009.jpg'"),
        ({"images": [{"id": 1, "file_name": "../x.jpg"}]}, r"images\[0\]: expected a file_name below the folder"),
        ({"images": [{"id": 1, "file_name": "/etc/x.jpg"}]}, r"images\[0\]: expected a file_name below the folder"),
        ({"images": [{"id": 1.5, "file_name": "x.jpg"}]}, r"images\[0\]: id: expected int or str, got 1.5"),
        ({"images": ["x.jpg"]}, r"images\[0\]: expected an object, got \'x.jpg\'"),
        ({"categories": [*CATEGORIES, {"id": 1, "name": "bus"}]}, "got 1 for 'person' and 'bus'"),
        ({"annotations": [annotation(1, [0, 0, 1, 1], image_id="9")]}, "all belong to others, such as image_id '9'"),
        ({"annotations": [annotation(1, [0, 0, 1, 1], image_id=None)]}, r"annotations\[0\]: image_id: expected"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, changes: dict, sentence: str):
    with pytest.raises(DataError, match=sentence) as error:
        read(tmp_path, **({"annotations": []} | changes))
    assert str(error.value).startswith(f"{tmp_path / 'instances.json'}: ")


def test_all_problems_of_a_file_come_in_one_run(tmp_path: Path):
    with pytest.raises(DataError) as error:
        read(tmp_path, [], images=[*IMAGES, {"id": 1}, {"id": 2}], categories=[*CATEGORIES, {"id": "x", "name": "y"}])
    assert len(str(error.value).splitlines()) == 3


def test_a_file_that_changed_is_read_again(tmp_path: Path):
    assert len(read(tmp_path, []).images["000009.jpg"].rows) == 0
    assert len(read(tmp_path, [annotation(1, [1, 1, 5, 5])]).images["000009.jpg"].rows) == 1
    with pytest.raises(DataError, match="expected the annotations of COCO as JSON"):
        read_coco(tmp_path / "none.json")


def test_boxes_and_crowds_are_those_of_another_implementation(tmp_path: Path):
    """Keys that other tools add, such as the score of a teacher, change nothing."""
    rows = [annotation(1, [1.25, 2, 28.75, 18], score=0.75, area=517.5)]
    rows += [annotation(2, [5, 5, 4, 4], category_id=1, iscrowd=1, score=None, area=16)]
    ours = read(tmp_path, rows).images["000009.jpg"].rows
    theirs = COCO(str(tmp_path / "instances.json"))
    expected = [
        ((left, top, left + width, top + height), entry["category_id"], bool(entry["iscrowd"]))
        for entry in theirs.loadAnns(theirs.getAnnIds(imgIds=[9]))
        for left, top, width, height in [entry["bbox"]]
    ]
    assert ours == expected
    assert len(theirs.getAnnIds(imgIds=[9], iscrowd=True)) == 1


@settings(max_examples=40, deadline=None)
@given(mask=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1)))
def test_run_lengths_are_those_of_another_implementation(mask: np.ndarray):
    encoded = coco_mask.encode(np.asfortranarray(mask))
    counts = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=2)), prepend=0).tolist()
    for shape in (encoded | {"counts": encoded["counts"].decode()}, {"size": list(mask.shape), "counts": counts}):
        assert np.array_equal(draw_shapes([(7, shape)], mask.shape, "x") == 7, mask.astype(bool))


def test_polygons_cover_the_pixels_that_coco_counts_and_small_ones_lie_on_top():
    small = [[2, 2, 6, 2, 6, 6, 2, 6]]
    large = [[0, 0, 10, 0, 10, 8, 0, 8], [12, 0, 20, 0, 20, 8, 12, 8]]
    mask = draw_shapes([(3, small), (300, large)], (10, 30), "x")
    assert (mask[2:6, 2:6] == 3).all()
    assert (mask == 3).sum() == 16
    assert (mask == 300).sum() == 80 - 16 + 64
    assert (mask[:, 20:] == 255).all(), "what no object covers is not labelled"


@pytest.mark.parametrize(
    "shape",
    [
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, 4, float("nan"), 6]],
        [["a"] * 6],
        [],
        {"size": [10, 30], "counts": [299]},
        {"size": [10, 30], "counts": [-1, 301]},
        {"size": [30, 10], "counts": [300]},
        {"size": [10, 30], "counts": "o" * 1000},
        {"size": [10, 30], "counts": "\xff"},
        {"size": [10, 30], "counts": None},
        {},
    ],
)
def test_a_broken_shape_is_refused(shape: object):
    with pytest.raises(DataError, match="x: expected"):
        draw_shapes([(1, shape)], (10, 30), "x")
