"""The motion between two real frames, estimated from the images themselves.

Dense inverse search (T. Kroeger et al., Fast Optical Flow using Dense Inverse Search, 2016), as OpenCV has it, runs in
both directions. A pixel counts if the way there and back ends within a pixel of its start, and if both frames look
alike there. What is hidden in one of the frames, and most of what is estimated wrongly, fails these checks.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.flow import Flow

WIDTH_PX = 640  # of the images that motion is estimated in
BACK_MAX_PX = 1.0  # at that width
DIFFERENCE_MAX = 20  # grey levels, after a slight blur
FOLLOWS_MIN = 0.3  # of the pixels must pass the checks; frames with less do not follow each other

Image = NDArray[np.uint8]


def image_flow(earlier: Image, later: Image) -> Flow | None:
    """Return where the pixels of the later of two frames were in the earlier one.

    Args:
        earlier: uint8 (h, w, 3).
        later: uint8 (h, w, 3).

    Returns:
        None if the sizes differ, or if less than FOLLOWS_MIN of the pixels can be followed: then the frames are too far
        apart, or of two drives.
    """
    if earlier.shape != later.shape:
        return None
    height, width = later.shape[:2]
    scale = min(1.0, WIDTH_PX / width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    before, after = (cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), size, interpolation=cv2.INTER_AREA)
                     for image in (earlier, later))  # fmt: skip
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back: Any = search.calc(after, before, np.zeros((*after.shape, 2), np.float32))
    forth: Any = search.calc(before, after, np.zeros((*after.shape, 2), np.float32))
    columns, rows = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32))
    places = np.stack([columns, rows], axis=-1) + back
    inside = ((places >= 0) & (places <= np.array(size, np.float32) - 1)).all(axis=-1)
    returned = Flow(places, inside).brought(forth, cv2.INTER_LINEAR)
    # In noise the way back can end at its start although the pixels have nothing in common.
    seen_before, seen_after = (cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32) for image in (before, after))
    alike = np.abs(Flow(places, inside).brought(seen_before, cv2.INTER_LINEAR) - seen_after) <= DIFFERENCE_MAX
    visible = inside & alike & (np.linalg.norm(back + returned, axis=-1) <= BACK_MAX_PX)
    if float(visible.mean()) < FOLLOWS_MIN:
        return None
    return _at_size(places, visible, width, height)


def _at_size(places: NDArray[np.float32], visible: NDArray[np.bool_], width: int, height: int) -> Flow:
    """Return a motion that was estimated in a smaller image at the size of the frames."""
    small_height, small_width = visible.shape
    factor = np.array([width / small_width, height / small_height], np.float32)
    # Pixel centres are at whole numbers, so that a place p of the small image is (p + 0.5) f - 0.5 of the frame.
    grown: Any = cv2.resize((places + 0.5) * factor - 0.5, (width, height), interpolation=cv2.INTER_LINEAR)
    seen: Any = cv2.resize(visible.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    inside = ((grown >= 0) & (grown <= np.array([width - 1, height - 1], np.float32))).all(axis=-1)
    return Flow(np.asarray(grown, np.float32), np.asarray((seen > 0) & inside))
