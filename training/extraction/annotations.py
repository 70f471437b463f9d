"""CocoAnnotations: annotations.json, the frames and boxes of a folder in the format of the COCO data set.

Format: https://cocodataset.org/#format-data, object detection. Beside its keys, an image has the camera, topic and
stamp of the frame, and an annotation has the teacher's score.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.structures import UInt8Array
from training.data.frame_log import FrameRecord
from training.whole_files import write_text

EVERY_CLASS = -1
ANNOTATIONS_FILE = "annotations.json"


class CocoAnnotations:
    """Writes annotations.json. Without pseudo-labels it lists the images only."""

    key = ""

    def annotate(self, folder: Path, record: FrameRecord, image_bgr: UInt8Array) -> dict[str, Any]:
        """Return no notes: the frame itself says all."""
        del folder, record, image_bgr
        return {}

    def finish(self, folder: Path, frames: Sequence[FrameRecord]) -> None:
        """Write the file."""
        write_annotations(folder, frames, ())


def write_annotations(folder: Path, frames: Sequence[FrameRecord], classes: Sequence[ClassInfo]) -> None:
    """Write annotations.json.

    Args:
        folder: The folder of the frames.
        frames: Frames whose notes, if they have any, are entries of boxes.json.
        classes: Classes of the boxes; `category_id` is the class id.
    """
    images = [
        {
            "id": number,
            "file_name": record.file,
            "width": record.width,
            "height": record.height,
            "camera": record.camera,
            "topic": record.topic,
            "frame_id": record.frame_id,
            "stamp_ns": record.stamp_ns,
        }
        for number, record in enumerate(frames, start=1)
    ]
    categories = [{"id": info.id, "name": info.name} for info in classes]
    every_id = [info.id for info in classes]
    objects = [
        entry for image_id, record in enumerate(frames, start=1) for entry in _objects(record.notes, image_id, every_id)
    ]
    annotations = [{"id": number, **entry} for number, entry in enumerate(objects, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(folder / ANNOTATIONS_FILE, json.dumps(content, allow_nan=False) + "\n")


def _objects(notes: dict[str, Any], image_id: int, every_id: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the boxes of a frame as COCO's annotations.

    An ignored box is a crowd: neither positive nor negative. COCO has no crowds of every class, so a region that is
    ignored for every class becomes one crowd of each.
    """
    keys = ("boxes_xyxy", "labels", "scores", "ignored")
    for box, label, score, ignored in zip(*(notes.get(key, ()) for key in keys), strict=True):
        left, top, right, bottom = box
        size = (right - left, bottom - top)
        for category_id in every_id if label == EVERY_CLASS else [label]:
            yield {
                "image_id": image_id,
                "category_id": category_id,
                "bbox": [left, top, *size],
                "area": size[0] * size[1],
                "iscrowd": int(ignored),
                "score": score,
            }
