"""Two boxes that are one object: a person on a bicycle becomes a bicyclist, one beside it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_networks import save_network
from hypothesis import given
from hypothesis import strategies as st
from plain_teachers import SaidBefore

from training.errors import RecipeError
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import LabelMapping
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.ensemble import Ensemble, Member
from training.teachers.joining import covered_share, join
from training.teachers.onnx_file import OnnxTeacher
from training.teachers.seen import Boxes, Seen
from training.teachers.settings import FusionSettings, JoinRule
from training.teachers.taught import TaughtBoxes, Voice

CAMVID = load_label_set("camvid11")
COCO = load_label_set("coco80")
CITYSCAPES = load_label_set("cityscapes19")
PERSON, BICYCLE, CAR = 0, 1, 2
RULE = {"upper": ["person"], "lower": ["bicycle", "motorcycle"], "becomes": "bicyclist"}
RIDER, BESIDE = [10.0, 0.0, 30.0, 60.0], [100.0, 0.0, 120.0, 60.0]
UNDER_RIDER = [0.0, 30.0, 40.0, 66.0]
PLACES = st.tuples(st.floats(0, 200), st.floats(0, 200), st.floats(1, 100), st.floats(1, 100)).map(
    lambda four: [four[0], four[1], four[0] + four[2], four[1] + four[3]]
)
ROWS = st.lists(st.tuples(PLACES, st.sampled_from([PERSON, BICYCLE, CAR]), st.floats(0.01, 1)), max_size=12)


def rule(**keys: Any) -> JoinRule:
    return JoinRule.checked(RULE | keys)


def boxes_of(*rows: tuple[list[float], int, float]) -> Boxes:
    xyxy = torch.tensor([row[0] for row in rows]).reshape(-1, 4)
    return Boxes.of(xyxy, torch.tensor([row[1] for row in rows]), torch.tensor([row[2] for row in rows]))


def taught(
    *rows: tuple[list[float], int, float], student: LabelSet = CAMVID, joined: dict[str, Any] | None = None, **keys: Any
) -> TaughtBoxes:
    content = {"kind": "checkpoint", "path": "x", "joined": [RULE | (joined or {})], **keys}
    settings = CheckpointTeacher.checked(content)
    voice = Voice.of(settings, LabelMapping.between(COCO, student, settings.map))
    member = Member("teachers.0", SaidBefore(COCO, Seen(None, [boxes_of(*rows)])), voice)
    found = Ensemble([member], FusionSettings(), student)(torch.zeros(1, 3, 160, 160, dtype=torch.uint8)).boxes
    assert found is not None
    return found


def listed(boxes: Boxes, student: LabelSet = CAMVID) -> list[tuple[str, list[float], float]]:
    names = {info.id: info.name for info in student.detection} | {-1: "every class"}
    rows = zip(boxes.ids.tolist(), boxes.xyxy.tolist(), boxes.scores.tolist(), strict=True)
    return sorted((names[number], xyxy, round(score, 4)) for number, xyxy, score in rows)


def test_a_person_on_a_bicycle_is_one_bicyclist_and_one_beside_it_a_pedestrian() -> None:
    found = taught((RIDER, PERSON, 0.8), (UNDER_RIDER, BICYCLE, 0.4), (BESIDE, PERSON, 0.9))
    assert listed(found.objects[0]) == [("bicyclist", [0, 0, 40, 66], 0.8), ("pedestrian", BESIDE, 0.9)]
    # A person whose bicycle the network missed may be a bicyclist.
    assert listed(found.ignored[0]) == [("bicyclist", BESIDE, 0.9)]
    assert found.known.tolist() == [True, True, True, False]


def test_a_bicycle_without_a_person_stays_ignored() -> None:
    found = taught((UNDER_RIDER, BICYCLE, 0.9))
    assert listed(found.objects[0]) == []
    assert listed(found.ignored[0]) == [("every class", UNDER_RIDER, 0.9)]


def test_an_unsure_bicycle_leaves_the_class_in_doubt() -> None:
    found = taught((RIDER, PERSON, 0.8), (UNDER_RIDER, BICYCLE, 0.15), box_sure=0.5, box_unsure=0.3)
    assert listed(found.objects[0]) == []
    assert listed(found.ignored[0]) == [("bicyclist", [0, 0, 40, 66], 0.8), ("pedestrian", RIDER, 0.8)]
    scores = taught((RIDER, PERSON, 0.8), (UNDER_RIDER, BICYCLE, 0.15), box_sure=0.01, box_unsure=0.01).objects[0]
    assert listed(scores) == [("bicyclist", [0, 0, 40, 66], 0.4), ("pedestrian", RIDER, 0.4)]


def test_a_bicycle_below_the_lower_threshold_is_not_there() -> None:
    found = taught((RIDER, PERSON, 0.8), (UNDER_RIDER, BICYCLE, 0.04))
    assert listed(found.objects[0]) == [("pedestrian", RIDER, 0.8)]


def test_the_riders_of_cityscapes_have_a_box_without_the_bicycle() -> None:
    rows = ((RIDER, PERSON, 0.8), (UNDER_RIDER, BICYCLE, 0.7))
    found = taught(*rows, student=CITYSCAPES, joined={"becomes": "rider", "box": "upper"})
    assert listed(found.objects[0], CITYSCAPES) == [("bicycle", UNDER_RIDER, 0.7), ("rider", RIDER, 0.8)]


@pytest.mark.parametrize(
    ("bicycle", "joins"),
    [
        (UNDER_RIDER, True),
        ([12.0, 34.0, 28.0, 60.0], True),  # seen from behind, narrower than the rider
        ([0.0, 0.0, 40.0, 66.0], False),  # covers the head: the person stands behind it
        ([-40.0, 30.0, 12.0, 66.0], False),  # beside the person
        ([14.0, 52.0, 26.0, 60.0], False),  # far behind, between the legs
        ([-60.0, 28.0, 100.0, 120.0], False),  # higher than the person: near the camera
        ([10.0, 0.0, 30.0, 24.0], False),  # above
    ],
)
def test_the_place_of_the_bicycle_decides(bicycle: list[float], joins: bool) -> None:
    found = taught((RIDER, PERSON, 0.8), (bicycle, BICYCLE, 0.9))
    assert ("bicyclist" in {name for name, _, _ in listed(found.objects[0])}) is joins


def test_two_persons_do_not_ride_one_bicycle() -> None:
    second = [22.0, 2.0, 42.0, 60.0]
    found = taught(
        (RIDER, PERSON, 0.9), (second, PERSON, 0.6), (UNDER_RIDER, BICYCLE, 0.9), joined={"covered_min": 0.3}
    )
    assert [name for name, _, _ in listed(found.objects[0])] == ["bicyclist", "pedestrian"]


def test_a_rider_whose_bicycle_a_tile_cuts_is_never_sure() -> None:
    rows = boxes_of((RIDER, PERSON, 0.8), (UNDER_RIDER, BICYCLE, 0.9))
    cut = Boxes(rows.xyxy, rows.ids, rows.scores, torch.tensor([False, True]))
    assert join(cut, rule(), COCO).objects.cut.tolist() == [True]


def test_classes_that_the_teacher_is_not_asked_for_are_not_taught() -> None:
    rows = ((RIDER, PERSON, 0.8), (UNDER_RIDER, BICYCLE, 0.9), (BESIDE, PERSON, 0.9))
    found = taught(*rows, classes=["pedestrian"])
    assert listed(found.objects[0]) == [("pedestrian", BESIDE, 0.9)]
    assert found.known.tolist() == [False, True, False, False]


@given(ROWS)
def test_scores_are_shared_and_each_box_belongs_to_one_pair_at_most(rows: list[tuple[list[float], int, float]]) -> None:
    boxes = boxes_of(*rows)
    joined = join(boxes, rule(lower_sure=0.9), COCO)
    kept = joined.boxes[torch.arange(len(boxes))]
    assert torch.equal(kept.xyxy, boxes.xyxy)
    assert torch.equal(kept.scores[boxes.ids == CAR], boxes.scores[boxes.ids == CAR])
    objects = joined.objects[~joined.objects.cut]
    persons = boxes.ids == PERSON
    assert len(objects) <= min(int(persons.sum()), int((boxes.ids == BICYCLE).sum()))
    total = kept.scores[persons].sum() + objects.scores.sum()
    torch.testing.assert_close(total, boxes.scores[persons].sum())
    sure = sum(1 for left in kept.scores[persons].tolist() if left == 0)
    assert int(joined.objects.cut.sum()) == int(persons.sum()) - sure  # each of the others may be a bicyclist


@given(st.lists(PLACES, min_size=1, max_size=4), st.lists(PLACES, min_size=1, max_size=4), st.sampled_from([0.25, 4.0]))
def test_the_covered_share_depends_on_the_shape_alone(
    upper: list[list[float]], lower: list[list[float]], factor: float
) -> None:
    first, second = torch.tensor(upper), torch.tensor(lower)
    share = covered_share(first, second)
    assert share.shape == (len(upper), len(lower))
    assert bool(((share >= 0) & (share <= 1)).all())
    # A power of 2 changes no digit, so that comparisons with the limits come out the same.
    torch.testing.assert_close(covered_share(first * factor, second * factor), share, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"upper": ["human"]},
            r"teachers.0.joined.0: expected boxes of the label set coco80, got human; it has airplane",
        ),
        ({"becomes": "rider"}, r"teachers.0.joined.0: expected boxes of the label set camvid11, got rider; it has bic"),
        ({"lower": ["person"]}, r"upper and lower must name different classes, both have person"),
        ({"lower_unsure": 0.4}, r"lower_unsure 0.4 is above lower_sure 0.3; swap them"),
        ({"lower": []}, r"joined.0.lower"),
    ],
)
def test_wrong_rules_are_refused(keys: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    arrays = {"boxes": np.zeros((1, 2, 4), np.float32), "scores": np.zeros((1, 2, 80), np.float32)}
    path = save_network(tmp_path / "net.onnx", arrays)
    describe = tmp_path / "net.yaml"
    describe.write_text(
        "input: {height: 64, width: 96}\ndetection: {kind: boxes_scores, corners: xyxy, classes: coco80}"
    )
    content = {"kind": "onnx", "path": str(path), "describe": str(describe), "joined": [RULE | keys]}
    with pytest.raises(RecipeError, match=sentence):
        Ensemble.open([OnnxTeacher.checked(content)], FusionSettings(), CAMVID)
