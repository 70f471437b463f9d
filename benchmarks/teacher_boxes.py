#!/usr/bin/env python3
"""Score the boxes of an ONNX teacher on labelled frames, in several ways of looking, and print a table.

FRAMES holds images/, and labels/ of KITTI or masks/ of the student's classes of masks. KITTI's rules count: AP50 over
all points of the curve; vans, trucks and trams are cars, sitting persons are pedestrians. DontCare regions and objects
lower than 25 pixels count neither as hits nor as misses, and detections that lie in them by half do not count. Objects
of masks are their connected regions: persons side by side are one object there, so these figures are only good for
comparisons.

Ways of looking are keys of a teacher, with `fusion` beside them, by names in a YAML file. A view that several of them
have is looked at once. With --thresholds, a second table shows precision and recall of the last way of the file by
score, from which box_sure and box_unsure can be chosen. One core takes two minutes for 67 frames in ten views.

Usage: python benchmarks/teacher_boxes.py MODEL.onnx FRAMES [--ways FILE.yaml] [--describe FILE.yaml]
       [--label-set NAME] [--thresholds] [--device DEVICE]
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from device_option import add_device_option
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.model.onnx_file import ModelFileError
from training.config.loading import load_settings
from training.config.settings import Settings
from training.data.image_files import read_image
from training.data.region_boxes import boxes_from_regions
from training.errors import DataError, RecipeError
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.teachers.ensemble import Ensemble
from training.teachers.labeling import FrameLabeler
from training.teachers.onnx_file import OnnxTeacher
from training.teachers.onnx_network import OnnxNetwork
from training.teachers.seen import Seen
from training.teachers.settings import FusionSettings, JoinRule, ViewSettings
from training.teachers.views import views_of

ROOT = Path(__file__).resolve().parents[1]
CLASS_OF_KITTI = {"Car": "car", "Van": "car", "Truck": "car", "Tram": "car"}
CLASS_OF_KITTI |= {"Pedestrian": "pedestrian", "Person_sitting": "pedestrian", "Cyclist": "bicyclist"}
HEIGHT_MIN_PX = 25
SCORE_MIN = 0.01
THRESHOLDS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
Boxes = NDArray[np.float32]
Row = tuple[str, list[float]]
Scored = list[tuple[Boxes, Boxes, Boxes, Boxes]]  # boxes with scores, true boxes and ignored regions of each frame


class Way(Settings):
    """A way of looking."""

    views: ViewSettings = ViewSettings()
    """See `TeacherSettings`."""
    joined: tuple[JoinRule, ...] = ()
    """See `TeacherSettings`."""
    fusion: FusionSettings = FusionSettings()
    """How boxes of several views become one."""


class Ways(Settings):
    """The ways of looking, by their names."""

    ways: dict[str, Way]
    """The ways."""


class RememberedNetwork:
    """A network that looks at each view of a frame once, however many ways of looking have it."""

    def __init__(self, network: OnnxNetwork) -> None:
        self.label_set, self.sha256 = network.label_set, network.sha256
        self._network = network
        self._seen: dict[tuple[torch.Size, bytes], Seen] = {}

    def __call__(self, images: Tensor) -> Seen:
        key = (images.shape, hashlib.sha256(images.numpy().tobytes()).digest())
        if key not in self._seen:
            self._seen[key] = self._network(images)
        return self._seen[key]

    def forget(self) -> None:
        self._seen.clear()


@functools.cache
def remembered(path: Path, describe: Path, device: str) -> RememberedNetwork:
    return RememberedNetwork(OnnxTeacher(kind="onnx", path=path, describe=describe, device=device).open())


class RememberedTeacher(OnnxTeacher):
    """An ONNX teacher that several ways of looking have in common."""

    def open(self) -> RememberedNetwork:  # type: ignore[override]
        return remembered(self.path, self.describe, self.device)


@dataclass(frozen=True)
class Frames:
    """Frames with the true boxes of their classes."""

    folder: Path
    student: LabelSet

    def paths(self) -> list[Path]:
        return sorted((self.folder / "images").iterdir())

    def truth(self, path: Path, name: str, shape: tuple[int, ...]) -> tuple[Boxes, Boxes]:
        """Return the boxes that count for a class and the ignored regions."""
        if (self.folder / "labels").is_dir():
            return truth_of(read_rows(self.folder / "labels" / f"{path.stem}.txt"), name, shape)
        mask = cv2.imread(str(self.folder / "masks" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        if mask is None:
            raise DataError(f"{path}: expected a text file in labels/ or a PNG in masks/, there is neither")
        regions = boxes_from_regions(mask, self.student.region_ids)
        (number,) = (info.id for info in self.student.detection if info.name == name)
        boxes = regions.boxes_xyxy[regions.ids == number]
        high = boxes[:, 3] - boxes[:, 1] >= HEIGHT_MIN_PX
        return boxes[high], boxes[~high]


def main() -> int:
    """Parse the command line, look at all frames, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--ways", type=Path, default=Path(__file__).with_suffix(".yaml"), help="ways of looking")
    parser.add_argument("--describe", type=Path, default=ROOT / "training" / "teachers" / "yolox_coco.yaml")
    parser.add_argument("--label-set", default="camvid11", help="classes that are scored (camvid11)")
    parser.add_argument("--every", type=int, default=1, help="look at every n-th frame (1)")
    parser.add_argument("--thresholds", action="store_true", help="show precision and recall of the last way by score")
    add_device_option(parser, "cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        ways = load_settings(options.ways, Ways).ways
        frames = Frames(options.frames, load_label_set(options.label_set))
        scored = look(options, ways, frames)
    except (DataError, ModelFileError, OSError, RecipeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_precisions(ways, scored, frames)
    if options.thresholds:
        print_thresholds(scored[list(ways)[-1]])
    return 0


def look(options: argparse.Namespace, ways: dict[str, Way], frames: Frames) -> dict[str, dict[str, Scored]]:
    """Return what was found and what is there: for each way, by class, one entry a frame."""
    network = remembered(options.model, options.describe, options.device)
    labelers = {name: labeler_of(options, way, frames.student) for name, way in ways.items()}
    names = [info.name for info in frames.student.detection_classes]
    scored: dict[str, dict[str, Scored]] = {way: {name: [] for name in names} for way in ways}
    for path in tqdm(frames.paths()[:: options.every], disable=None, leave=False):
        image = read_image(path)
        truth = {name: frames.truth(path, name, image.shape) for name in names}
        for way, labeler in labelers.items():
            found = labeler.label_frame(image)
            for number, name in enumerate(names):
                if found.labeled_boxes[number]:
                    chosen = found.labels == number
                    scored[way][name].append((found.boxes_xyxy[chosen], found.scores[chosen], *truth[name]))
        network.forget()
    return scored


def labeler_of(options: argparse.Namespace, way: Way, student: LabelSet) -> FrameLabeler:
    settings = RememberedTeacher(
        kind="onnx",
        path=options.model,
        describe=options.describe,
        device=options.device,
        views=way.views,
        joined=way.joined,
        box_sure=SCORE_MIN,
        box_unsure=SCORE_MIN,
        images_at_once=1,
    )
    return FrameLabeler(Ensemble.open([settings], way.fusion, student, "teacher"))


def print_precisions(ways: dict[str, Way], scored: dict[str, dict[str, Scored]], frames: Frames) -> None:
    """Print the AP50 of each way and class; a class without true boxes is left out."""
    names = [
        name for name in next(iter(scored.values())) if any(average_precision(s[name])[1] for s in scored.values())
    ]
    height, width = read_image(frames.paths()[0]).shape[:2]
    print(f"| views | {' | '.join(names)} | runs a frame |\n|---|{'---|' * (len(names) + 1)}")
    for way, settings in ways.items():
        figures = [f"{100 * average_precision(scored[way][name])[0]:.1f}" for name in names]
        print(f"| {way} | {' | '.join(figures)} | {len(views_of(settings.views, height, width))} |")
    counts = (f"{max(average_precision(s[name])[1] for s in scored.values())} {name}" for name in names)
    print(f"\nBoxes that count: {', '.join(counts)}.")


def print_thresholds(by_class: dict[str, Scored]) -> None:
    """Print for some scores how many of the boxes with at least this score are right, and how many objects they are."""
    names = [name for name, frames in by_class.items() if average_precision(frames)[1]]
    print(
        f"\n| score from | {' | '.join(f'{name}: precision, recall' for name in names)} |\n|---|{'---|' * len(names)}"
    )
    for threshold in THRESHOLDS:
        cells = []
        for name in names:
            right = [hit for frame in by_class[name] for score, hit in hits_of(*frame) if score >= threshold]
            precision = 100 * sum(right) / len(right) if right else float("nan")
            cells.append(f"{precision:.0f}, {100 * sum(right) / average_precision(by_class[name])[1]:.0f}")
        print(f"| {threshold} | {' | '.join(cells)} |")


def read_rows(path: Path) -> list[Row]:
    """Return class and box xyxy of each line of a KITTI label file."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return [(words[0], [float(word) for word in words[4:8]]) for words in lines if words]


def truth_of(rows: list[Row], name: str, shape: tuple[int, ...]) -> tuple[Boxes, Boxes]:
    """Return the boxes that count for a class and the ignored regions, clipped to the image."""
    own = [box for kind, box in rows if CLASS_OF_KITTI.get(kind) == name]
    counted = [box for box in own if box[3] - box[1] >= HEIGHT_MIN_PX]
    ignored = [box for kind, box in rows if kind == "DontCare"] + [box for box in own if box not in counted]
    limit = [shape[1], shape[0], shape[1], shape[0]]
    clipped = [np.clip(np.array(boxes, np.float32).reshape(-1, 4), 0, limit) for boxes in (counted, ignored)]
    return clipped[0].astype(np.float32), clipped[1].astype(np.float32)


def average_precision(frames: Scored) -> tuple[float, int]:
    """Return the area below precision over recall at IoU 0.5, and the number of true boxes.

    Args:
        frames: Boxes with scores, true boxes and ignored regions of each frame.
    """
    total = sum(len(truth) for _, _, truth, _ in frames)
    hits = [hit for frame in frames for hit in hits_of(*frame)]
    if not hits or not total:
        return 0.0, total
    hits.sort(key=lambda hit: -hit[0])
    found = np.cumsum([hit for _, hit in hits])
    precision, recall = found / np.arange(1, len(found) + 1), found / total
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum()), total


def hits_of(boxes: Boxes, scores: Boxes, truth: Boxes, ignored: Boxes) -> list[tuple[float, bool]]:
    """Return score and success of the boxes of a frame; those in ignored regions are left out."""
    overlap = iou_xyxy(boxes, truth)
    near = np.maximum(boxes[:, None, :2], ignored[None, :, :2])
    far = np.minimum(boxes[:, None, 2:], ignored[None, :, 2:])
    inside = (far - near).clip(min=0).prod(axis=2) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)[
        :, None
    ]
    hits = []
    for index in np.argsort(-scores, kind="stable"):
        best = int(overlap[index].argmax()) if len(truth) else 0
        if len(truth) and overlap[index, best] >= 0.5:
            overlap[:, best] = 0
            hits.append((float(scores[index]), True))
        elif not (inside[index] >= 0.5).any():
            hits.append((float(scores[index]), False))
    return hits


if __name__ == "__main__":
    sys.exit(main())
