"""Put cars, pedestrians and bicyclists into a street."""

from __future__ import annotations

import numpy as np

from ros_kd_perception.sample_drive.classes import BICYCLIST, CAR, PEDESTRIAN
from ros_kd_perception.sample_drive.street.actors import Actor, Motion
from ros_kd_perception.sample_drive.street.road import KERB_M
from ros_kd_perception.sample_drive.street.world import World
from ros_kd_perception.sample_drive.things.people import Person
from ros_kd_perception.sample_drive.things.vehicles import Car


def populate(rng: np.random.Generator, world: World, along: tuple[float, float], duration_s: float) -> None:
    """Put all moving and parked actors into the street."""
    density = float(rng.choice([0.4, 1.0, 1.8]))
    _own_lane(rng, world)
    _oncoming(rng, world, along, density)
    for side in (1.0, -1.0):
        _parked(rng, world, along, side)
    _side_street_cars(rng, world)
    _walkers(rng, world, along, density)
    _crossers(rng, world, duration_s)
    _bicyclists(rng, world, along, density)


def _own_lane(rng: np.random.Generator, world: World) -> None:
    gap, ego = 0.0, world.ego
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.25, 0.35, 0.25, 0.15]))):
        gap += rng.uniform(9, 32)
        car = Car.draw(rng)
        motion = Motion(
            along_m=ego.along_m + gap + car.shape.length_m / 2,
            across_m=ego.across_m + rng.normal(0, 0.15),
            along_m_per_s=ego.along_m_per_s,
            swing_m=ego.swing_m * rng.uniform(0.7, 1.0),
            swing_rad_per_s=ego.swing_rad_per_s,
        )
        world.add_actor(Actor(car, CAR, motion))
        gap += car.shape.length_m


def _oncoming(rng: np.random.Generator, world: World, along: tuple[float, float], density: float) -> None:
    speed = rng.uniform(5, 11) if rng.random() < 0.8 else 0.0
    place = along[0]
    reach = along[1] + speed * 20
    while place < reach:
        car = Car.draw(rng)
        place += car.shape.length_m + rng.exponential(28 / density) + 3
        across = -world.ego.across_m + rng.normal(0, 0.15)
        world.add_actor(Actor(car, CAR, Motion(place, across, -speed), np.pi))


def _parked(rng: np.random.Generator, world: World, along: tuple[float, float], side: float) -> None:
    section = world.section
    if not section.has_parking:
        return
    fill = rng.choice([0.0, 0.35, 0.75, 0.95], p=[0.12, 0.28, 0.35, 0.25])
    blocked = [
        (j.along_m - j.width_m / 2 - 5, j.along_m + j.width_m / 2 + 5) for j in world.junctions if j.side == side
    ]
    blocked += [(c.along_m - 8, c.along_m + 8) for c in world.crossings]
    place = along[0]
    while place < along[1] + 20:
        car = Car.draw(rng, is_parked=True)
        place += car.shape.length_m / 2 + rng.uniform(0.5, 1.6)
        if rng.random() < fill and not any(a < place < b for a, b in blocked):
            across = side * (section.half_road_m - car.shape.width_m / 2 - rng.uniform(0.1, 0.3))
            heading = (0.0 if rng.random() < 0.75 else np.pi) + rng.normal(0, 0.02)
            heading += 0.0 if side == section.drive_side else np.pi
            world.add_actor(Actor(car, CAR, Motion(place, across), heading))
        place += car.shape.length_m / 2


def _side_street_cars(rng: np.random.Generator, world: World) -> None:
    for junction in world.junctions:
        for _ in range(int(rng.integers(0, 5))):
            car = Car.draw(rng, is_parked=True)
            across = junction.side * (world.section.half_road_m + rng.uniform(5, 70))
            lane = float(rng.choice([-1.0, 1.0])) * (junction.width_m / 2 - 1.05)
            heading = float(rng.choice([-1.0, 1.0])) * np.pi / 2
            world.add_actor(Actor(car, CAR, Motion(junction.along_m + lane, across), heading))


def _walkers(rng: np.random.Generator, world: World, along: tuple[float, float], density: float) -> None:
    section = world.section
    for side in (1.0, -1.0):
        width = section.pavement_m(side)
        place = along[0]
        while place < along[1]:
            place += rng.exponential(13.0 / density)
            company = int(rng.choice([1, 2, 3], p=[0.68, 0.26, 0.06]))
            speed = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.9, 1.6)) if rng.random() < 0.82 else 0.0
            across = rng.uniform(0.45, max(width - 0.35, 0.5))
            for index in range(company):
                person = Person.draw(rng)
                motion = Motion(
                    place + rng.uniform(-0.4, 0.4),
                    side * (section.half_road_m + min(across + 0.6 * index, width)),
                    speed,
                )
                heading = 0.0 if speed > 0 else np.pi if speed < 0 else rng.uniform(0, 2 * np.pi)
                world.add_actor(Actor(person, PEDESTRIAN, motion, float(heading), KERB_M, float(rng.uniform(0, 6.28))))


def _crossers(rng: np.random.Generator, world: World, duration_s: float) -> None:
    """Add people who cross the road, well before the car is there or after it has passed."""
    reach = world.section.half_road_m + 1.0
    for crossing in world.crossings:
        arrival_s = crossing.along_m / max(world.ego.along_m_per_s, 1.0)
        for _ in range(int(rng.integers(0, 4))):
            pace = rng.uniform(1.1, 1.6)
            latest = arrival_s - 2 * reach / pace - 1.5
            start_s = rng.uniform(-4.0, latest) if latest > -4.0 else max(arrival_s, 0.0) + 1.5
            side = float(rng.choice([-1.0, 1.0]))
            along = crossing.along_m + rng.uniform(-0.4, 0.4) * crossing.width_m
            motion = Motion(
                along,
                side * reach,
                across_m_per_s=-side * pace,
                start_s=min(start_s, duration_s),
                end_across_m=-side * reach,
            )
            heading = -side * np.pi / 2
            world.add_actor(Actor(Person.draw(rng), PEDESTRIAN, motion, heading, 0.02, float(rng.uniform(0, 6.28))))


def _bicyclists(rng: np.random.Generator, world: World, along: tuple[float, float], density: float) -> None:
    section = world.section
    for direction in (1.0, -1.0):
        side = section.drive_side * direction
        place = along[0] + 30
        while place < along[1] + 40:
            place += rng.exponential(38 / density) + 4
            across = section.lane_m - 0.45 if section.has_parking else section.half_road_m - 0.55
            motion = Motion(place, side * (across + rng.normal(0, 0.12)), direction * rng.uniform(3.2, 5.2))
            heading = 0.0 if direction > 0 else np.pi
            world.add_actor(Actor(Person.draw(rng), BICYCLIST, motion, heading, 0.0, float(rng.uniform(0, 6.28))))
