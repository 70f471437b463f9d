"""Course and cross-section of the street: where a place along and across it is in the world, and how it is paved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import Array
from ros_kd_perception.sample_drive.canvas.canvas import Color

KERB_M = 0.1
ROAD_ID, PAVEMENT_ID, TREE_ID = 3, 4, 5
_STEP_M = 1.0


class RoadPath:
    """A centre line with gentle bends. `along_m` is measured along it, `across_m` is positive to the left."""

    def __init__(self, rng: np.random.Generator, start_m: float, end_m: float) -> None:
        self.start_m = start_m
        self._along = np.arange(start_m, end_m + _STEP_M, _STEP_M)
        bend = rng.choice([0.0, 0.4, 1.0], p=[0.35, 0.35, 0.3]) * rng.uniform(0.002, 0.0085)
        phase, wave_m = rng.uniform(0, 2 * np.pi), rng.uniform(90, 240)
        curvature = bend * np.sin(2 * np.pi * self._along / wave_m + phase)
        self._heading = np.cumsum(curvature) * _STEP_M
        self._heading -= np.interp(0.0, self._along, self._heading)
        self._x = np.cumsum(np.cos(self._heading)) * _STEP_M
        self._y = np.cumsum(np.sin(self._heading)) * _STEP_M

    def heading_rad(self, along_m: float) -> float:
        """Return the direction of the road."""
        return float(np.interp(along_m, self._along, self._heading))

    def place(self, along_m: Array | float, across_m: Array | float, up_m: Array | float = 0.0) -> Array:
        """Return world points float64 (..., 3) for places given along, across and above the road, metres."""
        heading = np.interp(along_m, self._along, self._heading)
        x = np.interp(along_m, self._along, self._x) - np.sin(heading) * across_m
        y = np.interp(along_m, self._along, self._y) + np.cos(heading) * across_m
        return np.stack(np.broadcast_arrays(x, y, np.asarray(up_m, np.float64)), axis=-1)


@dataclass(frozen=True)
class Junction:
    """A side street that leaves the road."""

    along_m: float
    side: float
    width_m: float
    length_m: float = 90.0

    def holds(self, along_m: float, margin_m: float = 0.0) -> bool:
        """Return whether a place along the road is in the mouth of the side street."""
        return abs(along_m - self.along_m) < self.width_m / 2 + margin_m


@dataclass(frozen=True)
class CrossSection:
    """Widths of the street, metres; `drive_side` is +1 where traffic drives on the left."""

    lane_m: float
    edge_m: float
    pavement_left_m: float
    pavement_right_m: float
    drive_side: float
    has_parking: bool
    has_cycle_lane: bool

    @property
    def half_road_m(self) -> float:
        """Return the distance from the centre line to either kerb."""
        return self.lane_m + self.edge_m

    def pavement_m(self, side: float) -> float:
        """Return the width of the pavement on a side (+1 left, -1 right)."""
        return self.pavement_left_m if side > 0 else self.pavement_right_m

    @classmethod
    def draw(cls, rng: np.random.Generator) -> CrossSection:
        """Choose a street."""
        has_parking = bool(rng.random() < 0.55)
        has_cycle_lane = bool(not has_parking and rng.random() < 0.4)
        edge_m = (
            rng.uniform(1.9, 2.4) if has_parking else rng.uniform(1.1, 1.6) if has_cycle_lane else rng.uniform(0, 1)
        )
        return cls(
            lane_m=float(rng.uniform(2.8, 3.8)),
            edge_m=float(edge_m),
            pavement_left_m=float(rng.uniform(1.4, 4.2)),
            pavement_right_m=float(rng.uniform(1.4, 4.2)),
            drive_side=1.0 if rng.random() < 0.8 else -1.0,
            has_parking=has_parking,
            has_cycle_lane=has_cycle_lane,
        )


@dataclass
class GroundPatches:
    """Flat polygons of the ground in painting order, with all corners in one array that a frame transforms at once."""

    _points: list[Array] = field(default_factory=list)
    colors_bgr: list[Color] = field(default_factory=list)
    class_ids: list[int] = field(default_factory=list)

    def add(self, points: Array, color_bgr: Iterable[float], class_id: int) -> None:
        """Append a polygon float64 (n, 3)."""
        blue, green, red = (float(np.clip(value, 0, 255)) for value in color_bgr)
        self._points.append(points)
        self.colors_bgr.append((blue, green, red))
        self.class_ids.append(class_id)

    def packed(self) -> tuple[Array, NDArray[np.int64]]:
        """Return all corners float64 (n, 3), and the first corner of each polygon, int64 (polygons + 1,)."""
        starts = np.concatenate([[0], np.cumsum([len(points) for points in self._points])])
        return np.concatenate(self._points), starts.astype(np.int64)


@dataclass
class Paver:
    """Lays strips and boxes along a road."""

    path: RoadPath
    patches: GroundPatches
    chunk_m: float = 10.0

    def box(
        self, along: tuple[float, float], across: tuple[float, float], color: Iterable[float], class_id: int,
        up_m: float = 0.0,
    ) -> None:  # fmt: skip
        """Lay a rectangle that follows the bend."""
        count = max(int(np.ceil((along[1] - along[0]) / 4.0)), 1) + 1
        line = np.linspace(along[0], along[1], count)
        near, far = self.path.place(line, across[0], up_m), self.path.place(line[::-1], across[1], up_m)
        self.patches.add(np.concatenate([near, far]), color, class_id)

    def strip(
        self, along: tuple[float, float], across: tuple[float, float], color: Iterable[float], class_id: int,
        up_m: float = 0.0, gaps: Iterable[tuple[float, float]] = (),
    ) -> None:  # fmt: skip
        """Lay a long strip in chunks, leaving out the gaps along it."""
        for start, end in free_stretches(along, gaps):
            edges = np.linspace(start, end, max(int(np.ceil((end - start) / self.chunk_m)), 1) + 1)
            for a, b in pairwise(edges):
                self.box((float(a), float(b) + 0.03), across, color, class_id, up_m)

    def kerb(
        self, along: tuple[float, float], across_m: float, color: Iterable[float], gaps: Iterable[tuple[float, float]]
    ) -> None:
        """Add the upright face of the kerb along the edge of the road."""
        for start, end in free_stretches(along, gaps):
            edges = np.linspace(start, end, max(int(np.ceil((end - start) / self.chunk_m)), 1) + 1)
            for a, b in pairwise(edges):
                line = np.linspace(a, b + 0.03, 4)
                low, high = self.path.place(line, across_m), self.path.place(line[::-1], across_m, KERB_M)
                self.patches.add(np.concatenate([low, high]), color, PAVEMENT_ID)


def free_stretches(along: tuple[float, float], gaps: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the rest of a stretch without the gaps, in order."""
    stretches, start = [], along[0]
    for gap_start, gap_end in sorted(gaps):
        if gap_start > start:
            stretches.append((start, min(gap_start, along[1])))
        start = max(start, gap_end)
    if start < along[1]:
        stretches.append((start, along[1]))
    return [(a, b) for a, b in stretches if b - a > 0.05]
