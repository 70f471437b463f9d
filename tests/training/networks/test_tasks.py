"""Students for one task: what they do not have, and what every reader of their outputs makes of it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from training.data.batch import Batch
from training.distillation.cache import from_arrays, to_arrays
from training.distillation.detection_losses import ForegroundImitation, SoftClassification
from training.distillation.feature_losses import ChannelWise, Hint
from training.distillation.logit_losses import TemperatureKl
from training.distillation.loss import channels_of
from training.distillation.relation_losses import DistanceRelation
from training.distillation.teacher import Teachers, check_teachers
from training.errors import RecipeError
from training.label_sets.label_set import LabelSet, NameTable
from training.label_sets.mapping import LabelMapping
from training.losses import SupervisedLoss
from training.networks.auto_backbone import TransformersBackbone
from training.networks.class_transfer import with_classes
from training.networks.deployed import DeployedStudent
from training.networks.growth import grow
from training.networks.student import Student, StudentOutputs, build_student
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.ensemble import Ensemble, Member
from training.teachers.own_network import OwnNetwork
from training.teachers.settings import FusionSettings
from training.teachers.taught import Voice

HEIGHT, WIDTH = 64, 96
SEGMENTS, DETECTS, BOTH = (5, 0), (0, 3), (5, 3)
KINDS = ("mask", "box")
CLASSES = {"segmentation": SEGMENTS, "detection": DETECTS}


def student_for(classes: tuple[int, int], size: str = "n") -> Student:
    torch.manual_seed(0)
    return build_student(size, *classes)


def tensors_of(outputs: StudentOutputs) -> list[Tensor]:
    found = [] if outputs.segmentation_logits is None else [outputs.segmentation_logits]
    for branch in (outputs.detection, outputs.detection_one_to_many):
        if branch is not None:
            found += [*branch.class_logits, *branch.distance_logits]
    return found


def untrained(student: Student) -> list[str]:
    """Return the parameters that are to be trained and get no gradient."""
    outputs = student.train()(torch.rand(2, 3, HEIGHT, WIDTH))
    torch.stack([values.square().mean() for values in tensors_of(outputs)]).sum().backward()
    return [
        name for name, parameter in student.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]


@pytest.mark.parametrize("task", CLASSES)
def test_a_student_for_one_task_has_no_parts_of_the_other(task: str) -> None:
    student, whole = student_for(CLASSES[task]), student_for(BOTH)
    assert student.tasks == (task,)
    assert whole.tasks == ("segmentation", "detection")
    other = "detection" if task == "segmentation" else "segmentation"
    assert not [name for name in student.state_dict() if name.startswith(other)]
    assert not untrained(student)
    assert not untrained(whole)
    outputs = student.eval()(torch.rand(1, 3, HEIGHT, WIDTH))
    assert outputs.tasks == (task,)
    assert (outputs.segmentation_logits is None, outputs.features.segmentation is None) == (
        other == "segmentation",
    ) * 2
    assert (outputs.detection is None) == (other == "detection")
    assert [level.shape[2] for level in (outputs.features.p3, outputs.features.p4, outputs.features.p5)] == [8, 4, 2]


def test_a_norm_that_only_the_finest_feature_has_is_not_trained_without_segmentation() -> None:
    from transformers import SwinConfig

    config = SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4)
    student = build_student("n", *DETECTS, TransformersBackbone(config))
    assert not untrained(student)
    assert [name for name, parameter in student.backbone.named_parameters() if not parameter.requires_grad]


def test_a_student_without_any_class_is_refused() -> None:
    with pytest.raises(ValueError, match="needs segmentation classes or detection classes"):
        build_student("n", 0, 0)


@pytest.mark.parametrize(
    ("task", "names"),
    [("segmentation", ("class_map", "uncertainty")), ("detection", ("boxes", "scores", "labels"))],
)
def test_the_deployed_form_returns_the_outputs_of_the_task(task: str, names: tuple[str, ...]) -> None:
    deployed = DeployedStudent(student_for(CLASSES[task]).eval(), HEIGHT, WIDTH, 20)
    assert deployed.output_names == names
    assert len(deployed(torch.zeros(2, HEIGHT, WIDTH, 3, dtype=torch.uint8))) == len(names)


def test_a_small_input_limits_only_students_that_detect() -> None:
    with pytest.raises(ValueError, match="lower the number of detections"):
        DeployedStudent(student_for(DETECTS), 32, 64, 100)
    DeployedStudent(student_for(SEGMENTS), 32, 64, 100)


@pytest.mark.parametrize("task", CLASSES)
def test_only_the_task_has_terms_of_the_loss(task: str) -> None:
    images = torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    terms = SupervisedLoss()(student_for(CLASSES[task]).train()(images.float()), Batch.of_images(images))
    expected = {
        "segmentation": {"segmentation", "segmentation_region"},
        "detection": {"detection_class", "detection_box", "one_to_many_class", "one_to_many_box"},
    }
    assert terms.keys() == expected[task]


@pytest.mark.parametrize("classes", [SEGMENTS, DETECTS, BOTH])
def test_kept_features_and_branches_of_any_student_come_back(classes: tuple[int, int]) -> None:
    with torch.no_grad():
        outputs = replace(student_for(classes).train()(torch.rand(2, 3, HEIGHT, WIDTH)), segmentation_logits=None)
    again = from_arrays(to_arrays(outputs), torch.device("cpu"))
    assert again.tasks == outputs.tasks
    assert channels_of(again) == channels_of(outputs)
    for one, other in zip(tensors_of(outputs), tensors_of(again), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def teachers_for(student: tuple[int, int], teacher: tuple[int, int]) -> Teachers:
    """Return a network of ours as the teacher of a student; classes have the same names."""
    ours, theirs = (classes_for(name, counts) for name, counts in (("student", student), ("teacher", teacher)))
    table = NameTable(
        segmentation={f"mask {n}": "ignore" for n in range(student[0], teacher[0])},
        detection={f"box {n}": "ignore" for n in range(student[1], teacher[1])},
    )
    mapping = LabelMapping.between(theirs, ours, table if ours.tasks == theirs.tasks else None)
    settings = CheckpointTeacher.checked({"kind": "checkpoint", "path": "teacher.ckpt", "pixel_confidence_min": 0.0})
    network = OwnNetwork(student_for(teacher), theirs)
    return Teachers(Ensemble([Member("teacher", network, Voice.of(settings, mapping))], FusionSettings(), ours))


def classes_for(name: str, counts: tuple[int, int]) -> LabelSet:
    masks, boxes = ([{"id": n, "name": f"{kind} {n}"} for n in range(counts[k])] for k, kind in enumerate(KINDS))
    return LabelSet.checked({"name": name, "segmentation": masks, "detection": boxes})


def test_a_teacher_may_have_more_tasks() -> None:
    ours, theirs = check_teachers(student_for(SEGMENTS), teachers_for(SEGMENTS, BOTH), [Hint(at="p4")], HEIGHT, WIDTH)
    assert theirs is not None
    assert (ours.tasks, theirs.tasks) == (("segmentation",), ("segmentation", "detection"))


@pytest.mark.parametrize(
    ("term", "student", "teacher", "words"),
    [
        (TemperatureKl(), DETECTS, BOTH, "student with the task segmentation for temperature_kl"),
        (Hint(at="segmentation"), BOTH, DETECTS, "teacher with the task segmentation for hint"),
        (ChannelWise(at="logits"), DETECTS, BOTH, "student with the task segmentation for channel_wise"),
        (SoftClassification(), BOTH, SEGMENTS, "teacher with the task detection for soft_classification"),
        (SoftClassification(), SEGMENTS, BOTH, "student with the task detection for soft_classification"),
        (ForegroundImitation(at="p3"), SEGMENTS, SEGMENTS, "teacher with the task detection for foreground_imitation"),
        (ForegroundImitation(at="p3"), SEGMENTS, BOTH, ""),
        (Hint(at="p4"), SEGMENTS, DETECTS, ""),
        (DistanceRelation(at="p5"), DETECTS, SEGMENTS, ""),
    ],
)
def test_a_term_of_an_absent_task_is_refused(
    term: Hint, student: tuple[int, int], teacher: tuple[int, int], words: str
) -> None:
    arguments = (student_for(student), teachers_for(student, teacher), [term], HEIGHT, WIDTH)
    if not words:
        check_teachers(*arguments)
        return
    with pytest.raises(RecipeError, match=words) as error:
        check_teachers(*arguments)
    assert "leave the term out" in str(error.value)


@pytest.mark.parametrize("task", CLASSES)
def test_a_student_for_one_task_grows(task: str) -> None:
    small, large = student_for(CLASSES[task]).eval(), student_for(CLASSES[task], "s").eval()
    grow(small, large)
    images = torch.rand(1, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        for one, other in zip(tensors_of(small(images)), tensors_of(large(images)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="for the same tasks"):
        grow(small, student_for(BOTH, "s"))


@pytest.mark.parametrize(("given", "added"), [((5, 0), "detection"), ((0, 3), "segmentation")])
def test_a_student_for_both_tasks_starts_from_weights_for_one(given: tuple[int, int], added: str) -> None:
    torch.manual_seed(0)
    weights, like = student_for(given).eval(), student_for((5, 3)).eval()
    fresh = copy.deepcopy(like)
    names = (["a", "b", "c", "d", "e"][: given[0]], ["f", "g", "h"][: given[1]])
    like.load_state_dict(with_classes(weights, names, like, (["a", "b", "c", "d", "e"], ["f", "g", "h"])).state_dict())
    images = torch.rand(1, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        before, after = weights(images), like(images)
    if added == "detection":
        torch.testing.assert_close(after.segmentation_logits, before.segmentation_logits)
    else:
        for one, other in zip(after.detection.class_logits, before.detection.class_logits, strict=True):
            torch.testing.assert_close(one, other)
    part, untrained = getattr(like, added).state_dict(), getattr(fresh, added).state_dict()
    for name, value in part.items():
        assert torch.equal(value, untrained[name]) or "classifier" in name or "class_layers" in name, name


def test_a_student_for_one_task_starts_from_weights_for_both() -> None:
    weights, like = student_for(BOTH), student_for((4, 0))
    masks, fewer = ["a", "b", "c", "d", "e"], ["e", "b", "x", "a"]
    started = with_classes(weights, (masks, ["f", "g", "h"]), like, (fewer, []))
    like.load_state_dict(started.state_dict())
    assert like.segmentation is not None
    assert weights.segmentation is not None
    assert torch.equal(like.segmentation.classifier.weight[0], weights.segmentation.classifier.weight[4])
    assert torch.equal(like.neck.outputs[0].weight, weights.neck.outputs[0].weight)
