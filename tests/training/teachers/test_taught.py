"""Words of teachers in the classes of a student: what counts, what is ignored, and how several are fused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_teachers import SaidBefore
from torch import Tensor

from training.errors import RecipeError
from training.label_sets.label_set import LabelSet
from training.label_sets.mapping import LabelMapping
from training.recipe import parse_recipe
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.ensemble import Ensemble, Member
from training.teachers.labeling import FrameLabeler
from training.teachers.seen import Boxes, Seen
from training.teachers.settings import FusionSettings, TeacherSettings
from training.teachers.taught import Taught, Voice

STUDENT = LabelSet.checked(
    {
        "name": "student",
        "segmentation": [{"id": n, "name": name} for n, name in enumerate(("road", "vehicle", "person"))],
        "detection": [{"id": n, "name": name} for n, name in enumerate(("vehicle", "person"))],
    }
)
OWN = LabelSet.checked(
    {
        "name": "own",
        "segmentation": [{"id": 10 * n, "name": name} for n, name in enumerate(("road", "car", "bus", "cow"))],
        "detection": [{"id": n, "name": name} for n, name in ((3, "car"), (5, "bus"), (9, "cow"), (11, "kite"))],
        "mappings": {
            "student": {
                "segmentation": {"car": "vehicle", "bus": "vehicle", "cow": "ignore"},
                "detection": {"car": "vehicle", "bus": "vehicle", "cow": "ignore", "kite": "background"},
            }
        },
    }
)
WALKERS = LabelSet.checked(
    {
        "name": "walkers",
        "segmentation": [{"id": 0, "name": "person"}, {"id": 1, "name": "road"}],
        "detection": [{"id": 0, "name": "person"}],
    }
)


def teacher_settings(**keys: Any) -> TeacherSettings:
    return CheckpointTeacher.checked({"kind": "checkpoint", "path": "x", **keys})


def member(label_set: LabelSet, said: Seen, **keys: Any) -> Member:
    settings = teacher_settings(**keys)
    voice = Voice.of(settings, LabelMapping.between(label_set, STUDENT, settings.map))
    return Member("teachers.0", SaidBefore(label_set, said), voice)


def ensemble(*members: Member, fusion: FusionSettings | None = None) -> Ensemble:
    return Ensemble(members, fusion or FusionSettings(), STUDENT)


def pixels(*rows: tuple[float, ...]) -> Seen:
    """Return probabilities of one row of cells, one tuple a cell."""
    return Seen(torch.tensor(rows).T[None, :, None, :], None)


def boxes(*rows: tuple[list[float], int, float]) -> Seen:
    xyxy, ids, scores = zip(*rows, strict=True)
    return Seen(None, [Boxes.of(torch.tensor(xyxy), torch.tensor(ids), torch.tensor(scores))])


def images(cells: int, rows: int = 1) -> Tensor:
    return torch.zeros(1, 3, 4 * rows, 4 * cells, dtype=torch.uint8)


def probabilities(taught: Taught) -> list[list[float]]:
    assert taught.pixels is not None
    known = taught.pixels.known
    shares = taught.pixels.logits[:, known].softmax(dim=1)
    return [[round(value, 4) for value in cell] for cell in shares[0, :, 0].T.tolist()]


def test_probabilities_are_added_up_by_name_and_unsure_or_foreign_pixels_do_not_count() -> None:
    said = pixels((0.1, 0.5, 0.4, 0.0), (0.3, 0.1, 0.1, 0.5), (0.6, 0.2, 0.1, 0.1), (0.45, 0.2, 0.2, 0.15))
    taught = ensemble(member(OWN, said))(images(4))

    assert taught.pixels is not None
    assert taught.pixels.known.tolist() == [True, True, False]  # it never sees a person
    # the second is a cow, of which the student knows nothing; in the last no class reaches 0.5
    assert taught.pixels.counts[0, 0].tolist() == [True, False, True, False]
    found = probabilities(taught)
    assert found[0] == pytest.approx([0.1, 0.9], abs=1e-3)
    assert found[2] == pytest.approx([0.6 / 0.9, 0.3 / 0.9], abs=1e-3)
    assert taught.boxes is None


def test_what_a_network_does_not_report_counts_as_ignored() -> None:
    taught = ensemble(member(WALKERS, pixels((0.3, 0.1), (0.6, 0.1)), pixel_confidence_min=0))(images(2))
    assert taught.pixels is not None
    assert taught.pixels.counts[0, 0].tolist() == [False, True]


def test_several_teachers_are_averaged_over_those_that_know_a_class() -> None:
    first = member(OWN, pixels((0.8, 0.1, 0.1, 0.0), (0.7, 0.2, 0.1, 0.0)), weight=3, pixel_confidence_min=0.3)
    second = member(WALKERS, pixels((0.5, 0.5), (0.6, 0.4)), pixel_confidence_min=0.55)
    taught = ensemble(first, second)(images(2))

    assert taught.pixels is not None
    assert taught.pixels.known.tolist() == [True, True, True]
    # In the first cell the teacher of persons is unsure, and no other one knows persons.
    assert taught.pixels.counts[0, 0].tolist() == [False, True]
    road, vehicle, person = (3 * 0.7 + 0.4) / 4, 0.3, 0.6
    total = road + vehicle + person
    assert probabilities(taught)[1] == pytest.approx([road / total, vehicle / total, person / total], abs=1e-3)


def test_a_teacher_of_chosen_classes_and_tasks_says_nothing_about_others() -> None:
    said = Seen(pixels((0.7, 0.2, 0.1, 0.0)).probabilities, boxes(([0, 0, 4, 4], 3, 0.9)).boxes)
    taught = ensemble(member(OWN, said, classes=["road"]))(images(1))
    assert taught.pixels is not None
    assert taught.pixels.known.tolist() == [True, False, False]
    assert taught.boxes is None


def test_two_thresholds_sort_boxes_out() -> None:
    said = boxes(
        ([0, 0, 10, 10], 3, 0.9),
        ([20, 0, 30, 10], 5, 0.3),
        ([40, 0, 50, 10], 3, 0.1),
        ([60, 0, 70, 10], 9, 0.9),
        ([80, 0, 90, 10], 11, 0.9),
        ([1, 0, 10, 10], 5, 0.4),
    )
    taught = ensemble(member(OWN, said, box_sure=0.6, box_unsure=0.2))(images(30, 5))

    assert taught.boxes is not None
    (objects,), (ignored,) = taught.boxes.objects, taught.boxes.ignored
    assert objects.xyxy.tolist() == [[0, 0, 10, 10]]
    assert objects.ids.tolist() == [0]
    # An unsure bus, and a cow; not the doubtful bus that overlaps the sure car, nor the kite, which is background.
    assert sorted(zip(ignored.xyxy[:, 0].tolist(), ignored.ids.tolist(), strict=True)) == [(20, 0), (60, -1)]
    assert taught.boxes.known.tolist() == [True, False]


def test_a_class_may_have_a_threshold_of_its_own() -> None:
    said = boxes(([0, 0, 10, 10], 3, 0.55), ([20, 0, 30, 10], 3, 0.7))
    taught = ensemble(member(OWN, said, box_sure=0.5, box_sure_by_class={"vehicle": 0.6}))(images(30, 5))
    assert taught.boxes is not None
    (objects,), (ignored,) = taught.boxes.objects, taught.boxes.ignored
    assert (objects.xyxy[:, 0].tolist(), ignored.xyxy[:, 0].tolist()) == ([20], [0])


@pytest.mark.parametrize(
    ("how", "expected", "score"), [("nms", [0.0, 0.0, 10.0, 10.0], 0.9), ("weighted", None, (0.9 + 3 * 0.7) / 4)]
)
def test_boxes_of_two_teachers_become_one(how: str, expected: list[float] | None, score: float) -> None:
    first = member(WALKERS, boxes(([0, 0, 10, 10], 0, 0.9), ([50, 0, 60, 10], 0, 0.8)))
    second = member(WALKERS, boxes(([0, 0, 12, 10], 0, 0.7)), weight=3)
    taught = ensemble(first, second, fusion=FusionSettings.checked({"boxes": how}))(images(30, 5))

    assert taught.boxes is not None
    (objects,) = taught.boxes.objects
    expected = expected or [0, 0, (0.9 * 10 + 3 * 0.7 * 12) / (0.9 + 3 * 0.7), 10]
    order = objects.xyxy[:, 0].argsort()
    torch.testing.assert_close(objects.xyxy[order], torch.tensor([expected, [50, 0, 60, 10]]))
    torch.testing.assert_close(objects.scores[order], torch.tensor([score, 0.8]))


def test_labels_of_a_frame_have_its_size_and_255_where_no_teacher_is_sure() -> None:
    said = Seen(
        torch.tensor(
            [[[[0.9, 0.1], [0.0, 0.3]], [[0.1, 0.9], [0.1, 0.3]], [[0.0, 0.0]] * 2, [[0.0, 0.0], [0.9, 0.4]]]]
        ),
        boxes(([0, 0, 8, 8], 3, 0.9), ([8, 0, 16, 8], 3, 0.3)).boxes,
    )
    frame = images(4, 2)[0].permute(1, 2, 0).numpy()
    found = FrameLabeler(ensemble(member(OWN, said))).label_frame(frame)

    assert found.mask is not None
    assert found.confidence is not None
    assert found.mask.shape == found.confidence.shape == frame.shape[:2] == (8, 16)
    assert set(found.mask[:4, :6].flatten().tolist()) == {0}
    assert set(found.mask[:4, 10:].flatten().tolist()) == {1}
    assert set(found.mask[4:].flatten().tolist()) == {255}
    assert found.labeled_pixels.tolist() == [True, True, False]
    assert (found.boxes_xyxy.tolist(), found.labels.tolist()) == ([[0, 0, 8, 8]], [0])
    assert (found.ignored_xyxy.tolist(), found.ignored_labels.tolist()) == ([[8, 0, 16, 8]], [0])
    assert found.labeled_boxes.tolist() == [True, False]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"classes": ["lorry"]}, r"teachers.0.classes: expected classes of the student's label set student, got lorry"),
        ({"box_sure_by_class": {"lorry": 0.6}}, r"teachers.0.box_sure_by_class: expected classes of the .* got lorry"),
        ({"box_sure_by_class": {"person": 0.1}}, r"box_sure_by_class of person is below box_unsure 0.2; raise it"),
        ({"box_sure": 0.2, "box_unsure": 0.5}, r"box_unsure 0.5 is above box_sure 0.2"),
        ({"views": {"whole": False}}, r"views show nothing"),
        ({"path": "none.ckpt"}, r"teachers.0: none.ckpt: expected a checkpoint, there is no such file"),
    ],
)
def test_wrong_settings_are_refused(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        Ensemble.open([teacher_settings(**keys)], FusionSettings(), STUDENT)
    assert isinstance(caught.value, RecipeError) or "checkpoint" in sentence


def test_a_recipe_may_write_all_classes_and_names_each_teacher_once() -> None:
    terms = "terms: [{kind: temperature_kl}]"
    text = "name: x\ndata: {train: [{kind: rendered, folder: x}]}\ndistillation: "
    listed = f"{{teachers: [{{kind: checkpoint, path: a.ckpt, classes: all, box_sure: 0.6}}], {terms}}}"
    recipe = parse_recipe(text + listed)
    assert recipe.distillation is not None
    assert recipe.distillation.teachers[0].classes == ()
    assert recipe.distillation.checkpoints == ("a.ckpt",)
    assert parse_recipe(recipe.to_yaml()) == recipe
    with pytest.raises(RecipeError, match="distillation has teacher and teachers; move the checkpoint into the list"):
        parse_recipe(text + f"{{teacher: b.ckpt, {listed[1:]}")
