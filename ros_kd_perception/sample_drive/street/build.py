"""Build the street of a seed: its course, then the ground, then the objects on it, then the vehicles and people."""

from __future__ import annotations

import numpy as np

from ros_kd_perception.sample_drive.street.actors import Motion
from ros_kd_perception.sample_drive.street.inhabitants import populate
from ros_kd_perception.sample_drive.street.layout import Layout
from ros_kd_perception.sample_drive.street.paving import Crossing, pave
from ros_kd_perception.sample_drive.street.road import CrossSection, Junction, RoadPath
from ros_kd_perception.sample_drive.street.roadside import Roadside
from ros_kd_perception.sample_drive.street.weather import WeatherChange, draw_weather
from ros_kd_perception.sample_drive.street.world import World

AHEAD_M, BEHIND_M = 190.0, 50.0


def build_world(seed: int, weather_name: str, duration_s: float, changed: WeatherChange | None = None) -> World:
    """Build the street of a seed, long enough for the drive.

    Args:
        seed: Not negative.
        weather_name: One of WEATHERS.
        duration_s: Duration of the drive.
        changed: Changes the weather that was drawn.
    """
    rng = np.random.default_rng([seed, 0x5EED])
    weather = draw_weather(np.random.default_rng([seed, 0x5C1E5]), weather_name)
    weather = weather if changed is None else changed(weather)
    speed = float(rng.uniform(5.0, 10.5))
    end_m = speed * duration_s + AHEAD_M
    path = RoadPath(rng, -BEHIND_M - 30, end_m + 60)
    section = CrossSection.draw(rng)
    along = (-BEHIND_M, end_m)
    junctions = _junctions(rng, section, along)
    crossings = _crossings(rng, junctions, along)
    ego = Motion(0.0, section.drive_side * section.lane_m / 2, speed, float(rng.uniform(0, 3)), 0.3)
    patches = pave(rng, path, section, junctions, crossings, along)
    world = World(path, section, weather, ego, patches, junctions, crossings)
    layout = Layout(rng, world, along)
    layout.build_up()
    Roadside(layout).put_up()
    layout.far_end()
    populate(rng, world, along, duration_s)
    return world


def _junctions(rng: np.random.Generator, section: CrossSection, along: tuple[float, float]) -> list[Junction]:
    junctions = []
    place = along[0] + rng.uniform(20, 70)
    while place < along[1] - 15:
        sides = ([1.0], [-1.0], [1.0, -1.0])[rng.integers(3)]
        width = float(rng.uniform(5.0, 8.5))
        junctions += [Junction(float(place), side, width) for side in sides]
        place += rng.uniform(45, 120)
    return junctions


def _crossings(rng: np.random.Generator, junctions: list[Junction], along: tuple[float, float]) -> list[Crossing]:
    crossings = []
    place = along[0] + rng.uniform(30, 80)
    while place < along[1] - 10:
        if not any(junction.holds(place, 7.0) for junction in junctions):
            crossings.append(Crossing(float(place), float(rng.uniform(2.4, 3.6)), bool(rng.random() < 0.5)))
        place += rng.uniform(45, 150)
    return crossings
