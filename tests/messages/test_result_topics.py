"""Tests when a frame has messages for planners: with parameters and a calibration of its size, and else why not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_student import CONTRACT

from ros_kd_perception.bag_replay import BagReplay
from ros_kd_perception.bags.message_types import rosbags_message_types
from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.parameters import FreeSpaceParameters, GroundPointParameters
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.optional_outputs import OptionalOutputs
from ros_kd_perception.messages.result_topics import FRAME_TOPICS, NoMessage, PerceivedFrame
from ros_kd_perception.replay_pipeline import ReplayedInfo
from ros_kd_perception.structures import Perception, RegionOfInterest, Timing, UncertaintyCells

BUILDER = MessageBuilder(rosbags_message_types(), CONTRACT)
POSE = CameraPose.from_mounting(0.0, 0.0, 1.0, 0.0, 10.0, 0.0)
GROUND = FreeSpaceParameters(grounds={"front": GroundPointParameters("base_link", False, POSE, 4, 30.0)})
ON_GROUND = {"ground/points", "ground/segmentation", "ground/confidence", "ground/camera_info"}
ROWS = {topic.name: topic for topic in FRAME_TOPICS}


def camera_info(width: int = 64, height: int = 48, focal_px: float = 50.0) -> SimpleNamespace:
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    k = [focal_px, 0.0, width / 2, 0.0, focal_px, height / 2, 0.0, 0.0, 1.0]
    p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    return SimpleNamespace(width=width, height=height, distortion_model="plumb_bob", d=[], k=k, r=k, p=p, binning_x=0,
                           binning_y=0, roi=roi)  # fmt: skip


def perception(*, with_uncertainty: bool = True) -> Perception:
    region = RegionOfInterest(0, 0, 64, 48)
    values = np.zeros((2, 2), np.float32) if with_uncertainty else None
    cells = UncertaintyCells(region, 32.0, 32.0) if with_uncertainty else None
    return Perception("front", 7, "optical", np.full((48, 64), 3, np.uint8), None, values, Timing(0.0, 0.0, 0.0), cells)


def built(frame: PerceivedFrame) -> dict[str, Any]:
    """Return the messages of the topics for planners."""
    names = {"confidence", "camera_info", *ON_GROUND}
    return {name: message for name in names if (message := ROWS[name].build(frame)) is not None}


def test_nothing_is_made_without_parameters() -> None:
    finder = FreeSpaceFinder(FreeSpaceParameters(), CONTRACT)
    assert built(PerceivedFrame(perception(), BUILDER, finder)) == {}
    assert built(PerceivedFrame(perception(), BUILDER)) == {}


def test_each_output_is_made_of_what_it_needs() -> None:
    finder = FreeSpaceFinder(GROUND, CONTRACT)
    wanted, fields = OptionalOutputs(confidence=True, camera_info=True), CameraInfoFields.from_message(camera_info())
    assert set(built(PerceivedFrame(perception(), BUILDER, finder, optional=wanted))) == {"confidence"}
    finder.calibrate("front", camera_info())
    everything = built(PerceivedFrame(perception(), BUILDER, finder, optional=wanted, camera_info=fields))
    assert set(everything) == {"confidence", "camera_info"} | ON_GROUND
    assert {(m.header.stamp.nanosec, m.header.frame_id) for m in everything.values()} == {(7, "optical")}
    assert {(everything[name].height, everything[name].width) for name in ON_GROUND} == {(12, 16)}
    without = built(
        PerceivedFrame(perception(with_uncertainty=False), BUILDER, finder, optional=wanted, camera_info=fields)
    )
    assert set(without) == {"camera_info"} | ON_GROUND - {"ground/confidence"}


@pytest.mark.parametrize("name", [*sorted(ON_GROUND), "camera_info"])
def test_a_calibration_of_another_size_is_told(name: str) -> None:
    finder = FreeSpaceFinder(GROUND, CONTRACT)
    finder.calibrate("front", camera_info(32, 24))
    fields = CameraInfoFields.from_message(camera_info(32, 24))
    frame = PerceivedFrame(
        perception(), BUILDER, finder, optional=OptionalOutputs(camera_info=True), camera_info=fields
    )
    with pytest.raises(NoMessage, match="of 32x24, the size in the CameraInfo, got 64x48; calibrate the camera"):
        ROWS[name].build(frame)


def test_a_replay_tells_once_why_a_calibration_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    model = SimpleNamespace(contract=CONTRACT, provider=SimpleNamespace(what_runs="nothing"))
    finder = FreeSpaceFinder(GROUND, CONTRACT)
    replay = BagReplay(
        SimpleNamespace(model=model), BUILDER, SimpleNamespace(), ["front"], finder=finder,
        optional=OptionalOutputs(camera_info=True),
    )  # fmt: skip
    replay.take_camera_info(ReplayedInfo("front", camera_info(), None))
    assert finder.ground("front") is not None
    for _ in range(2):
        replay.take_camera_info(ReplayedInfo("front", camera_info(focal_px=0.0), None))
    assert finder.ground("front") is None
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(": expected")[0] for line in told] == [
        "front: no points on the ground", "front: no camera_info",
    ]  # fmt: skip
    assert all("because an uncalibrated one sends zeros" in line for line in told)
