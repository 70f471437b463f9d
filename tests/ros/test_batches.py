"""Frames of several cameras in one run of the network, as on a GPU. Here the CPU is made to run batches."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from ros_graph import camera_picture, image_message
from sensor_msgs.msg import Image
from tiny_student import diverge_on_black, write_tiny_student

from ros_kd_perception.health.stamp_age import StampAge
from ros_kd_perception.health.status import CameraHealth
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.model.onnx_model import NetworkOutputs, OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.ros.installed_messages import rclpy_message_types
from ros_kd_perception.scheduling.frame_preparer import FramePreparer
from ros_kd_perception.scheduling.mailbox import Mailbox
from ros_kd_perception.scheduling.preparation import ReadyFrame
from ros_kd_perception.scheduling.result_sink import FrameResult, ResultSink
from ros_kd_perception.scheduling.worker import PerceptionWorker

CAMERAS = ("front", "left", "right")
T0 = 1_700_000_000_000_000_000


class Results(ResultSink):
    """Builds the mask of each frame and copies it: the message is valid only until the next one."""

    name = "results"

    def __init__(self, contract: ModelContract) -> None:
        self._builder = MessageBuilder(rclpy_message_types(), contract, reuse_parts=True)
        self.masks: dict[str, list[np.ndarray]] = {camera: [] for camera in CAMERAS}

    def publish(self, result: FrameResult) -> None:
        message = self._builder.segmentation(result.perception)
        result.hand_over()
        mask = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
        self.masks[result.frame.camera].append(mask.copy())


class Rig:
    def __init__(self, path: Path, max_batch: int) -> None:
        self.model = OnnxModel.open(path, device="cpu", intra_op_threads=1)
        self.model.max_batch = max_batch
        self.sizes: list[int] = []
        self._run = self.model.run
        self.model.run = self.run  # type: ignore[method-assign]
        self.mailbox: Mailbox[Image] = Mailbox(CAMERAS)
        self.results = Results(self.model.contract)
        self.warnings: list[str] = []
        self.fails = False
        self.worker = PerceptionWorker(
            self.mailbox,
            Perceiver(self.model),
            [self.results],
            {camera: CameraHealth(camera, 2000) for camera in CAMERAS},
            StampAge(100.0, lambda: T0, self.warnings.append),
            self.warnings.append,
        )

    def run(self, images: np.ndarray) -> NetworkOutputs:
        if self.fails:
            raise RuntimeError("the device fell off the bus")
        self.sizes.append(len(images))
        return self._run(images)

    def ready(self, camera: str, message: Image) -> ReadyFrame:
        self.mailbox.open()
        self.mailbox.put(camera, message)
        queued = self.mailbox.take(0)
        assert queued is not None
        ready = self.worker.new_preparation().prepare(queued)
        assert ready is not None
        return ready

    def batch(self, stamp: int) -> list[ReadyFrame]:
        """One picture for each camera, each of a different size."""
        return [
            self.ready(camera, image_message(camera_picture(60 + 20 * i, 100 + 30 * i, seed=stamp + i), T0 + stamp))
            for i, camera in enumerate(CAMERAS)
        ]


@pytest.fixture
def rig(tiny_student: Path) -> Rig:
    return Rig(tiny_student, 3)


def test_a_batch_gives_every_camera_the_result_of_a_single_run(rig: Rig, tiny_student: Path) -> None:
    rig.worker.process(*rig.batch(1))
    alone = Rig(tiny_student, 1)
    for ready in alone.batch(1):
        alone.worker.process(ready)
    assert (rig.sizes, alone.sizes) == ([3], [1, 1, 1])
    for camera in CAMERAS:
        (together,), (by_itself,) = rig.results.masks[camera], alone.results.masks[camera]
        assert (together == by_itself).all()
        assert rig.mailbox.counts()[camera].published == 1


def test_every_batch_size_is_warmed_up_before_frames_come(rig: Rig) -> None:
    assert Perceiver(rig.model).warm_up() > 0
    assert rig.sizes == [3, 3, 3, 2, 2, 2, 1, 1, 1]


def test_more_frames_than_fit_in_a_batch_run_in_several(tiny_student: Path) -> None:
    rig = Rig(tiny_student, 2)
    rig.worker.process(*rig.batch(1))
    assert rig.sizes == [2, 1]
    assert all(len(masks) == 1 for masks in rig.results.masks.values())


def test_a_bad_frame_does_not_affect_its_batch_and_a_failed_run_drops_it_all(rig: Rig) -> None:
    rig.worker.process(*rig.batch(1))
    again = rig.ready("left", image_message(camera_picture(80, 130), T0 - 10**9))  # older than the limit
    front, right = (ready for ready in rig.batch(2) if ready.queued.camera != "left")
    rig.worker.process(front, again, right)
    assert rig.sizes == [3, 2]
    counts = rig.mailbox.counts()
    assert {camera: counts[camera].published for camera in CAMERAS} == {"front": 2, "left": 1, "right": 2}
    assert sum(counts["left"].dropped.values()) == 1
    rig.fails = True
    rig.worker.process(*rig.batch(3))
    rig.fails = False
    assert all(rig.mailbox.counts()[camera].dropped["failed"] == 1 for camera in CAMERAS)
    rig.worker.process(*rig.batch(4))
    assert rig.sizes == [3, 2, 3]


def test_nan_in_one_frame_drops_no_other_frame_of_its_batch(tmp_path: Path) -> None:
    rig = Rig(write_tiny_student(tmp_path / "nan.onnx", change_graph=diverge_on_black), 3)
    front = rig.ready("front", image_message(camera_picture(), T0 + 1))
    left = rig.ready("left", image_message(np.zeros((96, 160, 3), np.uint8), T0 + 1))
    right = rig.ready("right", image_message(camera_picture(), T0 + 1))
    rig.worker.process(front, left, right)
    counts = rig.mailbox.counts()
    assert [counts[camera].published for camera in CAMERAS] == [1, 0, 1]
    assert [counts[camera].dropped.get("failed", 0) for camera in CAMERAS] == [0, 1, 0]
    assert "dropped a frame of left, failed" in rig.warnings[0]
    assert "expected finite uncertainty" in rig.warnings[0]


def test_the_network_adds_ready_frames_to_a_batch_and_waits_for_no_others(rig: Rig) -> None:
    preparer = FramePreparer(rig.mailbox, rig.worker.new_preparation(), 2, 3)
    preparer.start()
    rig.mailbox.put("front", image_message(camera_picture(), T0 + 1))
    first = preparer.take()
    assert first is not None
    assert preparer.take_batch(2) == []  # no other camera has sent a frame
    for camera in ("left", "right"):
        rig.mailbox.put(camera, image_message(camera_picture(), T0 + 2))
    also: list[ReadyFrame] = []
    deadline = time.monotonic() + 60
    while len(also) < 2:  # the pool prepares them while the network is busy with the first one
        also += preparer.take_batch(2 - len(also))
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert {ready.queued.camera for ready in also} == {"left", "right"}
    rig.worker.process(first, *also)
    assert rig.sizes == [3]
    preparer.close()
    assert preparer.join(30)
