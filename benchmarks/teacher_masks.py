#!/usr/bin/env python3
"""Score the masks that teachers together say, in all their views, on labelled frames.

`evaluate` scores one checkpoint in one view. This script shows what tiles, other sizes, mirror images and more teachers
add before a student learns from them. Every pixel counts, also where no teacher is sure.

Usage: python benchmarks/teacher_masks.py TEACHERS.yaml FRAMES [--label-set NAME] [--include-drives PREFIX ...]
       [--exclude-drives PREFIX ...] [--every N] [--enlarge FACTOR] [--device DEVICE]
TEACHERS.yaml has the key `teachers` (docs/teachers.md); FRAMES holds images/ and masks/ of CamVid.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from device_option import add_device_option
from tqdm import tqdm

from ros_kd_perception.model.onnx_file import ModelFileError
from training.config.loading import load_settings
from training.data.readers.registry import open_source, source_of
from training.errors import CheckpointError, DataError, RecipeError
from training.evaluation.metrics import SegmentationMetrics
from training.label_sets.loading import load_label_set
from training.teachers.ensemble import Ensemble
from training.teachers.labeling import FrameLabeler
from training.teachers.registry import TeacherList


def main() -> int:
    """Parse the command line, look at all frames, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teachers", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--label-set", default="camvid11_masks", help="classes that are scored (camvid11_masks)")
    parser.add_argument("--include-drives", nargs="*", default=[], metavar="PREFIX", help="only these drives")
    parser.add_argument("--exclude-drives", nargs="*", default=[], metavar="PREFIX", help="not these drives")
    parser.add_argument("--every", type=int, default=1, help="look at every n-th frame (1)")
    parser.add_argument("--enlarge", type=float, default=1.0, help="factor of the frames before all views (1)")
    add_device_option(parser, "cpu")
    options = parser.parse_args()
    try:
        print(measure(options))
    except (CheckpointError, DataError, ModelFileError, OSError, RecipeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def measure(options: argparse.Namespace) -> str:
    """Return the mean IoU and that of each class, as text."""
    student = load_label_set(options.label_set)
    listed = load_settings(options.teachers, TeacherList)
    teachers = [teacher.replace(pixel_confidence_min=0.0) for teacher in listed.teachers]
    labeler = FrameLabeler(Ensemble.open(teachers, listed.fusion, student, "teachers"), options.device)
    drives = {"include_drives": options.include_drives, "exclude_drives": options.exclude_drives}
    source = open_source(source_of("camvid", {"folder": options.frames, **drives}, []), student)
    metrics, frames = SegmentationMetrics(len(student.segmentation)), range(0, len(source), options.every)
    start = time.perf_counter()
    for number in tqdm(frames, disable=None, leave=False):
        sample = source[number]
        height, width = sample.mask.shape
        size = (round(width * options.enlarge), round(height * options.enlarge))
        found = labeler.label_frame(cv2.resize(sample.image_bgr, size, interpolation=cv2.INTER_LINEAR)).mask
        if found is None:
            raise RecipeError(f"{options.teachers}: expected a teacher of masks, found none; add one")
        mask = cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        metrics.update(mask, sample.mask, sample.labeled_pixels)
    each_ms = (time.perf_counter() - start) / len(frames) * 1e3
    names = [info.name for info in student.segmentation_classes]
    shares = ", ".join(f"{name} {100 * value:.1f}" for name, value in zip(names, metrics.iou(), strict=True))
    return f"mIoU {100 * (metrics.mean_iou() or np.nan):.2f} ({shares}); {len(frames)} frames, {each_ms:.0f} ms each"


if __name__ == "__main__":
    sys.exit(main())
