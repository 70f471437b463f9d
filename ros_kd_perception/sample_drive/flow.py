"""Compute the exact motion of the pixels between two frames of a drive, and which pixels both frames show.

The renderer knows the depth of every pixel, the pose of the camera, and where each vehicle and person is. A pixel of a
moving object moves with its body: steps of people and turning wheels are left out. Pixels in the sky turn with the
camera. A pixel counts as visible in both frames if its place in the other frame lies inside of the image and shows
something of the depth that it must have there. The gaps of trees and railings do not count: such a pixel shows two
things at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import Array, CameraModel, camera_named, rotation_z
from ros_kd_perception.sample_drive.drive import RenderedView, SampleDrive
from ros_kd_perception.sample_drive.street.actors import Actor

DEPTH_SHARE = 0.03  # how much the depth at the other end may differ
_FAR = 1e-6  # 1 / depth of the sky, so that it can be divided by


@dataclass(frozen=True)
class Flow:
    """Where the pixels of a frame were in an earlier frame of the same camera.

    Attributes:
        places: Column and row in the earlier frame, float32 (h, w, 2), pixel centres at whole numbers.
        visible: Whether the earlier frame shows the same piece of the scene there, bool (h, w).
    """

    places: NDArray[np.float32]
    visible: NDArray[np.bool_]

    def brought(self, earlier: NDArray[Any], interpolation: int = cv2.INTER_NEAREST, outside: float = 0.0) -> Any:
        """Return values (h, w) or (h, w, c) of the earlier frame on the pixels of the later one.

        Args:
            earlier: Values of the earlier frame.
            interpolation: One of OpenCV's.
            outside: Value of what lies outside of the earlier frame.
        """
        columns, rows = cv2.split(self.places)
        return cv2.remap(earlier, columns, rows, interpolation, borderValue=outside)


def exact_flow(
    drive: SampleDrive, camera_name: str, times_s: tuple[float, float], views: tuple[RenderedView, RenderedView]
) -> Flow:
    """Return where the pixels of the later of two frames were in the earlier one.

    Args:
        drive: The drive.
        camera_name: Name of the camera.
        times_s: Times of the earlier and of the later frame.
        views: Both frames, rendered with `keeps_surface`.

    Raises:
        ValueError: A frame was rendered without its surface.
    """
    earlier, later = views
    if earlier.surface is None or later.surface is None:
        raise ValueError("expected frames with a surface, got some without; render them with keeps_surface")
    camera = camera_named(drive.cameras, camera_name)
    poses = [drive.camera_pose(camera_name, time_s) for time_s in times_s]
    inverse_depth = np.maximum(later.surface, _FAR).astype(np.float64)
    points = _rays(camera) / inverse_depth[..., None]
    world = points @ poses[1].rotation + poses[1].position
    _move_actors(drive, times_s, later.identities, world)
    seen = (world - poses[0].position) @ poses[0].rotation.T
    # A point in the sky has no place, only a direction.
    sky = later.surface == 0
    seen[sky] = points[sky] @ poses[1].rotation @ poses[0].rotation.T
    in_front = seen[..., 2] > 0.1
    depth = np.where(in_front, seen[..., 2], 1.0)
    matrix = camera.intrinsic_matrix
    places = np.stack([seen[..., axis] / depth * camera.focal_px + matrix[axis, 2] for axis in (0, 1)], axis=-1).astype(
        np.float32
    )
    expected = np.where(sky, 0.0, 1.0 / depth).astype(np.float32)
    flow = Flow(places, in_front & (later.surface >= 0) & _inside(places))
    return replace(flow, visible=flow.visible & _same_depth(earlier.surface, flow, expected, camera))


def _rays(camera: CameraModel) -> Array:
    """Return the direction of each pixel in the optical frame, float64 (h, w, 3), with z = 1."""
    matrix = camera.intrinsic_matrix
    columns = (np.arange(camera.width_px) - matrix[0, 2]) / camera.focal_px
    rows = (np.arange(camera.height_px) - matrix[1, 2]) / camera.focal_px
    x, y = np.meshgrid(columns, rows)
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def _move_actors(drive: SampleDrive, times_s: tuple[float, float], identities: NDArray[np.int32], world: Array) -> None:
    """Move the points (h, w, 3) of vehicles and people back in time, in place."""
    for identity in np.unique(identities):
        actor = drive.world.actors.get(int(identity))
        if actor is not None:
            pixels = identities == identity
            world[pixels] = _moved(actor, drive, times_s, world[pixels])


def _moved(actor: Actor, drive: SampleDrive, times_s: tuple[float, float], points: Array) -> Array:
    (before, turn_before), (after, turn_after) = (
        (actor.position(drive.world.path, time_s), rotation_z(actor.heading_rad(drive.world.path, time_s)))
        for time_s in times_s
    )
    return np.asarray((points - after) @ turn_after @ turn_before.T + before)


def _inside(places: NDArray[np.float32]) -> NDArray[np.bool_]:
    height, width = places.shape[:2]
    limits = np.array([width - 1, height - 1], np.float32)
    return np.asarray(((places >= 0) & (places <= limits)).all(axis=-1))


def _same_depth(
    surface: NDArray[np.float32], flow: Flow, expected: NDArray[np.float32], camera: CameraModel
) -> NDArray[np.bool_]:
    """Return whether the surface of the earlier frame has the 1 / depth that is expected of each pixel.

    The tolerance allows for a place that is off by a pixel on the ground, whose depth changes fast with the row.
    """
    found = flow.brought(surface, outside=-1.0)
    pixel = np.float32(1.0 / (camera.focal_px * camera.height_m))
    return np.asarray(np.abs(found - expected) <= DEPTH_SHARE * expected + pixel)
