"""The numbers of vision_msgs/Detection3D and the markers of visualization_msgs, for objects on the ground."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

import numpy as np

from ros_kd_perception.ground_positions.ground_camera import GroundPositions, ellipses
from ros_kd_perception.messages.cdr import ENCAPSULATION, Float64Array, header_bytes, text_bytes
from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.structures import UInt8Array

# A camera sees no length along its line of sight. Without any, RViz warns and Foxglove draws nothing.
BOARD_M = 0.01
# Nothing is known about where an object faces: the variance of an angle that is equally likely all around.
UNKNOWN_YAW_RAD2 = math.pi**2 / 3
MARKER_LIFETIME_S = 1
ELLIPSE_SIGMAS = 2.45  # holds 95 % of a normal distribution in the plane

# Places of the float64 numbers of a Detection3D: score, pose, covariance by rows, pose and size of the bounding box.
_SCORE, _X, _Y, _W, _COVARIANCE = 0, 1, 2, 7, 8
_XX, _XY, _YX, _YY, _YAW = _COVARIANCE, _COVARIANCE + 1, _COVARIANCE + 6, _COVARIANCE + 7, _COVARIANCE + 35
_BOX = 44
_NUMBERS = 54

# visualization_msgs/Marker
_ADD, _DELETE_ALL = 0, 3
_CYLINDER, _TEXT = 3, 9
_NAMESPACES = {name: text_bytes(name) for name in ("objects", "ellipses", "names", "")}
# Id, type, action; then pose, scale; then colour, lifetime, frame_locked, no points, no colours, no texture.
_WHICH, _WHERE, _LOOKS = struct.Struct("<iii"), struct.Struct("<10d"), struct.Struct("<4fiI?3xII")
_NO_TEXT = text_bytes("")
_NO_TEXTURE = _NO_TEXT + header_bytes(0, "") + _NO_TEXT + struct.pack("<II", 0, 0)  # and no coordinates in it
_NO_MESH = _NO_TEXT + _NO_TEXT + struct.pack("<I?", 0, False)
_LEAST_M = 0.05  # smallest side that can be seen
_TEXT_M, _ELLIPSE_THICKNESS_M = 0.5, 0.02
_OPAQUE, _FAINT = 0.8, 0.35


def numbers_of(positions: GroundPositions) -> Float64Array:
    """Return the numbers of each Detection3D, float64 `[n, 54]`.

    The pose of the result is the place on the ground. Its covariance is that of x and y; z is 0 by definition, and yaw
    is unknown. The bounding box is an upright board that faces the camera, as wide and high as the box in the image.
    """
    rows = np.zeros((len(positions), _NUMBERS))
    rows[:, _SCORE] = positions.found.scores
    rows[:, _X : _Y + 1] = positions.points_m
    rows[:, _W] = 1.0
    rows[:, [_XX, _XY, _YX, _YY]] = positions.covariances_m2.reshape(-1, 4)
    rows[:, _YAW] = UNKNOWN_YAW_RAD2
    rows[:, _BOX : _BOX + 2] = positions.points_m
    rows[:, _BOX + 2] = positions.sizes_m[:, 1] / 2
    rows[:, _BOX + 5], rows[:, _BOX + 6] = np.sin(positions.bearings_rad / 2), np.cos(positions.bearings_rad / 2)
    rows[:, _BOX + 7] = BOARD_M
    rows[:, _BOX + 8 :] = positions.sizes_m
    return rows


def markers_as_bytes(
    stamp_ns: int, frame_id: str, positions: GroundPositions, classes: Mapping[int, ClassInfo]
) -> UInt8Array:
    """Write a visualization_msgs/MarkerArray that replaces all earlier ones of its topic.

    Each object is a cylinder in the colour of its class, as wide and high as its box, with an ellipse on the ground
    that holds 95 % of its possible places, and its class and id as text. The first marker deletes the markers of the
    frame before. Those that no frame follows vanish after `MARKER_LIFETIME_S`.

    Args:
        stamp_ns: Header stamp of the frame in nanoseconds.
        frame_id: Frame of the positions.
        positions: The objects.
        classes: Classes of the boxes by id.

    Returns:
        uint8 `[n]`, C-contiguous.
    """
    header = header_bytes(stamp_ns, frame_id)
    parts: list[bytes] = [ENCAPSULATION + struct.pack("<I", 1 + 3 * len(positions))]
    writer = _MarkerWriter(header, parts)
    writer.write("", 0, 0, _DELETE_ALL, (0.0,) * 6 + (1.0,) + (0.0,) * 3, (0.0, 0.0, 0.0), 0.0, "")
    axes, directions = ellipses(positions.covariances_m2, ELLIPSE_SIGMAS)
    found = positions.found
    track_ids = np.zeros(len(found), np.int64) if found.track_ids is None else found.track_ids
    rows = zip(
        positions.points_m.tolist(), positions.sizes_m.tolist(), axes.tolist(), directions.tolist(),
        found.labels.tolist(), track_ids.tolist(), strict=True,
    )  # fmt: skip
    for index, ((x, y), (width, height), (longer, shorter), direction, label, track_id) in enumerate(rows):
        info = classes.get(label)
        color = (0.5, 0.5, 0.5) if info is None else tuple(value / 255 for value in info.color_rgb)
        text = str(label) if info is None else info.name
        wide, high = max(width, _LEAST_M), max(height, _LEAST_M)
        upright = (x, y, high / 2, 0.0, 0.0, 0.0, 1.0, wide, wide, high)
        writer.write("objects", index, _CYLINDER, _ADD, upright, color, _OPAQUE, "")
        flat = (
            x, y, 0.0, 0.0, 0.0, math.sin(direction / 2), math.cos(direction / 2),
            max(2 * longer, _LEAST_M), max(2 * shorter, _LEAST_M), _ELLIPSE_THICKNESS_M,
        )  # fmt: skip
        writer.write("ellipses", index, _CYLINDER, _ADD, flat, color, _FAINT, "")
        above = (x, y, high + _TEXT_M, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, _TEXT_M)
        name = f"{text} {track_id}" if track_id else text
        writer.write("names", index, _TEXT, _ADD, above, (1.0, 1.0, 1.0), 1.0, name)
    parts[-1] = parts[-1][: len(_NO_MESH)]  # without padding
    return np.frombuffer(b"".join(parts), np.uint8)


class _MarkerWriter:
    """Appends markers to the parts of a message."""

    def __init__(self, header: bytes, parts: list[bytes]) -> None:
        self._header = header
        self._parts = parts
        self._offset = 4  # from the byte after the encapsulation; the number of markers comes first

    def write(
        self,
        namespace: str,
        number: int,
        kind: int,
        action: int,
        pose_and_scale: tuple[float, ...],
        color: tuple[float, ...],
        alpha: float,
        text: str,
    ) -> None:
        """Append a marker, padded for the next one."""
        start = self._header + _NAMESPACES[namespace] + _WHICH.pack(number, kind, action)
        start += bytes(-(self._offset + len(start)) % 8)
        end = _LOOKS.pack(*color, alpha, MARKER_LIFETIME_S, 0, False, 0, 0) + _NO_TEXTURE + text_bytes(text)
        self._parts += [start, _WHERE.pack(*pose_and_scale), end, _NO_MESH + bytes(3)]
        self._offset = (len(end) + len(_NO_MESH) + 3) % 8
