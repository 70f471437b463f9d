"""Ensemble: one or several teachers of a student, each for its classes and tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ros_kd_perception.model.onnx_file import ModelFileError
from training.config.licence import Licences, merged, not_stated
from training.errors import CheckpointError, RecipeError
from training.label_sets.label_set import LabelSet
from training.label_sets.mapping import LabelMapping
from training.teachers.memory import is_memory_error
from training.teachers.own_network import OwnNetwork
from training.teachers.seen import Teacher, of_tasks
from training.teachers.settings import TASKS, FusionSettings, TeacherSettings
from training.teachers.taught import Taught, TaughtPixels, Voice, fused_boxes, fused_pixels
from training.teachers.views import look


@dataclass(frozen=True)
class Member:
    """A teacher of an ensemble.

    Attributes:
        where: Its place in the recipe, for errors.
        teacher: The network.
        voice: What it counts for.
    """

    where: str
    teacher: Teacher
    voice: Voice

    @property
    def is_exact(self) -> bool:
        """Whether its own logits can teach as they are: all of the student's classes, every pixel, in one view."""
        settings, mapping = self.voice.settings, self.voice.mapping
        ours = [info.name for info in mapping.student.segmentation_classes]
        return (
            isinstance(self.teacher, OwnNetwork)
            and self.looks_at_whole_images
            and settings.views.own_size_only
            and settings.views.rows * settings.views.columns == 1
            and not settings.views.mirrored
            and [info.name for info in mapping.source.segmentation_classes] == ours
            and [mapping.segmentation[name] for name in ours] == ours
            and bool(len(self.voice.known_pixels))
            and bool(self.voice.known_pixels.all())
            and settings.pixel_confidence_min == 0
        )

    def speaks_of(self, part: str) -> bool:
        """Whether it teaches some class of `pixels` or `boxes`."""
        known = {"pixels": self.voice.known_pixels, "boxes": self.voice.known_boxes}
        return part in known and len(known[part]) > 0

    @property
    def licences(self) -> Licences:
        """The licence that the recipe states; without one, those that a network of ours notes."""
        settings = self.voice.settings
        if settings.licence:
            return settings.licence.noted
        noted = self.teacher.licences if isinstance(self.teacher, OwnNetwork) else None
        return not_stated(f"a teacher of kind {settings.kind}") if noted is None else noted

    @property
    def looks_at_whole_images(self) -> bool:
        """Whether the whole image as it is belongs to its views."""
        views = self.voice.settings.views
        return views.whole and 1.0 in views.scales and not views.megapixels

    def has_boxes_of(self, student: LabelSet) -> bool:
        """Whether its classes of boxes are the student's, in the same order."""
        ours, theirs = ([info.name for info in each.detection_classes] for each in (student, self.teacher.label_set))
        return ours == theirs


class Ensemble:
    """Teachers whose words are fused in the classes of a student.

    Attributes:
        student: Classes of the student.
        members: The teachers.
        sha256: SHA-256 of the teachers, joined by `+` in their order.
        parts: What is wanted of them: `pixels`, `boxes`, and `outputs` of a network of ours.
    """

    def __init__(self, members: Sequence[Member], fusion: FusionSettings, student: LabelSet) -> None:
        self.members = tuple(members)
        self.fusion = fusion
        self.student = student
        self.sha256 = "+".join(member.teacher.sha256 for member in members)
        self.parts = frozenset({"pixels", "boxes"})

    @classmethod
    def open(
        cls, teachers: Sequence[TeacherSettings], fusion: FusionSettings, student: LabelSet, where: str = "teachers"
    ) -> Ensemble:
        """Load all teachers and map their classes.

        Args:
            teachers: Settings of at least one teacher.
            fusion: How boxes become one.
            student: Classes of the student.
            where: Place of the list in the recipe, for errors.

        Raises:
            CheckpointError, ModelFileError, RecipeError: A teacher cannot be used, or a class of it maps to nothing.
        """
        members = []
        for number, settings in enumerate(teachers):
            place = f"{where}.{number}"
            check_classes(f"{place}.classes", settings.classes, student)
            check_classes(f"{place}.box_sure_by_class", settings.box_sure_by_class, student, ("detection",))
            try:
                teacher = settings.open()
            except (CheckpointError, ModelFileError, RecipeError) as error:
                raise type(error)(f"{place}: {error}") from error
            except Exception as error:
                if not is_memory_error(error):
                    raise
                raise RecipeError(
                    f"{place}: expected {settings.name} to fit into the memory, it does not; name a smaller network, "
                    "or use a machine with more memory"
                ) from error
            members.append(Member(place, teacher, _voice(place, settings, teacher.label_set, student)))
        return cls(members, fusion, student)

    @property
    def key(self) -> str:
        """Digest of all that the fused words depend on, beside the images."""
        return self._digest(self.members, student=self.student.model_dump(mode="json"), parts=sorted(self.parts))

    def key_of(self, part: str) -> str:
        """Return a digest of all that the fused words of a part depend on, beside the images.

        Teachers that say nothing of this part do not count.

        Args:
            part: `pixels` or `boxes`.
        """
        speaking = [member for member in self.members if member.speaks_of(part)]
        classes = {"pixels": self.student.segmentation_classes, "boxes": self.student.detection_classes}[part]
        return self._digest(
            speaking,
            classes=[(info.id, info.name) for info in classes],
            part=part,
            by_logits=part == "pixels" and self._teaches_by_logits,
        )

    def _digest(self, members: Sequence[Member], **more: object) -> str:
        parts = {
            "teachers": [member.teacher.sha256 for member in members],
            "settings": [_saying(member.voice) for member in members],
            "fusion": self.fusion.model_dump(),
            **more,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()

    @property
    def licences(self) -> Licences:
        """The licences of all teachers."""
        return merged(member.licences for member in self.members)

    @property
    def known(self) -> dict[str, list[list[bool]]]:
        """By task, whether each teacher of it teaches each class of the student, in the order of their ids."""
        pixels = [member.voice.known_pixels.tolist() for member in self.members]
        boxes = [member.voice.known_boxes.tolist() for member in self.members]
        return {"segmentation": [each for each in pixels if each], "detection": [each for each in boxes if each]}

    @property
    def own(self) -> Member | None:
        """The network of ours whose features and detection branches can teach: the first with the student's classes of
        boxes, else the first; None without one. It must look at whole images as they are.
        """
        able = [m for m in self.members if isinstance(m.teacher, OwnNetwork) and m.looks_at_whole_images]
        return next((m for m in able if m.has_boxes_of(self.student)), next(iter(able), None))

    @property
    def _teaches_by_logits(self) -> bool:
        """Whether the logits of a single network of ours teach as they are."""
        return len(self.members) == 1 and self.members[0].is_exact

    @torch.no_grad()
    def __call__(self, images: Tensor, parts: frozenset[str] | None = None) -> Taught:
        """Return what the teachers say about images. Teachers that have nothing to say of what is wanted do not look.

        Args:
            images: uint8 [N, 3, H, W], BGR.
            parts: What is wanted; None = `self.parts`.

        Raises:
            RecipeError: There is not enough memory.
        """
        wanted = self.parts if parts is None else parts
        own = self.own
        by_logits = self._teaches_by_logits and "pixels" in wanted
        looked_for = wanted | {"outputs"} if by_logits else wanted
        asked = [m for m in self.members if (m is own and "outputs" in looked_for) or any(map(m.speaks_of, wanted))]
        seen = [look(m.teacher, images, m.voice.settings, self.fusion, m.where, looked_for) for m in asked]
        voices = [member.voice for member in asked]
        own_outputs = next((said.outputs for member, said in zip(asked, seen, strict=True) if member is own), None)
        pixels = fused_pixels(voices, seen)
        if pixels is not None and by_logits and own_outputs is not None:
            assert own_outputs.segmentation_logits is not None
            pixels = TaughtPixels(own_outputs.segmentation_logits, None, pixels.known)
        boxes = fused_boxes(voices, seen, self.fusion)
        return Taught(pixels, boxes, own_outputs if "outputs" in wanted else None)


def check_classes(where: str, named: Iterable[str], student: LabelSet, tasks: Sequence[str] = TASKS) -> None:
    """Refuse names of classes that the student does not have for any of the tasks.

    Raises:
        RecipeError: The student has no such class.
    """
    names = {info.name for task in tasks for info in student.by_task[task]}
    strange = sorted(set(named) - names)
    if strange:
        raise RecipeError(
            f"{where}: expected classes of the student's label set {student.name}, got {', '.join(strange)}; "
            f"it has {', '.join(sorted(names))}"
        )


def _voice(where: str, settings: TeacherSettings, own: LabelSet, student: LabelSet) -> Voice:
    """Map the classes of the tasks that a teacher is asked for.

    Raises:
        RecipeError: A class maps to nothing, or nothing is left that it could teach.
    """
    wanted = settings.tasks or TASKS
    absent = [task for task in settings.tasks if task not in own.tasks]
    if absent:
        raise RecipeError(
            f"{where}.tasks: expected tasks of {settings.name}, which has {', '.join(own.tasks)}, got "
            f"{', '.join(absent)}; leave it out"
        )
    mapping = LabelMapping.between(of_tasks(own, wanted), student, settings.map, where)
    _check_joined(where, settings, mapping)
    voice = Voice.of(settings, mapping)
    if not len(voice.known_pixels) and not len(voice.known_boxes):
        raise RecipeError(
            f"{where}: expected a teacher of some class of the student's label set {student.name}, the classes of "
            f"{settings.name} map to none of them; extend its map, or its classes and tasks"
        )
    return voice


def _check_joined(where: str, settings: TeacherSettings, mapping: LabelMapping) -> None:
    """Refuse rules that name a class which the teacher or the student lacks.

    Raises:
        RecipeError: There is no such class.
    """
    for number, rule in enumerate(settings.joined):
        named = ((mapping.source, {*rule.upper, *rule.lower}), (mapping.student, {rule.becomes}))
        for label_set, names in named:
            known = {info.name for info in label_set.detection}
            if names - known:
                raise RecipeError(
                    f"{where}.joined.{number}: expected boxes of the label set {label_set.name}, got "
                    f"{', '.join(sorted(names - known))}; it has {', '.join(sorted(known)) or 'no boxes'}"
                )


def _saying(voice: Voice) -> dict[str, object]:
    settings = voice.settings.model_dump(mode="json", exclude={"kind", "images_at_once", "licence"})
    if not voice.settings.views.megapixels:  # what was kept before there was such a key stays valid
        del settings["views"]["megapixels"]
    return {"settings": settings, "segmentation": voice.mapping.segmentation, "detection": voice.mapping.detection}
