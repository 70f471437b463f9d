#!/usr/bin/env python3
"""Score the boxes of an ONNX teacher on frames with KITTI's labels: whole images alone, and tiles beside them.

The rules are KITTI's, for AP50 over all points of the curve: vans, trucks and trams are cars, sitting persons are
pedestrians. DontCare regions and objects lower than 25 pixels count neither as hits nor as misses, and detections that
lie in them by half do not count. Two runs of a network of 416x416 on 67 frames take a minute on two cores.

Usage: python benchmarks/teacher_boxes.py MODEL.onnx FRAMES [--describe FILE.yaml] [--label-set NAME] [--rows N]
       [--columns N] [--overlap SHARE] [--device DEVICE]     FRAMES holds images/ and labels/.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from device_option import add_device_option
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.model.onnx_file import ModelFileError
from training.data.image_files import read_image
from training.errors import DataError, RecipeError
from training.label_sets.loading import load_label_set
from training.teachers.ensemble import Ensemble
from training.teachers.labeling import FrameLabeler
from training.teachers.onnx_file import OnnxTeacher
from training.teachers.settings import FusionSettings

CLASS_OF_KITTI = {"Car": "car", "Van": "car", "Truck": "car", "Tram": "car"}
CLASS_OF_KITTI |= {"Pedestrian": "pedestrian", "Person_sitting": "pedestrian", "Cyclist": "bicyclist"}
HEIGHT_MIN_PX = 25
SCORE_MIN = 0.01
Boxes = NDArray[np.float32]
Row = tuple[str, list[float]]


def main() -> int:
    """Parse the command line, look at all frames, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--describe", type=Path, default=Path(__file__).with_name("yolox_coco.yaml"))
    parser.add_argument("--label-set", default="camvid11", help="classes that are scored (camvid11)")
    parser.add_argument("--rows", type=int, default=1, help="rows of tiles (1)")
    parser.add_argument("--columns", type=int, default=3, help="tiles in a row (3)")
    parser.add_argument("--overlap", type=float, default=0.25, help="share of a tile that the next one has, too (0.25)")
    add_device_option(parser, "cpu")
    options = parser.parse_args()
    tiles = {"rows": options.rows, "columns": options.columns, "overlap": options.overlap}
    try:
        for what, views in (("whole image", {}), (f"whole image and {options.rows}x{options.columns} tiles", tiles)):
            print(f"{what}: {measure(options, views)}")
    except (DataError, ModelFileError, OSError, RecipeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def measure(options: argparse.Namespace, views: dict[str, Any]) -> str:
    """Return the AP50 of each class that the teacher knows, as text."""
    student = load_label_set(options.label_set)
    settings = OnnxTeacher.checked(
        {
            "kind": "onnx",
            "path": str(options.model),
            "describe": str(options.describe),
            "device": options.device,
            "views": views,
            "box_sure": SCORE_MIN,
            "box_unsure": SCORE_MIN,
        }
    )
    labeler = FrameLabeler(Ensemble.open([settings], FusionSettings(), student, "teacher"))
    names = [info.name for info in student.detection_classes]
    known = np.zeros(len(names), np.bool_)
    frames: dict[str, list[tuple[Boxes, Boxes, Boxes, Boxes]]] = {name: [] for name in names}
    paths = sorted((options.frames / "images").iterdir())
    start = time.perf_counter()
    for path in tqdm(paths, disable=None, leave=False):
        image = read_image(path)
        found, rows = labeler.label_frame(image), read_rows(options.frames / "labels" / f"{path.stem}.txt")
        known |= found.labeled_boxes
        for number, name in enumerate(names):
            chosen = found.labels == number
            frames[name].append((found.boxes_xyxy[chosen], found.scores[chosen], *truth_of(rows, name, image.shape)))
    each_ms = (time.perf_counter() - start) / len(paths) * 1e3
    scored = [(name, *average_precision(frames[name])) for number, name in enumerate(names) if known[number]]
    figures = ", ".join(f"{name} AP50 {100 * value:.1f} ({count} boxes)" for name, value, count in scored if count)
    return f"{figures}; {len(paths)} frames, {each_ms:.0f} ms each"


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


def average_precision(frames: list[tuple[Boxes, Boxes, Boxes, Boxes]]) -> tuple[float, int]:
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
