"""Everything that is painted or laid on the ground: tarmac, repairs, kerbs, pavements, lines, crossings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_kd_perception.sample_drive.camera import Array
from ros_kd_perception.sample_drive.street.road import (
    KERB_M,
    PAVEMENT_ID,
    ROAD_ID,
    TREE_ID,
    CrossSection,
    GroundPatches,
    Junction,
    Paver,
    RoadPath,
)


@dataclass(frozen=True)
class Crossing:
    """A pedestrian crossing over the road, with or without traffic lights."""

    along_m: float
    width_m: float
    has_lights: bool


def pave(
    rng: np.random.Generator,
    path: RoadPath,
    section: CrossSection,
    junctions: list[Junction],
    crossings: list[Crossing],
    along: tuple[float, float],
) -> GroundPatches:
    """Lay the whole ground of a street, in painting order."""
    paver = Paver(path, GroundPatches())
    level = rng.uniform(70, 140)
    road = np.array([level * rng.uniform(0.98, 1.07), level * rng.uniform(0.99, 1.02), level])
    slabs = np.array([1.0, 1.04, 1.08]) * rng.uniform(0.95, 1.5) * np.clip(level, 80, 115)
    slabs = np.clip(slabs * rng.uniform(0.95, 1.05, 3), 60, 190)
    _verges(rng, paver, section, along, slabs)
    for junction in junctions:
        _side_street(rng, paver, section, junction, road, slabs)
    paver.strip(along, (-section.half_road_m, section.half_road_m), road, ROAD_ID)
    _wheel_tracks(rng, paver, section, along, road)
    _repairs(rng, paver, section, along, road)
    _cycle_lanes(rng, paver, section, along, junctions)
    for side in (1.0, -1.0):
        gaps = [(j.along_m - j.width_m / 2, j.along_m + j.width_m / 2) for j in junctions if j.side == side]
        inner = side * section.half_road_m
        outer = side * (section.half_road_m + section.pavement_m(side))
        kerb = slabs * rng.uniform(1.0, 1.25)
        paver.kerb(along, inner, kerb * 0.7, gaps)
        paver.strip(along, (inner, outer), slabs, PAVEMENT_ID, KERB_M, gaps)
        paver.strip(along, (inner, inner + side * 0.14), kerb, PAVEMENT_ID, KERB_M, gaps)
    _markings(rng, paver, section, junctions, crossings, along)
    return paver.patches


def _verges(
    rng: np.random.Generator, paver: Paver, section: CrossSection, along: tuple[float, float], slabs: Array
) -> None:
    for side in (1.0, -1.0):
        is_grass = rng.random() < 0.5
        color = np.array([50.0, 92.0, 84.0]) * rng.uniform(0.7, 1.3) if is_grass else slabs * rng.uniform(0.75, 1.05)
        start = side * (section.half_road_m + section.pavement_m(side) - 0.1)
        paver.strip(along, (start, side * 120.0), color, TREE_ID if is_grass else PAVEMENT_ID)


def _side_street(
    rng: np.random.Generator, paver: Paver, section: CrossSection, junction: Junction, road: Array, slabs: Array
) -> None:
    half, side = junction.width_m / 2, junction.side
    near, far = side * (section.half_road_m - 0.3), side * (section.half_road_m + junction.length_m)
    middle = junction.along_m
    for start_m, end_m, color, class_id in (
        (middle - half - 2.2, middle + half + 2.2, slabs, PAVEMENT_ID),
        (middle - half, middle + half, road * rng.uniform(0.93, 1.06), ROAD_ID),
    ):
        paver.box((start_m, end_m), (near, far), color, class_id)
    white = _white(rng)
    line = side * (section.half_road_m + 0.35)
    for offset in (0.0, 0.45):
        for start in np.arange(middle - half + 0.3, middle + half - 0.6, 1.0):
            across = (line + side * offset, line + side * (offset + 0.15))
            paver.box((float(start), float(start) + 0.6), across, white, ROAD_ID)
    for start in np.arange(4.0, junction.length_m - 6, 6.0):
        across = (side * (section.half_road_m + start), side * (section.half_road_m + start + 2.5))
        paver.box((middle - 0.06, middle + 0.06), across, white, ROAD_ID)


def _wheel_tracks(
    rng: np.random.Generator, paver: Paver, section: CrossSection, along: tuple[float, float], road: Array
) -> None:
    """Polish or darken the lanes where wheels roll, in two soft steps."""
    gain = rng.uniform(0.94, 1.07)
    for lane in (-section.lane_m / 2, section.lane_m / 2):
        for wheel in (-0.75, 0.75):
            for half, share in ((0.38, 0.5), (0.2, 1.0)):
                middle = lane + wheel
                paver.strip(along, (middle - half, middle + half), road * (1 + (gain - 1) * share), ROAD_ID)


def _repairs(
    rng: np.random.Generator, paver: Paver, section: CrossSection, along: tuple[float, float], road: Array
) -> None:
    length = along[1] - along[0]
    for _ in range(int(length * rng.uniform(0.02, 0.12))):
        start, across = rng.uniform(*along), rng.uniform(-section.half_road_m, section.half_road_m - 1)
        width = min(rng.uniform(0.4, 2.5), section.half_road_m - across)
        gain = rng.uniform(0.75, 1.18)
        paver.box((start, start + rng.uniform(0.6, 14)), (across, across + width), road * gain, ROAD_ID)
    for _ in range(int(length * rng.uniform(0.02, 0.07))):
        centre, across = rng.uniform(*along), rng.uniform(-0.85, 0.85) * section.half_road_m
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        ring = paver.path.place(centre + 0.33 * np.cos(angles), across + 0.33 * np.sin(angles))
        paver.patches.add(ring, road * rng.uniform(0.5, 0.8), ROAD_ID)
    for _ in range(int(length * rng.uniform(0.0, 0.1))):
        # Long dark seams, as between two lanes of tarmac.
        start, across = rng.uniform(*along), rng.uniform(-0.9, 0.9) * section.half_road_m
        paver.box((start, start + rng.uniform(3, 20)), (across, across + 0.03), road * rng.uniform(0.75, 0.92), ROAD_ID)


def _cycle_lanes(
    rng: np.random.Generator, paver: Paver, section: CrossSection, along: tuple[float, float], junctions: list[Junction]
) -> None:
    if not section.has_cycle_lane:
        return
    tints = ([70, 72, 120], [70, 100, 72], [86, 84, 82])
    color = np.array(tints[rng.integers(3)]) * rng.uniform(0.8, 1.2)
    white = _white(rng)
    for side in (1.0, -1.0):
        paver.strip(along, (side * section.lane_m, side * section.half_road_m), color, ROAD_ID)
        for start in np.arange(along[0], along[1], 6.0):
            across = (side * section.lane_m - 0.07, side * section.lane_m + 0.07)
            paver.box((float(start), float(start) + 4.0), across, white, ROAD_ID)


def _white(rng: np.random.Generator) -> Array:
    return np.array([198.0, 204.0, 206.0]) * rng.uniform(0.78, 1.12)


def _markings(
    rng: np.random.Generator,
    paver: Paver,
    section: CrossSection,
    junctions: list[Junction],
    crossings: list[Crossing],
    along: tuple[float, float],
) -> None:
    white = _white(rng)
    blocked = [(c.along_m - c.width_m / 2 - 3.5, c.along_m + c.width_m / 2 + 3.5) for c in crossings]
    mouths = [(j.along_m - j.width_m / 2, j.along_m + j.width_m / 2) for j in junctions]
    _centre_line(rng, paver, along, blocked + mouths, white)
    for side in (1.0, -1.0):
        own_mouths = [
            (j.along_m - j.width_m / 2 - 1, j.along_m + j.width_m / 2 + 1) for j in junctions if j.side == side
        ]
        _edge_lines(rng, paver, section, side, along, blocked + own_mouths, white)
    for crossing in crossings:
        _crossing(paver, section, crossing, white)
    for junction in junctions:
        if rng.random() < 0.25:
            _box_junction(paver, section, junction)
    for start in np.arange(along[0] + rng.uniform(0, 40), along[1], rng.uniform(45, 90)):
        if rng.random() < 0.6:
            _arrow(paver, float(start), section.drive_side * section.lane_m / 2, white)


def _centre_line(
    rng: np.random.Generator,
    paver: Paver,
    along: tuple[float, float],
    gaps: list[tuple[float, float]],
    white: Array,
) -> None:
    kind = rng.choice(["dashes", "long_dashes", "double", "none"], p=[0.45, 0.3, 0.13, 0.12])
    if kind == "none":
        return
    if kind == "double":
        for across in (-0.16, 0.06):
            paver.strip(along, (across, across + 0.1), white, ROAD_ID, gaps=gaps)
        return
    dash, pitch = (2.0, 6.0) if kind == "dashes" else (4.0, 6.0)
    for start in np.arange(along[0], along[1], pitch):
        if not any(a - dash < start < b for a, b in gaps):
            paver.box((float(start), float(start) + dash), (-0.06, 0.06), white * rng.uniform(0.85, 1.05), ROAD_ID)


def _edge_lines(
    rng: np.random.Generator,
    paver: Paver,
    section: CrossSection,
    side: float,
    along: tuple[float, float],
    gaps: list[tuple[float, float]],
    white: Array,
) -> None:
    if section.has_parking:
        line = side * section.lane_m
        for start in np.arange(along[0], along[1], 6.0):
            if any(a < start < b for a, b in gaps):
                continue
            paver.box((float(start), float(start) + 1.0), (line - 0.05, line + 0.05), white, ROAD_ID)
            paver.box((float(start), float(start) + 0.1), (line, side * section.half_road_m), white * 0.9, ROAD_ID)
        return
    yellow = np.array([62.0, 168.0, 196.0]) * rng.uniform(0.8, 1.1)
    kerb = side * section.half_road_m
    count = int(rng.integers(0, 3))
    for index in range(count):
        inner = kerb - side * (0.25 + 0.22 * index)
        paver.strip(along, (inner, inner - side * 0.1), yellow, ROAD_ID, gaps=gaps)
    if count == 0 and rng.random() < 0.4:
        paver.strip(along, (kerb - side * 0.3, kerb - side * 0.42), white, ROAD_ID, gaps=gaps)


def _crossing(paver: Paver, section: CrossSection, crossing: Crossing, white: Array) -> None:
    half, start, end = (
        section.half_road_m,
        crossing.along_m - crossing.width_m / 2,
        crossing.along_m + crossing.width_m / 2,
    )
    if crossing.has_lights:
        for edge in (start, end):
            for across in np.arange(-half + 0.2, half - 0.3, 0.7):
                paver.box((edge - 0.06, edge + 0.06), (float(across), float(across) + 0.35), white, ROAD_ID)
    else:
        for across in np.arange(-half + 0.25, half - 0.5, 1.2):
            paver.box((start, end), (float(across), float(across) + 0.6), white, ROAD_ID)
    for side, edge in ((section.drive_side, start - 2.2), (-section.drive_side, end + 2.0)):
        paver.box((edge, edge + 0.22), (side * 0.1, side * (half - 0.2)), white, ROAD_ID)


def _box_junction(paver: Paver, section: CrossSection, junction: Junction) -> None:
    yellow, half_along = np.array([66.0, 164.0, 190.0]), junction.width_m / 2
    half_across = section.half_road_m
    for offset in np.arange(-half_along - half_across, half_along + half_across, 1.6):
        for slope in (1.0, -1.0):
            across = np.linspace(-half_across, half_across, 25)
            line = junction.along_m + offset + slope * across
            inside = np.abs(line - junction.along_m) <= half_along
            if inside.sum() < 2:
                continue
            a, b = across[inside][[0, -1]], line[inside][[0, -1]]
            near, far = paver.path.place(b, a), paver.path.place(b + 0.16, a)
            paver.patches.add(np.concatenate([near, far[::-1]]), yellow, ROAD_ID)


def _arrow(paver: Paver, along_m: float, across_m: float, white: Array) -> None:
    outline = np.array([[0, -0.08], [2.4, -0.08], [2.4, -0.4], [4.2, 0], [2.4, 0.4], [2.4, 0.08], [0, 0.08]])
    points = paver.path.place(along_m + outline[:, 0], across_m + outline[:, 1])
    paver.patches.add(points, white, ROAD_ID)
