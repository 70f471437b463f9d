"""Test the labels of the renderer: masks, boxes, geometry, and equal results in every run."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ros_kd_perception.sample_drive import WEATHERS, CameraModel, SampleDrive, default_cameras, random_camera
from ros_kd_perception.sample_drive.camera import CarPose
from ros_kd_perception.sample_drive.classes import BOX_CLASSES, PAVEMENT, ROAD, SKY
from ros_kd_perception.sample_drive.drive import MIN_BOX_HEIGHT_SHARE, MIN_VISIBLE_SHARE
from ros_kd_perception.sample_drive.street.world import FIRST_INSTANCE

SIZE = (480, 270)


@pytest.fixture(scope="module")
def drive() -> SampleDrive:
    return SampleDrive(3, "day", 4.0, default_cameras(*SIZE))


@pytest.fixture(scope="module")
def views(drive):
    return {camera.name: drive.render(camera.name, 1.5) for camera in drive.cameras}


def test_shapes_types_and_ids(views):
    for view in views.values():
        assert view.image_bgr.shape == (SIZE[1], SIZE[0], 3)
        assert view.image_bgr.dtype == np.uint8
        assert view.class_map.shape == (SIZE[1], SIZE[0])
        assert view.class_map.dtype == np.uint8
        assert set(np.unique(view.class_map)) <= {*range(11), 255}
        assert view.boxes_xyxy.dtype == np.float32
        assert view.boxes_xyxy.shape == (len(view.labels), 4)
        assert view.labels.dtype == view.instance_ids.dtype == np.int32
    assert {SKY, ROAD, PAVEMENT} <= set(np.unique(views["front"].class_map))


def test_boxes_are_the_extents_of_what_is_visible(drive, views):
    found = 0
    for view in views.values():
        for box, label, identity in zip(view.boxes_xyxy, view.labels, view.instance_ids, strict=True):
            rows, columns = np.nonzero(view.identities == identity)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box[3] - box[1] >= max(MIN_BOX_HEIGHT_SHARE * SIZE[1], 6)
            assert np.all(view.class_map[rows, columns] == BOX_CLASSES[int(label)])
            found += 1
    assert found >= 5


def test_mostly_hidden_objects_get_no_box_but_keep_their_pixels():
    """A car behind a van whose visible share is too small has no box, but the mask keeps its pixels."""
    from ros_kd_perception.sample_drive.canvas.canvas import Canvas, Face

    drive = SampleDrive(3, "day", 4.0, default_cameras(*SIZE))
    canvas = Canvas(drive.cameras[0], drive.cameras[0].pose(CarPose(0.0, 0.0, 0.0)))
    car, van = (identity for identity, actor in list(drive.world.actors.items())[:2] if actor.class_id == 8)

    def board(depth_m: float, left_m: float, right_m: float) -> list[Face]:
        corners = [[depth_m, left_m, 0.2], [depth_m, right_m, 0.2], [depth_m, right_m, 2.2], [depth_m, left_m, 2.2]]
        return [Face(np.array(corners), (90.0, 90.0, 90.0))]

    canvas.solid(board(14.0, 1.0, -1.0), car)
    boxes, _, instances = drive._boxes(canvas)
    assert instances.tolist() == [car]
    canvas.solid(board(12.0, 0.7, -1.2), van)
    boxes, _, instances = drive._boxes(canvas)
    share = np.count_nonzero(canvas.ids == car) / canvas.painted_px[car]
    assert 0 < share < MIN_VISIBLE_SHARE
    assert instances.tolist() == [van]
    assert len(boxes) == 1


def test_same_seed_gives_the_same_bytes_in_any_order(drive, views):
    again = SampleDrive(3, "day", 4.0, default_cameras(*SIZE))
    again.render("left", 0.5)
    for name in ("right", "front"):
        view = again.render(name, 1.5)
        for field in ("image_bgr", "class_map", "boxes_xyxy", "labels", "instance_ids"):
            assert np.array_equal(getattr(view, field), getattr(views[name], field)), f"{name} {field}"


def test_seed_and_time_and_weather_change_the_picture(drive, views):
    front = views["front"].image_bgr
    assert not np.array_equal(front, drive.render("front", 1.7).image_bgr)
    for other in (SampleDrive(4, "day", 4.0, drive.cameras), SampleDrive(3, "dusk", 4.0, drive.cameras)):
        assert not np.array_equal(front, other.render("front", 1.5).image_bgr)


@pytest.mark.parametrize("weather", WEATHERS)
def test_every_weather_renders_the_same_street(weather):
    camera = default_cameras(320, 180)[0]
    day = SampleDrive(5, "day", 2.0, [camera]).render("front", 1.0)
    view = SampleDrive(5, weather, 2.0, [camera]).render("front", 1.0)
    assert view.image_bgr.std() > 8
    # Weather changes the look of leaves and lamps, not the street.
    assert np.mean(view.class_map == day.class_map) > 0.97


def test_weathers_differ_as_they_should():
    camera = default_cameras(320, 180)[0]

    def mean(weather: str) -> float:
        return float(
            np.mean([SampleDrive(s, weather, 2.0, [camera]).render("front", 1.0).image_bgr.mean() for s in (5, 6)])
        )

    assert mean("dusk") < 0.75 * mean("day")


def test_a_point_of_the_world_projects_where_geometry_says():
    """Computed by hand: 10 m ahead, 2 m left, on the ground, seen from 1.5 m above the axle with f = 500 px."""
    camera = CameraModel("c", 641, 361, 500.0, forward_m=0.0, height_m=1.5, pitch_rad=0.0)
    pose = camera.pose(CarPose(100.0, 50.0, np.pi / 2))
    point = np.array([[98.0, 60.0, 0.0]])  # the car heads along +y, so left is -x
    assert camera.project(pose.to_camera(point))[0] == pytest.approx([320 - 100, 180 + 75])
    nose_down = replace(camera, pitch_rad=0.1)
    assert nose_down.project(nose_down.pose(CarPose(100.0, 50.0, np.pi / 2)).to_camera(point))[0][1] < 255
    to_left = replace(camera, yaw_rad=0.1)
    assert to_left.project(to_left.pose(CarPose(100.0, 50.0, np.pi / 2)).to_camera(point))[0][0] > 220
    right_down = replace(camera, roll_rad=0.1)
    _, y = right_down.project(right_down.pose(CarPose(100.0, 50.0, np.pi / 2)).to_camera(point))[0]
    assert y > 255  # the right side of the camera is lower, so points on its left are lower in the picture
    matrix = camera.intrinsic_matrix
    assert np.allclose(matrix, [[500, 0, 320], [0, 500, 180], [0, 0, 1]])
    assert np.allclose(camera.projection_matrix, np.hstack([matrix, np.zeros((3, 1))]))


def test_the_road_is_where_the_road_is(drive, views):
    """Points of the own lane without other cars are road, and no road or pavement is above the horizon."""
    camera, view = drive.cameras[0], views["front"]
    pose = drive.camera_pose("front", 1.5)
    here = drive.world.ego.along(1.5)
    across = drive.world.ego.across(1.5)
    points = drive.world.path.place(here + np.linspace(4.5, 7.5, 8), across)
    pixels = np.rint(camera.project(pose.to_camera(points))).astype(int)
    inside = pixels[:, 1] < SIZE[1]
    assert inside.sum() >= 3
    assert set(view.class_map[pixels[inside, 1], pixels[inside, 0]]) == {ROAD}
    for name in views:
        camera = next(c for c in drive.cameras if c.name == name)
        up = drive.camera_pose(name, 1.5).rotation @ np.array([0.0, 0.0, 1.0])
        columns, rows = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
        rays = np.linalg.inv(camera.intrinsic_matrix) @ np.stack([columns.ravel(), rows.ravel(), np.ones(columns.size)])
        is_above = (up @ rays).reshape(rows.shape) > 0.02
        assert not np.isin(views[name].class_map[is_above], (ROAD, PAVEMENT)).any()


def test_cameras_see_one_world_at_one_time():
    """Two cameras at one place differ by a rotation, so a homography maps the masks of one to the other."""
    ahead = CameraModel("ahead", 480, 270, 330.0, 1.6, 0.0, 1.45, 0.0, 0.02)
    aside = replace(ahead, name="aside", yaw_rad=0.35)
    drive = SampleDrive(8, "day", 4.0, [ahead, aside])
    first, second = drive.render("ahead", 2.0), drive.render("aside", 2.0)
    rotation = drive.camera_pose("aside", 2.0).rotation @ drive.camera_pose("ahead", 2.0).rotation.T
    between = ahead.intrinsic_matrix @ rotation @ np.linalg.inv(ahead.intrinsic_matrix)
    size = (480, 270)
    moved = cv2.warpPerspective(first.class_map, between, size, flags=cv2.INTER_NEAREST, borderValue=254)
    valid = moved != 254
    assert valid.mean() > 0.4
    # The picture of a tree turns to each camera, and borders shift by a pixel.
    assert np.mean(moved[valid] == second.class_map[valid]) > 0.93
    shared = set(first.instance_ids) & set(second.instance_ids)
    assert shared
    assert min(shared) >= FIRST_INSTANCE


def test_random_cameras_are_plausible_and_repeat():
    drawn = [random_camera(np.random.default_rng(seed), 640, 360) for seed in range(200)]
    assert drawn[7] == random_camera(np.random.default_rng(7), 640, 360)
    assert len({camera.focal_px for camera in drawn}) == 200
    assert all(1.0 <= camera.height_m <= 2.4 and 320 <= camera.focal_px <= 704 for camera in drawn)


def test_refusals():
    with pytest.raises(ValueError, match="weather"):
        SampleDrive(1, "snow")
    with pytest.raises(ValueError, match="seed"):
        SampleDrive(-1)
    with pytest.raises(ValueError, match="duration"):
        SampleDrive(1, duration_s=0.0)
    with pytest.raises(ValueError, match="size"):
        CameraModel("c", 4, 4)
    with pytest.raises(ValueError, match="time"):
        SampleDrive(1, duration_s=1.0, cameras=default_cameras(64, 64)).render("front", 1.1)
    with pytest.raises(KeyError, match="front, left, right"):
        SampleDrive(1, duration_s=1.0, cameras=default_cameras(64, 64)).render("rear", 0.0)
