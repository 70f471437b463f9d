"""Records of frames by hand, for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from training.evaluation.box_matching import BOX_SIZES, IOU_THRESHOLDS
from training.evaluation.frame_recorder import DOUBT_BINS
from training.evaluation.frame_records import FrameRecords


def made_records(
    frames: int, masks: Sequence[str], boxes: Sequence[str], found: int = 0, **arrays: Any
) -> FrameRecords:
    """Return records without a labelled pixel, where all classes are labelled, with these arrays instead of zeros.

    Args:
        frames: Number of frames.
        masks: Names of the classes of masks.
        boxes: Names of the classes of boxes.
        found: Number of detections, all of the first frame and class unless `arrays` says otherwise.
        **arrays: Attributes of `FrameRecords`. Those by size are those of every size.
    """
    nothing = np.zeros((len(IOU_THRESHOLDS), found), np.bool_)
    records = FrameRecords(
        names=np.array([f"frame {number}" for number in range(frames)]),
        mask_classes=np.array(masks, np.str_),
        box_classes=np.array(boxes, np.str_),
        confusion=np.zeros((frames, len(masks), len(masks) + 1), np.int32),
        outlines=np.zeros((frames, len(masks), 2), np.int32),
        labeled=np.ones((frames, len(masks)), np.bool_),
        doubt=np.zeros((frames, 2, DOUBT_BINS), np.int32),
        true_boxes=np.zeros((frames, len(boxes)), np.int32),
        true_boxes_by_size=np.zeros((len(BOX_SIZES), frames, len(boxes)), np.int32),
        frame=np.zeros(found, np.int32),
        label=np.zeros(found, np.int32),
        score=np.zeros(found),
        hits=nothing,
        ignored=nothing,
        hits_by_size=np.zeros((len(BOX_SIZES), *nothing.shape), np.bool_),
        ignored_by_size=np.zeros((len(BOX_SIZES), *nothing.shape), np.bool_),
        seen=np.zeros(0, np.uint8),
    )
    for name in ("true_boxes", "hits", "ignored"):
        if name in arrays:
            arrays.setdefault(f"{name}_by_size", np.stack([arrays[name]] * len(BOX_SIZES)))
    return replace(records, **arrays)
