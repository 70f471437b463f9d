#!/usr/bin/env python3
"""Draw what two students see on the same frames, side by side: a picture for a model card.

Each row is a frame: the first student left, the second right, with the class map and boxes as the node draws them.

Usage: python benchmarks/before_after.py BEFORE.onnx AFTER.onnx FRAME ... -o OUT.jpg [--width WIDTH] [--columns N]
       [--device DEVICE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from device_option import add_device_option

from ros_kd_perception import Frame, Perceiver, draw_overlay
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.structures import UInt8Array
from training.arguments import whole_number

GAP_PX = 6
QUALITY = 88


def main() -> int:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("frames", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--width", type=whole_number(16, 4096), default=480, help="width of an overlay in pixels (480)")
    parser.add_argument("--columns", type=whole_number(1, 16), default=1, help="frames beside each other (1)")
    add_device_option(parser, default="cpu")
    options = parser.parse_args()
    try:
        perceivers = [Perceiver.open(path, device=options.device) for path in (options.before, options.after)]
    except ModelFileError as error:
        parser.error(str(error))
    pairs = []
    for path in options.frames:
        image = cv2.imread(str(path))
        if image is None:
            parser.error(f"{path}: expected a picture, it cannot be read as one; name a JPEG or PNG file")
        pairs.append(beside(*(overlay(perceiver, image, options.width) for perceiver in perceivers)))
    columns = [below(pairs[start :: options.columns]) for start in range(min(options.columns, len(pairs)))]
    if not cv2.imwrite(str(options.output), beside(*columns), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
        parser.error(f"{options.output}: expected to write the picture, it failed; name a .jpg in a folder that exists")
    return 0


def overlay(perceiver: Perceiver, image_bgr: UInt8Array, width: int) -> UInt8Array:
    """Return a frame with what a student sees in it, `width` pixels wide."""
    [perception] = perceiver.perceive([Frame.from_image(image_bgr)])
    drawn = draw_overlay(image_bgr, perception, perceiver.model.contract)
    height = round(drawn.shape[0] * width / drawn.shape[1])
    return np.asarray(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def beside(*pictures: UInt8Array) -> UInt8Array:
    """Return pictures from left to right on white."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [_on_white(picture, height, picture.shape[1]) for picture in pictures]
    gap = np.full((height, GAP_PX, 3), 255, np.uint8)
    return np.hstack([part for picture in padded for part in (picture, gap)][:-1])


def below(pictures: list[UInt8Array]) -> UInt8Array:
    """Return pictures from top to bottom on white."""
    width = max(picture.shape[1] for picture in pictures)
    padded = [_on_white(picture, picture.shape[0], width) for picture in pictures]
    gap = np.full((GAP_PX, width, 3), 255, np.uint8)
    return np.vstack([part for picture in padded for part in (picture, gap)][:-1])


def _on_white(picture: UInt8Array, height: int, width: int) -> UInt8Array:
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


if __name__ == "__main__":
    sys.exit(main())
