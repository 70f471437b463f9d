"""Reads all frames of some sources, and holds what is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.readers.frame_folder import FrameFolder
from training.data.readers.source import Source
from training.errors import DataError
from training.inspection.choice import choose_frames
from training.inspection.duplicates import Pair, SharedDrive, pairs_of, repeated_in, shared_drives
from training.inspection.facts import FrameFacts
from training.inspection.figures import Figures
from training.inspection.pictures import contract_of, draw_labels
from training.label_sets.label_set import LabelSet
from training.label_sets.mapping import LabelMapping

TRAINING = "data.train"  # how the keys of training sources begin


@dataclass(frozen=True)
class Picture:
    """A frame to look at.

    Attributes:
        name: File stem of the frame.
        reason: Why it was chosen; may be empty.
        image_bgr: uint8 (h, w, 3), small, with the labels drawn.
    """

    name: str
    reason: str
    image_bgr: NDArray[np.uint8]


@dataclass(frozen=True)
class InspectedSource:
    """What was found in one source.

    Attributes:
        keys: Keys of the recipe that name the source, for example `data.train.0`.
        settings: Settings of the source.
        mapping: From the classes of the source to those of the student.
        frames: The frames that can be read.
        problems: A sentence for each file that cannot be trained on.
        pictures: Frames to look at.
    """

    keys: tuple[str, ...]
    settings: Source
    mapping: LabelMapping
    frames: tuple[FrameFacts, ...]
    problems: tuple[str, ...]
    pictures: tuple[Picture, ...]

    @property
    def title(self) -> str:
        """Keys of the recipe, and folder."""
        return ": ".join(filter(None, (" and ".join(self.keys), str(self.settings.folder))))

    @property
    def subtitle(self) -> str:
        """Kind and label set of the source."""
        labels = f"label set {self.mapping.source.name}" if self.settings.labeled else "no labels"
        return f"kind {self.settings.kind}, {labels}"

    @property
    def in_training(self) -> bool:
        """Whether the training has these frames."""
        return any(key.startswith(TRAINING) for key in self.keys)

    @property
    def in_validation(self) -> bool:
        """Whether the validation has these frames."""
        return any(not key.startswith(TRAINING) for key in self.keys if key)

    @cached_property
    def figures(self) -> Figures:
        """Counts of frames and labels."""
        return Figures.of(self.frames, self.mapping)

    @cached_property
    def repeated(self) -> list[str]:
        """A sentence for each group of files with the same bytes."""
        return [", ".join(map(str, paths)) + " have the same bytes" for paths in repeated_in(self.frames)]


@dataclass(frozen=True)
class Inspection:
    """What was found in all sources of a recipe, or in a folder.

    Attributes:
        name: Name of the recipe or folder.
        student: Classes that the labels are shown in.
        sources: The sources, each once.
    """

    name: str
    student: LabelSet
    sources: tuple[InspectedSource, ...]

    @property
    def problems(self) -> list[str]:
        """All problems: of files, then of frames that training and validation share."""
        return [*chain.from_iterable(source.problems for source in self.sources), *self.shared_frames]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Frames of the validation that the training has, too, in another file."""
        return pairs_of(*self._sides())

    @cached_property
    def drives(self) -> list[SharedDrive]:
        """Drives with frames in the training and in the validation."""
        return shared_drives(*self._sides())

    @property
    def shared_frames(self) -> list[str]:
        """A sentence for each folder or frame that the validation shares with the training."""
        both = [source for source in self.sources if source.in_training and source.in_validation]
        files = Counter({source.settings.folder: len(source.frames) for source in both if source.frames})
        files.update(pair.validation.parent for pair in self.pairs if pair.training == pair.validation)
        others = [pair for pair in self.pairs if pair.training != pair.validation]
        return [
            *(
                f"{folder}: expected frames of the validation that the training does not have, {count} frames are in "
                "both; leave them out of one of them"
                for folder, count in files.items()
            ),
            *map(_sentence_about, others),
        ]

    @property
    def notes(self) -> list[str]:
        """Sentences about what is allowed, and worth knowing."""
        return [
            *(sentence for source in self.sources for sentence in source.repeated),
            *map(_note_about, self.drives),
            *self._unlabeled_classes(),
        ]

    def unlabeled(self, task: str) -> list[str]:
        """Return the classes of the student that no source of the training labels, in the order of their ids."""
        shown = [source for source in self.sources if source.in_training] or self.sources
        covered = [getattr(source.mapping, f"covered_{task}") for source in shown]
        classes = self.student.segmentation_classes if task == "segmentation" else self.student.detection_classes
        return [info.name for place, info in enumerate(classes) if not any(labeled[place] for labeled in covered)]

    def _unlabeled_classes(self) -> Iterator[str]:
        for task, what in (("segmentation", "masks"), ("detection", "boxes")):
            names = self.unlabeled(task)
            if names:
                yield f"no source labels these classes of {what} of {self.student.name}: {', '.join(names)}"

    def _sides(self) -> tuple[list[FrameFacts], list[FrameFacts]]:
        """Return the frames of the training, and those that only the validation has."""
        training = [frame for source in self.sources if source.in_training for frame in source.frames]
        return training, [
            frame
            for source in self.sources
            if source.in_validation and not source.in_training
            for frame in source.frames
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "student": self.student.name,
            "sources": [
                {
                    "keys": list(source.keys),
                    "kind": source.settings.kind,
                    "folder": str(source.settings.folder),
                    "label_set": source.mapping.source.name,
                    **source.figures.to_json(),
                    "problems": list(source.problems),
                }
                for source in self.sources
            ],
            "problems": self.problems,
            "notes": self.notes,
            "pairs": [
                {"training": str(pair.training), "validation": str(pair.validation), "identical": pair.identical}
                for pair in self.pairs
            ],
            "classes_without_labels": {task: self.unlabeled(task) for task in self.student.tasks},
        }


def inspect_sources(name: str, sources: Mapping[str, Source], student: LabelSet, pictures: int) -> Inspection:
    """Read all frames of all sources.

    Args:
        name: Name of the recipe or folder.
        sources: Settings by the key of the recipe. A source that stands at two keys is read once.
        student: Classes to show the labels in.
        pictures: Frames of each source to draw.

    Raises:
        RecipeError: A class of a source maps to nothing.
    """
    keys: dict[str, list[str]] = {}
    settings: dict[str, Source] = {}
    for key, source in sources.items():
        frames = repr(source.model_dump(exclude={"share", "box_weight"}))
        keys.setdefault(frames, []).append(key)
        settings[frames] = source
    found = [_inspect(tuple(keys[frames]), source, student, pictures) for frames, source in settings.items()]
    return Inspection(name, student, tuple(found))


def _inspect(keys: tuple[str, ...], settings: Source, student: LabelSet, pictures: int) -> InspectedSource:
    mapping = settings.mapping_to(student, keys[0])
    try:
        folder = settings.open(mapping)
    except DataError as error:
        return InspectedSource(keys, settings, mapping, (), tuple(str(error).splitlines()), ())
    frames, problems = _read(folder)
    inspected = InspectedSource(keys, settings, mapping, tuple(frames), tuple(problems), ())
    chosen = choose_frames(frames, inspected.figures, pictures)
    contract = contract_of(student)
    drawn = []
    for place, reason in chosen.items():
        sample = folder[frames[place].place]
        drawn.append(Picture(sample.name, reason, draw_labels(sample, contract)))
    return InspectedSource(keys, settings, mapping, tuple(frames), tuple(problems), tuple(drawn))


def _read(folder: FrameFolder) -> tuple[list[FrameFacts], list[str]]:
    """Return what is known of every frame that can be read, and a sentence about each problem."""
    places = {name: place for place, name in enumerate(folder.names)}
    frames: list[FrameFacts] = []
    folder.on_frame = lambda path, sample: frames.append(FrameFacts.of(sample, path, places[sample.name]))
    return frames, list(folder.problems())


def _sentence_about(pair: Pair) -> str:
    found = "it has the same bytes as" if pair.identical else "it shows nearly the same as"
    return (
        f"{pair.validation}: expected a frame of the validation that the training does not have, {found} "
        f"{pair.training}; leave it out of one of them"
    )


def _note_about(drive: SharedDrive) -> str:
    return (
        f"drive {drive.name} has {drive.training} frames in the training and {drive.validation} in the validation: "
        "neighbours resemble each other, so figures are better than on a new drive; leave a drive out with "
        f"exclude_drives: [{drive.name}]"
    )
