#!/usr/bin/env python3
"""Compare adopted networks with their own files, run and read here without the code that adopts.

For each family the benchmark has an ONNX file, adopts it with `python -m training adopt`, and runs `Perceiver` on real
frames. It also runs the original file: resizing, normalisation, decoding and removal of duplicates are written out
below in NumPy and OpenCV. Masks are compared at the size of the frame. Boxes are matched one to one: IoU of at least
0.95, same class, scores within 0.01. Frames on which the original file gives fewer than three boxes, or four classes,
prove little and are left out.

YOLOX-Nano and road-segmentation-adas-0001 are published files, which you download. The other networks have random
weights and are made by `foreign_families.py`.

Usage: python benchmarks/adoption_agreement.py --frames FOLDER [--yolox FILE.onnx] [--road FILE.onnx]
       [--family NAME ...] [--count N] [--json OUT.json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from device_option import add_device_option
from numpy.typing import NDArray

from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.model.onnx_runtime import onnxruntime
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Frame

ROOT = Path(__file__).resolve().parents[1]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAMES = [f"class_{number}" for number in range(8)]
COCO_CLASSES = 80
AGREEMENT_MIN = 0.995
BOXES_MIN, CLASSES_MIN = 3, 4
CANDIDATES_PER_FRAME = 20

Image = NDArray[np.uint8]
Arrays = Mapping[str, NDArray[Any]]
Boxes = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # xyxy in source pixels, scores, labels


@dataclass(frozen=True)
class Family:
    """One kind of network: how it is described, and how its own file is used.

    Attributes:
        description: What `adopt` gets.
        prepare: Makes the input of the file from a BGR frame.
        read: Returns a mask or boxes at the size of the frame, from the outputs and the frame.
    """

    description: Mapping[str, Any]
    prepare: Callable[[Image, tuple[int, int]], NDArray[Any]]
    read: Callable[[Arrays, Image, tuple[int, int]], NDArray[Any] | Boxes]


def placed_size(image: Image, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the image in a letterbox."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    return round(image.shape[0] * scale), round(image.shape[1] * scale)


def resized(image: Image, size: tuple[int, int]) -> Image:
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def letterboxed(image: Image, size: tuple[int, int]) -> Image:
    placed = placed_size(image, size)
    canvas = np.full((*size, 3), 114, np.uint8)
    canvas[: placed[0], : placed[1]] = resized(image, placed)
    return canvas


def bgr_0_255(image: Image, size: tuple[int, int]) -> NDArray[np.float32]:
    return letterboxed(image, size).astype(np.float32).transpose(2, 0, 1)[None]


def rgb_0_1(image: Image, size: tuple[int, int]) -> NDArray[np.float32]:
    return (letterboxed(image, size)[..., ::-1].astype(np.float32) / 255).transpose(2, 0, 1)[None]


def rgb_imagenet(image: Image, size: tuple[int, int]) -> NDArray[np.float32]:
    values = letterboxed(image, size)[..., ::-1].astype(np.float32) / 255
    return ((values - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32).transpose(2, 0, 1)[None]


def stretched_bgr_nhwc(image: Image, size: tuple[int, int]) -> NDArray[np.float32]:
    return resized(image, size).astype(np.float32)[None]


def mask_at_source(ids: NDArray[Any], image: Image, covered: tuple[int, int]) -> NDArray[Any]:
    """Return the mask of the covered part of the input at the size of the frame, by the nearest pixel centre."""
    rows = ((np.arange(image.shape[0]) + 0.5) * covered[0] / image.shape[0]).astype(int)
    columns = ((np.arange(image.shape[1]) + 0.5) * covered[1] / image.shape[1]).astype(int)
    return ids[rows][:, columns]


def read_logits(outputs: Arrays, image: Image, size: tuple[int, int]) -> NDArray[Any]:
    """Enlarge logits [1, C, h, w] bilinearly to the input, and take the best class."""
    (logits,) = outputs.values()
    planes = [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in logits[0]]
    return mask_at_source(np.argmax(planes, axis=0), image, placed_size(image, size))


def read_stretched_nhwc(outputs: Arrays, image: Image, size: tuple[int, int]) -> NDArray[Any]:
    (shares,) = outputs.values()
    return mask_at_source(shares[0].argmax(axis=2), image, size)


def without_duplicates(boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], iou: float) -> list[int]:
    """Return the boxes that stay, class by class, best first."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        same = [other for other in kept if labels[other] == labels[index]]
        if all(overlap(boxes[index], boxes[other]) <= iou for other in same):
            kept.append(int(index))
    return kept


def overlap(a: NDArray[Any], b: NDArray[Any]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return float(common / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common, 1e-9))


def boxes_at_source(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    labels: NDArray[Any],
    image: Image,
    size: tuple[int, int],
    iou: float | None,
) -> Boxes:
    """Choose boxes of the network input, xyxy, with a score of at least 0.3, and scale them to the frame."""
    counted = scores >= 0.3
    boxes, scores, labels = boxes[counted], scores[counted], labels[counted]
    if iou is not None:
        kept = without_duplicates(boxes, scores, labels, iou)
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    placed = placed_size(image, size)
    factors = [image.shape[1] / placed[1], image.shape[0] / placed[0]] * 2
    boxes = np.clip(boxes * factors, 0, [image.shape[1], image.shape[0]] * 2)
    area = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)
    return boxes[area], scores[area], labels[area]


def corners(center: NDArray[Any], sides: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([center - sides / 2, center + sides / 2], axis=1)


def read_yolox(outputs: Arrays, image: Image, size: tuple[int, int]) -> Boxes:
    (rows,) = (values[0] for values in outputs.values())
    grids = []
    for stride in (8, 16, 32):
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        grids.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
    grid = np.concatenate(grids)
    boxes = corners((rows[:, :2] + grid[:, :2]) * grid[:, 2:], np.exp(rows[:, 2:4]) * grid[:, 2:])
    scores = rows[:, 4:5] * rows[:, 5:]
    return boxes_at_source(boxes, scores.max(axis=1), scores.argmax(axis=1), image, size, 0.45)


def read_yolov8(outputs: Arrays, image: Image, size: tuple[int, int]) -> Boxes:
    (rows,) = (values[0].T for values in outputs.values())
    boxes = corners(rows[:, :2], rows[:, 2:4])
    return boxes_at_source(boxes, rows[:, 4:].max(axis=1), rows[:, 4:].argmax(axis=1), image, size, 0.45)


def read_detr(outputs: Arrays, image: Image, size: tuple[int, int]) -> Boxes:
    scores = 1 / (1 + np.exp(-outputs["logits"][0]))
    boxes = outputs["pred_boxes"][0] * [size[1], size[0], size[1], size[0]]
    query, label = np.divmod(np.argsort(-scores.ravel(), kind="stable")[:300], scores.shape[1])
    return boxes_at_source(corners(boxes[:, :2], boxes[:, 2:])[query], scores[query, label], label, image, size, None)


IMAGENET_INPUT = {"divide": 255.0, "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
FAMILIES = {
    "yolox": Family(
        {
            "input": {"channels": "bgr"},
            "detection": {"kind": "yolox", "classes": [f"coco_{number}" for number in range(COCO_CLASSES)]},
        },
        bgr_0_255,
        read_yolox,
    ),
    "road": Family(
        {
            "input": {"layout": "nhwc", "channels": "bgr", "resize": "stretch"},
            "segmentation": {
                "layout": "nhwc",
                "meaning": "probabilities",
                "classes": ["background", "road", "kerb", "mark"],
            },
        },
        stretched_bgr_nhwc,
        read_stretched_nhwc,
    ),
    "yolov8": Family(
        {"input": {"divide": 255.0}, "detection": {"kind": "yolov8", "classes": NAMES}}, rgb_0_1, read_yolov8
    ),
    "rt_detr": Family(
        {"input": {"divide": 255.0}, "detection": {"kind": "detr", "classes": NAMES}}, rgb_0_1, read_detr
    ),
    "segformer": Family(
        {"input": IMAGENET_INPUT, "segmentation": {"classes": NAMES, "enlarge_to_stride": 1}}, rgb_imagenet, read_logits
    ),
    "fcn": Family({"input": IMAGENET_INPUT, "segmentation": {"classes": NAMES}}, rgb_imagenet, read_logits),
    "segnet": Family({"input": IMAGENET_INPUT, "segmentation": {"classes": NAMES}}, rgb_imagenet, read_logits),
}
PUBLISHED = ("yolox", "road")


def make_file(name: str, path: Path, images: Sequence[Image]) -> None:
    """Write the ONNX file of a family with random weights."""
    import foreign_families
    import torch

    torch.manual_seed(0)
    size = foreign_families.HEIGHT, foreign_families.WIDTH
    batch = np.concatenate([FAMILIES[name].prepare(image, size) for image in images])
    getattr(foreign_families, f"save_{name}")(path, torch.from_numpy(batch))


def adopted(name: str, original: Path, folder: Path, device: str) -> Perceiver:
    """Adopt a file by the command and open the result."""
    description, model = folder / f"{name}.yaml", folder / f"{name}.adopted.onnx"
    description.write_text(yaml.safe_dump(dict(FAMILIES[name].description)))
    command = [
        sys.executable,
        "-m",
        "training",
        "adopt",
        str(original),
        "--describe",
        str(description),
        "-o",
        str(model),
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    return Perceiver(OnnxModel.open(model, device=device))


def compare_boxes(expected: Boxes, found: Boxes) -> float:
    """Return the share of boxes that are matched one to one, of the union of both."""
    free, matched = set(range(len(found[0]))), 0
    for box, score, label in zip(*expected, strict=True):
        fitting = [
            index
            for index in free
            if found[2][index] == label
            and abs(found[1][index] - score) <= 0.01
            and overlap(box, found[0][index]) >= 0.95
        ]
        if fitting:
            matched += 1
            free.remove(max(fitting, key=lambda index: overlap(box, found[0][index])))
    return matched / max(len(expected[0]) + len(found[0]) - matched, 1)


def compare(
    name: str, original: Path, folder: Path, images: Sequence[Image], options: argparse.Namespace
) -> dict[str, Any]:
    """Return the agreement over all frames, the worst frame and the fewest objects of a frame."""
    family, perceiver = FAMILIES[name], adopted(name, original, folder, options.device)
    session = onnxruntime.InferenceSession(str(original), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    spec, ids = perceiver.model.contract.input, [info.id for info in perceiver.model.contract.detection_classes]
    size, shares, objects, left_out = (spec.height, spec.width), [], [], 0
    for image in images:
        values = session.run(outputs, {session.get_inputs()[0].name: family.prepare(image, size)})
        expected = family.read(dict(zip(outputs, values, strict=True)), image, size)
        seen = len(expected[0]) if isinstance(expected, tuple) else len(np.unique(expected))
        if seen < (BOXES_MIN if isinstance(expected, tuple) else CLASSES_MIN):
            left_out += 1
            continue
        (perception,) = perceiver.perceive([Frame("front", 0, "camera", image)])
        if isinstance(expected, tuple):
            found = perception.detections
            numbered = (expected[0], expected[1], np.array(ids)[expected[2]])
            shares.append(compare_boxes(numbered, (found.boxes_xyxy, found.scores, found.labels)))
        else:
            shares.append(float((expected == perception.class_map).mean()))
        objects.append(seen)
        if len(shares) == options.count:
            break
    if not shares:
        return {"frames": 0, "left_out": left_out, "passed": False}
    return {
        "frames": len(shares),
        "left_out": left_out,
        "agreement": float(np.mean(shares)),
        "worst_frame": min(shares),
        "fewest_boxes" if ids else "fewest_classes": min(objects),
        "passed": len(shares) == options.count and min(shares) >= AGREEMENT_MIN,
    }


def read_frames(folder: Path, count: int) -> list[Image]:
    """Return up to `count` images of a folder and the folders below it, spread evenly."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    places = np.unique(np.linspace(0, len(paths) - 1, count).round().astype(int))
    return [np.asarray(cv2.imread(str(paths[place])), np.uint8) for place in places]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--frames", type=Path, required=True, help="folder with images")
    parser.add_argument("--yolox", type=Path, help="YOLOX-Nano, 416x416")
    parser.add_argument("--road", type=Path, help="road-segmentation-adas-0001 as ONNX")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only these; repeatable")
    parser.add_argument("--count", type=int, default=10, help="frames to compare on")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    add_device_option(parser, "cpu")
    arguments = parser.parse_args()
    images, figures = read_frames(arguments.frames, CANDIDATES_PER_FRAME * arguments.count), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for family in arguments.family or FAMILIES:
            published = {"yolox": arguments.yolox, "road": arguments.road}.get(family)
            if family in PUBLISHED and published is None:
                print(f"{family}: left out, no file was given")
                continue
            original = published or folder / f"{family}.onnx"
            if published is None:
                make_file(family, original, images[:: len(images) // arguments.count or 1])
            figures[family] = compare(family, original, folder, images, arguments)
            print(family, json.dumps(figures[family], allow_nan=False), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, allow_nan=False, indent=1))
    return 0 if figures and all(one["passed"] for one in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
