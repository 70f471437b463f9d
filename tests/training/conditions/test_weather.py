"""Test fog, rain and snow: distances in a frame without depth, and what they do to near and far places."""

from __future__ import annotations

import numpy as np
import pytest

from ros_kd_perception.sample_drive import CameraModel
from ros_kd_perception.sample_drive.camera import CarPose
from training.conditions.distance import CAMERA_HEIGHT_M, FARTHEST_M, FOCAL_SHARE, distances, horizon_row
from training.conditions.light import to_light
from training.conditions.table import CONDITIONS
from training.data.sample import Sample

HEIGHT, WIDTH = 240, 400
ABOVE, HOUSES, ROAD, OBJECT = 0, 1, 3, 8
HORIZON = 96
ROWS = (HORIZON + 24, 150, 185, 230)  # from far to near
BY_NAME = {condition.name: condition for condition in CONDITIONS}
NO_BOXES = np.zeros((0, 4), np.float32)


def street(*, masked: bool = True, boxes: np.ndarray = NO_BOXES) -> Sample:
    """Return a street with houses to the left, an open view to the right, and a texture of fine stripes."""
    mask = np.full((HEIGHT, WIDTH), ABOVE, np.uint8)
    mask[HORIZON:] = ROAD
    for column in range(120):
        mask[20 : HORIZON + 60 - column // 2, column] = HOUSES
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[mask == ABOVE], image[mask == HOUSES], image[mask == ROAD] = (230, 190, 150), (60, 70, 90), (70, 70, 70)
    image[:, ::4] //= 2
    image[:HORIZON, 120:] = (230, 190, 150)
    for left, top, right, bottom in boxes.astype(int):
        image[top:bottom, left:right], mask[top:bottom, left:right] = (20, 20, 160), OBJECT
    return Sample("street", image, mask if masked else np.full_like(mask, 255), boxes, np.zeros(len(boxes), np.int64))


def test_the_road_is_as_far_as_a_flat_one() -> None:
    """Compare with the camera of the renderer, which looks along a flat road."""
    camera = CameraModel("c", WIDTH, HEIGHT, FOCAL_SHARE * WIDTH, 0.0, 0.0, CAMERA_HEIGHT_M, 0.0, 0.0)
    pose = camera.pose(CarPose(0, 0, 0))
    found = distances(street())
    for metres in (6.0, 12.0, 30.0):
        _, row = camera.project(pose.to_camera(np.array([[metres, 0.0, 0.0]])))[0]
        at = round(row - (HEIGHT - 1) / 2 + horizon_row(street().mask))
        assert found[at, 300] == pytest.approx(metres, rel=0.06)


def test_what_stands_keeps_the_distance_of_its_foot() -> None:
    boxes = np.array([[200, 80, 260, 160]], np.float32)
    found = distances(street(boxes=boxes))

    assert found[30, 60] == pytest.approx(found[110, 60])  # a wall, from the ground to the roof
    assert found[60, 10] < found[60, 110]  # its near end and its far end
    assert (found[85:155, 205:255] == found[120, 230]).all()
    assert found[120, 230] == pytest.approx(found[160, 300], rel=0.05)
    assert (found[:80, 150:] == FARTHEST_M).all()


def test_a_board_in_front_of_a_wall_is_as_far_as_the_wall() -> None:
    sample = street()
    sample.mask[40:50, 50:60] = OBJECT
    found = distances(sample)
    assert found[45, 55] == pytest.approx(found[45, 70], rel=0.25)


def test_without_a_mask_objects_have_a_distance_too() -> None:
    boxes = np.array([[200, 80, 260, 160]], np.float32)
    found = distances(street(masked=False, boxes=boxes))
    assert np.isfinite(found).all()
    assert found[120, 230] == pytest.approx(found[160, 280], rel=0.1)
    assert found[60, 300] == FARTHEST_M  # smooth, and touches the upper edge


def stripes(light: np.ndarray) -> float:
    """Return how far neighbours differ: the light of the stripes, whatever lies over them."""
    return float(np.abs(np.diff(light, axis=1)).mean())


@pytest.mark.parametrize("masked", [True, False])
def test_fog_takes_more_from_far_rows_than_from_near_ones(masked: bool) -> None:
    sample = street(masked=masked)
    columns = slice(180, 380)
    clean = to_light(sample.image_bgr)
    air = None
    for severity in (1, 2, 3, 4, 5):
        foggy = BY_NAME["fog"].applied(sample, severity).image_bgr.astype(float)
        light = to_light(BY_NAME["fog"].applied(sample, severity).image_bgr)
        left = [stripes(light[row - 4 : row + 4, columns]) / stripes(clean[row - 4 : row + 4, columns]) for row in ROWS]
        assert (np.diff(left) > 0).all(), left
        brighter = (foggy - sample.image_bgr)[:, columns].mean(axis=(1, 2))
        assert brighter[125] > brighter[230]
        air = foggy[10, 300]
    assert air is not None
    assert np.ptp(air) < 16  # fog has hardly a colour
    assert left[0] < 0.12


def test_the_visibility_is_where_two_percent_of_the_contrast_are_left() -> None:
    from training.conditions.weather import CONTRAST_LEFT

    assert np.exp(-CONTRAST_LEFT) == pytest.approx(0.02, abs=1e-4)


def test_rain_draws_upright_streaks() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)
    sample = Sample("plain", image, np.full((HEIGHT, WIDTH), 255, np.uint8), NO_BOXES, np.zeros(0, np.int64))
    rainy = BY_NAME["rain"].applied(sample, 3).image_bgr[:, :, 1].astype(float)
    near = rainy[HORIZON + 60 :]
    assert np.abs(np.diff(near, axis=1)).mean() > 1.5 * np.abs(np.diff(near, axis=0)).mean()


def test_snow_is_brighter_than_the_road() -> None:
    snowy = BY_NAME["snow"].applied(street(), 3).image_bgr
    assert snowy[200:].mean() > street().image_bgr[200:].mean() + 25
    assert np.quantile(snowy[200:], 0.99) > 200
