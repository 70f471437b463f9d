"""The exact motion of pixels: labels do not flip along it, and points move where geometry says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ros_kd_perception.sample_drive import SampleDrive, default_cameras
from ros_kd_perception.sample_drive.canvas.canvas import SEEN_THROUGH
from ros_kd_perception.sample_drive.classes import ROAD, SKY
from ros_kd_perception.sample_drive.drive import RenderedView
from ros_kd_perception.sample_drive.flow import Flow, exact_flow

TIMES_S = (1.4, 1.5)


@pytest.fixture(scope="module")
def drive() -> SampleDrive:
    return SampleDrive(7001, "day", 4.0, default_cameras(480, 270))


@pytest.fixture(scope="module")
def views(drive: SampleDrive) -> tuple[RenderedView, RenderedView]:
    earlier, later = (drive.render("front", time_s, keeps_surface=True) for time_s in TIMES_S)
    return earlier, later


@pytest.fixture(scope="module")
def flow(drive: SampleDrive, views: tuple[RenderedView, RenderedView]) -> Flow:
    return exact_flow(drive, "front", TIMES_S, views)


def test_labels_do_not_flip_along_the_flow(flow, views):
    earlier, later = views
    assert flow.visible.mean() > 0.85
    flips = flow.visible & (flow.brought(earlier.class_map) != later.class_map)
    assert flips.sum() / flow.visible.sum() < 0.004
    assert np.mean(earlier.class_map != later.class_map) > 0.02  # the drive does move


@pytest.mark.parametrize("camera", ["left", "right"])
def test_labels_do_not_flip_in_cameras_that_look_to_a_side(drive, camera):
    views = tuple(drive.render(camera, time_s, keeps_surface=True) for time_s in TIMES_S)
    flow = exact_flow(drive, camera, TIMES_S, views)
    flips = flow.visible & (flow.brought(views[0].class_map) != views[1].class_map)
    assert flips.sum() / flow.visible.sum() < 0.01


def test_the_warped_picture_resembles_the_next_one(flow, views):
    earlier, later = (view.image_bgr.astype(np.float32) for view in views)
    warped = flow.brought(earlier, cv2.INTER_LINEAR)
    along = np.abs(warped - later).mean(axis=-1)[flow.visible].mean()
    beside = np.abs(earlier - later).mean(axis=-1)[flow.visible].mean()
    assert along < 0.5 * beside


def test_vehicles_and_people_stay_themselves(flow, views):
    earlier, later = views
    ids = flow.brought(earlier.identities.astype(np.float32)).astype(int)
    objects = flow.visible & (later.identities >= 100)
    assert objects.sum() > 500
    assert np.mean(ids[objects] == later.identities[objects]) > 0.98


def test_a_point_on_the_road_moves_as_the_camera_does(drive, flow, views):
    rows, columns = np.nonzero(flow.visible & (views[1].class_map == ROAD))
    camera = drive.cameras[0]
    before, after = (drive.camera_pose("front", time_s) for time_s in TIMES_S)
    for place in range(0, len(rows), len(rows) // 7):
        pixel = np.array([columns[place], rows[place], 1.0])
        ray = np.linalg.inv(camera.intrinsic_matrix) @ pixel @ after.rotation
        point = after.position + ray * (-after.position[2] / ray[2])  # on the ground
        expected = camera.project(before.to_camera(point[None]))[0]
        assert flow.places[rows[place], columns[place]] == pytest.approx(expected, abs=0.1)


def test_the_sky_only_turns(drive, flow, views):
    sky = views[1].class_map == SKY
    poses = [drive.camera_pose("front", time_s) for time_s in TIMES_S]
    matrix = drive.cameras[0].intrinsic_matrix
    turn = matrix @ poses[0].rotation @ poses[1].rotation.T @ np.linalg.inv(matrix)
    rows, columns = np.nonzero(sky)
    expected = turn @ np.stack([columns, rows, np.ones_like(rows)])
    assert np.allclose(flow.places[sky], (expected[:2] / expected[2]).T, atol=0.05)


def test_what_was_hidden_is_not_visible(drive, views, flow):
    """Pixels beside a near car that was in front of them in the earlier frame must not count."""
    earlier, later = views
    ids = flow.brought(earlier.identities.astype(np.float32)).astype(int)
    static = later.identities < 100
    hidden = static & (ids >= 100)  # an object stood there
    assert hidden.sum() > 20
    assert flow.visible[hidden].mean() < 0.35  # the rest: feet and tyres, which are as far away as the ground there


def test_no_time_is_no_motion(drive, views):
    flow = exact_flow(drive, "front", (TIMES_S[1], TIMES_S[1]), (views[1], views[1]))
    columns, rows = np.meshgrid(np.arange(480), np.arange(270))
    assert np.allclose(flow.places, np.stack([columns, rows], axis=-1), atol=1e-2)
    inner = flow.visible[2:-2, 2:-2]
    assert np.array_equal(inner, (views[1].surface != SEEN_THROUGH)[2:-2, 2:-2])


def test_the_surface_does_not_change_the_picture(drive, views):
    plain = drive.render("front", TIMES_S[1])
    assert plain.surface is None
    for field in ("image_bgr", "class_map", "boxes_xyxy", "identities"):
        assert np.array_equal(getattr(plain, field), getattr(views[1], field))
    with pytest.raises(ValueError, match="keeps_surface"):
        exact_flow(drive, "front", TIMES_S, (views[0], plain))
