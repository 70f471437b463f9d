"""The canvas of a frame: colours, an instance-id buffer and a depth buffer with identical outlines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import Array, CameraModel, CameraPose, cross, unit
from ros_kd_perception.sample_drive.canvas.panel import Panel, Texture

NEAR_M = 0.25
SEEN_THROUGH = -1.0  # in `Canvas.surface`
_SHIFT = 4  # cv2 takes polygon corners in sixteenths of a pixel
_LIMIT_PX = 60000.0

Color = tuple[float, float, float]


class Face(NamedTuple):
    """A flat polygon of one colour: world points float64 (n, 3), metres, and BGR 0..255.

    A face without a colour covers only masks. It stands for gaps that one sees through, for example between the spokes
    of a bicycle.
    """

    points: Array
    color_bgr: Color | None


class _Polygon(NamedTuple):
    """A face of a small object: its corners in pixels, its colour, and its corners in the optical frame, uncut."""

    points_px: Array
    color_bgr: Color | None
    points_camera: Array


def clip_near(points_camera: Array) -> Array:
    """Cut a polygon (n, 3) of the optical frame at the near plane; (0, 3) when nothing is in front of it."""
    z = points_camera[:, 2]
    if z.min() >= NEAR_M:
        return points_camera
    if z.max() < NEAR_M:
        return points_camera[:0]
    kept: list[Array] = []
    for i in range(len(points_camera)):
        a, b = points_camera[i - 1], points_camera[i]
        if (a[2] >= NEAR_M) != (b[2] >= NEAR_M):
            kept.append(a + (b - a) * ((NEAR_M - a[2]) / (b[2] - a[2])))
        if b[2] >= NEAR_M:
            kept.append(b)
    return np.array(kept)


def _normal(points: Array) -> Array:
    """Return the normal of a flat polygon (n, 3) by Newell's method, which corners in one line do not disturb."""
    following = np.roll(points, -1, axis=0)
    return np.asarray(np.cross(points - points[0], following - points[0]).sum(axis=0))


def _fixed_point(points_px: Array) -> NDArray[np.int32]:
    rounded = np.rint(np.clip(points_px, -_LIMIT_PX, _LIMIT_PX) * (1 << _SHIFT))
    return rounded.astype(np.int32)


@dataclass
class Canvas:
    """The buffers of one frame, and the methods that paint on them.

    Attributes:
        image_bgr: uint8 (h, w, 3).
        ids: int32 (h, w), 0 where nothing was painted.
        nearness: 1 / depth of standing objects, float32 (h, w), 1/m; 0 where there are none. The ground is not in it.
        painted_px: Number of pixels inside the image that each id would cover with nothing in front of it.
        surface: 1 / depth of what each pixel shows, float32 (h, w), 1/m, 0 in the sky. Unlike `nearness`, it has the
            ground, and each face of a small object at its own depth. SEEN_THROUGH in the gaps of trees and railings,
            where the id is that of the tree and the colour that of what is behind. None unless `keeps_surface` is set.
    """

    camera: CameraModel
    pose: CameraPose
    keeps_surface: bool = False
    image_bgr: NDArray[np.uint8] = field(init=False)
    ids: NDArray[np.int32] = field(init=False)
    nearness: NDArray[np.float32] = field(init=False)
    painted_px: dict[int, int] = field(init=False, default_factory=dict)
    surface: NDArray[np.float32] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        shape = (self.camera.height_px, self.camera.width_px)
        self.image_bgr = np.zeros((*shape, 3), np.uint8)
        self.ids = np.zeros(shape, np.int32)
        self.nearness = np.zeros(shape, np.float32)
        self.surface = np.zeros(shape, np.float32) if self.keeps_surface else None

    def project(self, points_camera: Array) -> Array:
        """Cut a polygon (n, 3) of the optical frame at the near plane and project it to pixels (m, 2), m may be 0."""
        clipped = clip_near(points_camera)
        return self.camera.project(clipped) if len(clipped) >= 3 else np.zeros((0, 2))

    def box_of(self, points_px: Array) -> tuple[int, int, int, int] | None:
        """Return x0, y0, x1, y1 (exclusive) of the pixels that points may touch, or None outside the image."""
        if len(points_px) == 0:
            return None
        low = np.floor(np.maximum(points_px.min(0), -2.0)).astype(int) - 1
        high = np.ceil(np.minimum(points_px.max(0), 1e5)).astype(int) + 2
        x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
        x1, y1 = min(int(high[0]), self.camera.width_px), min(int(high[1]), self.camera.height_px)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None

    def ground_polygon(self, points_camera: Array, color_bgr: Color, identity: int) -> None:
        """Paint a polygon (n, 3) that lies on the ground, over everything that is there."""
        points_px = self.project(points_camera)
        box = self.box_of(points_px)
        if box is None:
            return
        corners = [_fixed_point(points_px)]
        cv2.fillPoly(self.image_bgr, corners, color_bgr, cv2.LINE_AA, _SHIFT)
        cv2.fillPoly(self.ids, corners, identity, cv2.LINE_8, _SHIFT)
        if self.surface is not None:
            x0, y0, x1, y1 = box
            self._fill_depth(self.surface[y0:y1, x0:x1], points_px, points_camera, box)

    def solid(self, faces: Sequence[Face], identity: int, depth_m: float | None = None) -> None:
        """Paint the faces of one small object in their order. Objects that are nearer than its middle hide it.

        Args:
            faces: Polygons. Later ones cover earlier ones.
            identity: Id that is written where any face covers.
            depth_m: Distance along the optical axis that decides what hides it. Default: the middle of the object.
        """
        if not faces:
            return
        counts = [len(face.points) for face in faces]
        points = self.pose.to_camera(np.concatenate([face.points for face in faces]))
        depth = float(depth_m if depth_m is not None else np.median(points[:, 2]))
        polygons: list[_Polygon] = []
        start = 0
        for face, count in zip(faces, counts, strict=True):
            points_px = self.project(points[start : start + count])
            if len(points_px):
                polygons.append(_Polygon(points_px, face.color_bgr, points[start : start + count]))
            start += count
        self._paint(polygons, identity, max(depth, NEAR_M))

    def _paint(self, polygons: list[_Polygon], identity: int, depth_m: float) -> None:
        if not polygons:
            return
        box = self.box_of(np.concatenate([polygon.points_px for polygon in polygons]))
        if box is None:
            return
        x0, y0, x1, y1 = box
        image, ids = self.image_bgr[y0:y1, x0:x1], self.ids[y0:y1, x0:x1]
        nearness = self.nearness[y0:y1, x0:x1]
        hidden = nearness > 1.0 / depth_m
        before = image.copy() if hidden.any() else None
        cover = np.zeros(ids.shape, np.uint8)
        offset = np.array([x0, y0], np.float64)
        for points_px, color_bgr, _ in polygons:
            corners = [_fixed_point(points_px - offset)]
            if color_bgr is not None:
                cv2.fillPoly(image, corners, color_bgr, cv2.LINE_AA, _SHIFT)
            cv2.fillPoly(cover, corners, 255, cv2.LINE_8, _SHIFT)
        _soil(image, cover)
        if before is not None:
            cv2.copyTo(before, hidden.view(np.uint8), image)
        self._claim(cover > 0, ~hidden, ids, nearness, identity, np.float32(1.0 / depth_m))
        if self.surface is not None:
            exact = np.full(ids.shape, 1.0 / depth_m, np.float32)
            for points_px, _, points_camera in polygons:
                self._fill_depth(exact, points_px, points_camera, box)
            np.copyto(self.surface[y0:y1, x0:x1], exact, where=(cover > 0) & ~hidden)

    def _fill_depth(
        self, depths: NDArray[np.float32], points_px: Array, points_camera: Array, box: tuple[int, int, int, int]
    ) -> None:
        """Write 1 / depth of a flat polygon into the pixels of a box (a view) that it covers."""
        cover: Any = np.zeros(depths.shape, np.uint8)
        corners = [_fixed_point(points_px - np.array(box[:2], np.float64))]
        cv2.fillPoly(cover, corners, 255, cv2.LINE_8, _SHIFT)
        plane = self._nearness_of(points_camera, _normal(points_camera), box)
        # A polygon that is seen from its edge has no depth of its own; its corners bound what it can have.
        low, high = (1.0 / np.maximum(z, NEAR_M) for z in (points_camera[:, 2].max(), points_camera[:, 2].min()))
        np.copyto(depths, np.clip(plane, low, high), where=cover > 0)

    def _claim(
        self,
        cover: NDArray[np.bool_],
        in_front: NDArray[np.bool_],
        ids: NDArray[np.int32],
        nearness: NDArray[np.float32],
        identity: int,
        value: Any,
    ) -> None:
        self.painted_px[identity] = self.painted_px.get(identity, 0) + int(np.count_nonzero(cover))
        visible = cover & in_front
        np.copyto(ids, identity, where=visible)
        np.copyto(nearness, value, where=visible)

    def quad(self, panel: Panel) -> None:
        """Paint a panel. Each pixel is hidden by nearer objects."""
        corners_camera = self.pose.to_camera(panel.corners)
        points_px = self.project(corners_camera)
        box = self.box_of(points_px)
        if box is None:
            return
        x0, y0, x1, y1 = box
        inverse_depth = self._plane_nearness(corners_camera, box)
        nearness = self.nearness[y0:y1, x0:x1]
        cover: Any = np.zeros(nearness.shape, np.uint8)
        cv2.fillPoly(cover, [_fixed_point(points_px - np.array([x0, y0], np.float64))], 255, cv2.LINE_8, _SHIFT)
        in_front = inverse_depth >= nearness
        shown = cover * in_front.view(np.uint8)
        if not shown.any():
            return
        texture = panel.texture
        level = self._level(texture, points_px)
        matrix = self._homography(corners_camera, texture.levels[level].shape, x0, y0)
        size = (x1 - x0, y1 - y0)
        picture = cv2.warpPerspective(texture.levels[level], matrix, size, borderMode=cv2.BORDER_REPLICATE)
        image = self.image_bgr[y0:y1, x0:x1]
        if texture.alphas:
            alpha = cv2.warpPerspective(texture.alphas[level], matrix, size)
            weight = cv2.bitwise_and(alpha, shown).astype(np.float32) * np.float32(1 / 255)
            image[:] = cv2.blendLinear(picture, image, weight, 1 - weight)
            mask = cv2.warpPerspective(texture.masks[level], matrix, size)
            cover = cv2.bitwise_and(cover, mask)
            claimed = cover > 127
        else:
            cv2.copyTo(picture, shown, image)
            claimed = cover > 0
        if self.surface is not None:
            surface = self.surface[y0:y1, x0:x1]
            np.copyto(surface, inverse_depth, where=claimed & in_front)
            if texture.alphas:
                np.copyto(surface, SEEN_THROUGH, where=claimed & in_front & (alpha < 128))
        self._claim(claimed, in_front, self.ids[y0:y1, x0:x1], nearness, panel.identity, inverse_depth)

    def _plane_nearness(self, corners_camera: Array, box: tuple[int, int, int, int]) -> NDArray[np.float32]:
        """Return 1 / depth of the plane of a panel at each pixel of a box."""
        normal = cross(corners_camera[1] - corners_camera[0], corners_camera[3] - corners_camera[0])
        return self._nearness_of(corners_camera, normal, box)

    def _nearness_of(self, corners_camera: Array, normal: Array, box: tuple[int, int, int, int]) -> NDArray[np.float32]:
        """Return 1 / depth of the plane at each pixel of a box; this is affine in the pixel for every plane."""
        x0, y0, x1, y1 = box
        offset = float(normal @ corners_camera[0])
        if abs(offset) < 1e-9:
            return np.full((y1 - y0, x1 - x0), 1e-6, np.float32)
        matrix = self.camera.intrinsic_matrix
        columns = (np.arange(x0, x1) - matrix[0, 2]) / self.camera.focal_px * normal[0]
        rows = (np.arange(y0, y1) - matrix[1, 2]) / self.camera.focal_px * normal[1] + normal[2]
        nearness = np.add.outer(rows / offset, columns / offset).astype(np.float32)
        return np.asarray(np.clip(nearness, 1e-6, 1.0 / NEAR_M), np.float32)

    def _homography(self, corners_camera: Array, shape: tuple[int, ...], x0: int, y0: int) -> Array:
        height, width = shape[:2]
        top_left, right = corners_camera[3], corners_camera[1] - corners_camera[0]
        down = corners_camera[0] - corners_camera[3]
        plane = np.stack([right / width, down / height, top_left + 0.5 * (right / width + down / height)], axis=1)
        shift = np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0], [0.0, 0.0, 1.0]])
        return np.asarray(shift @ self.camera.intrinsic_matrix @ plane)

    @staticmethod
    def _level(texture: Texture, points_px: Array) -> int:
        area_px = cv2.contourArea(points_px.astype(np.float32))
        height, width = texture.levels[0].shape[:2]
        level = int(0.5 * np.log2(max(height * width / max(area_px, 1.0), 1.0)) + 0.3)
        return min(level, len(texture.levels) - 1)


def _soil(image: NDArray[np.uint8], cover: NDArray[np.uint8]) -> None:
    """Make a painted object less flat, in place: lighter towards the sky, darker below, with blotches all over."""
    height, width = cover.shape
    if height < 10 or width < 3:
        return
    gain: Any = cv2.resize(_blotches(), (width, height), interpolation=cv2.INTER_LINEAR)
    gain[cover == 0] = 1.0
    image[:] = cv2.multiply(image, cv2.merge([gain, gain, gain]), dtype=cv2.CV_8U)


@cache
def _blotches() -> NDArray[np.float32]:
    lattice = 1.0 + 0.035 * np.random.default_rng(11).standard_normal((14, 14)).astype(np.float32)
    lattice *= np.linspace(1.12, 0.84, 14, dtype=np.float32)[:, None]
    return np.asarray(cv2.resize(lattice, (112, 112), interpolation=cv2.INTER_CUBIC), np.float32)


def box_of_id(ids: NDArray[np.int32], identity: int) -> tuple[int, int, int, int, int] | None:
    """Return x0, y0, x1, y1 (exclusive) and the pixel count of an id, or None if it is not in the buffer."""
    found = ids == identity
    rows = np.flatnonzero(found.any(axis=1))
    if len(rows) == 0:
        return None
    columns = np.flatnonzero(found.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1, int(np.count_nonzero(found))


def facing_polygon(centre: Array, normal: Array, outline: Iterable[tuple[float, float]]) -> Array:
    """Place an outline of (left-to-right, up) offsets in metres on a vertical plane, seen from its normal's side."""
    across = unit(np.array([-normal[1], normal[0], 0.0]))
    return np.array([centre + across * x + np.array([0.0, 0.0, y]) for x, y in outline])
