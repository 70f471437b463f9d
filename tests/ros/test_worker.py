"""The worker thread without a ROS graph: no frame and no sink can end it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ros_graph import camera_picture, image_message
from sensor_msgs.msg import Image
from tiny_student import HEIGHT, WIDTH, contract_with, write_tiny_model

from ros_kd_perception.health.stamp_age import StampAge
from ros_kd_perception.health.status import CameraHealth, CameraLink, FrameTimes, Level, worker_problem
from ros_kd_perception.model.contract import InputSpec
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver, PreparedFrame
from ros_kd_perception.scheduling.mailbox import Mailbox
from ros_kd_perception.scheduling.result_sink import FrameResult, ResultSink
from ros_kd_perception.scheduling.worker import ModelSwap, PerceptionWorker
from ros_kd_perception.system.warning_throttle import WARNING_PERIOD_S

T0 = 1_700_000_000_000_000_000


class Results(ResultSink):
    """The first sink: keeps the stamps of the frames that it gets."""

    name = "results"

    def __init__(self) -> None:
        self.stamps_ns: list[int] = []
        self.fails = False
        self.arrived = threading.Condition()

    def publish(self, result: FrameResult) -> None:
        if self.fails:
            raise RuntimeError("the middleware is out of memory")
        result.hand_over()
        with self.arrived:
            self.stamps_ns.append(result.perception.stamp_ns - T0)
            self.arrived.notify_all()


class Output(ResultSink):
    """Another sink: keeps the times of the frames that it gets."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]
        self.times: list[FrameTimes] = []
        self.fails = False

    def publish(self, result: FrameResult) -> None:
        if self.fails:
            raise RuntimeError("the context is invalid")
        self.times.append(result.times)


class Rig:
    def __init__(self, model: Path, stamp_age_ms: float = 0.0) -> None:
        self.mailbox: Mailbox[Image] = Mailbox(["front"])
        self.model = OnnxModel.open(model, device="cpu", intra_op_threads=1)
        self.results = Results()
        self.outputs = [Output("scan"), Output("overlay")]
        self.health = CameraHealth("front", 2000)
        self.warnings: list[str] = []
        self.now_ns = T0
        self.worker = PerceptionWorker(
            self.mailbox,
            Perceiver(self.model),
            [self.results, *self.outputs],
            {"front": self.health},
            StampAge(stamp_age_ms, lambda: self.now_ns, self.warnings.append),
            self.warnings.append,
        )

    def process(self, message: Image) -> None:
        self.mailbox.open()
        self.mailbox.put("front", message)
        queued = self.mailbox.take(0)
        assert queued is not None
        ready = self.worker.new_preparation().prepare(queued)
        if ready is not None:
            self.worker.process(ready)

    @property
    def drops(self) -> dict[str, int]:
        return self.mailbox.counts()["front"].dropped


@pytest.fixture
def rig(tiny_student: Path) -> Rig:
    return Rig(tiny_student)


def test_a_message_is_published_counted_and_timed(rig: Rig) -> None:
    rig.process(image_message(camera_picture(), T0 + 7))
    assert rig.results.stamps_ns == [7]
    counts = rig.mailbox.counts()["front"]
    assert (counts.received, counts.published, counts.dropped) == (1, 1, {})
    status = rig.health.status(time.monotonic_ns(), counts, CameraLink("/front/image_raw", 1), 0)
    values = dict(status.values)
    assert 0 < float(values["processing_ms.p50"]) <= float(values["latency_ms.p50"]) < 1000
    for output in rig.outputs:
        assert [f"{times.latency_ms:.2f}" for times in output.times] == [values["latency_ms.p50"]]


def test_a_frame_that_waited_during_a_reload_reaches_the_sinks_with_the_geometry_of_the_new_model(
    rig: Rig, tmp_path: Path
) -> None:
    larger = write_tiny_model(tmp_path / "larger.onnx", contract_with(input=InputSpec(HEIGHT * 2, WIDTH * 2)))
    perceiver = Perceiver(OnnxModel.open(larger, device="cpu", intra_op_threads=1))
    seen: list[PreparedFrame] = []
    rig.results.publish = lambda result: seen.append(result.ready.prepared)  # type: ignore[method-assign]
    rig.mailbox.open()
    rig.mailbox.put("front", image_message(camera_picture(), T0))
    queued = rig.mailbox.take(0)
    assert queued is not None
    ready = rig.worker.new_preparation().prepare(queued)
    assert ready is not None
    assert rig.worker.swap(ModelSwap(perceiver, lambda: None), threading.Event(), 1.0)
    rig.worker.process(ready)
    assert [one.geometry for one in seen] == [perceiver.geometry_of(ready.prepared.frame)]
    assert seen[0].geometry != ready.prepared.geometry
    # The buffer that is given back is the one of the old model; that of the new one belongs to the result.
    assert seen[0].network_input is not ready.prepared.network_input


def test_a_failed_run_loses_only_its_frame(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(images: Any) -> Any:
        raise RuntimeError("the device fell off the bus")

    with monkeypatch.context() as broken:
        broken.setattr(rig.model, "run", fail)
        for stamp in range(20):
            rig.process(image_message(camera_picture(), T0 + stamp))
    rig.process(image_message(camera_picture(), T0 + 20))
    assert rig.drops == {"failed": 20}
    assert rig.results.stamps_ns == [20]
    assert len(rig.warnings) == 1  # throttled
    assert "the device fell off the bus" in rig.warnings[0]


def test_a_frame_whose_first_sink_fails_is_lost_and_no_other_sink_gets_it(rig: Rig) -> None:
    rig.results.fails = True
    rig.process(image_message(camera_picture(), T0 + 1))
    rig.results.fails = False
    rig.process(image_message(camera_picture(), T0 + 2))
    assert rig.drops == {"failed": 1}
    assert rig.results.stamps_ns == [2]
    assert [len(output.times) for output in rig.outputs] == [1, 1]
    assert "the middleware is out of memory" in rig.warnings[0]


def test_a_failure_of_another_sink_is_logged_and_does_not_affect_other_sinks(rig: Rig) -> None:
    rig.outputs[0].fails = True
    rig.process(image_message(camera_picture(), T0 + 1))
    rig.process(image_message(camera_picture(), T0 + 2))
    assert rig.results.stamps_ns == [1, 2]
    assert rig.drops == {}
    assert len(rig.outputs[1].times) == 2
    assert len(rig.warnings) == 1  # throttled
    assert "failed to publish scan of front: " in rig.warnings[0]
    assert "the context is invalid" in rig.warnings[0]


def test_warnings_of_different_reasons_do_not_hide_each_other(rig: Rig) -> None:
    for _ in range(3):
        rig.process(image_message(camera_picture(), 0))
        message = image_message(camera_picture(), T0)
        message.encoding = "rgb9"
        rig.process(message)
    assert rig.drops == {"zero_stamp": 3, "unknown_encoding": 3}
    assert len(rig.warnings) == 2


def test_the_thread_starts_again_after_a_stop_and_forgets_old_stamps(rig: Rig) -> None:
    for _ in range(2):
        rig.worker.start()
        assert worker_problem(rig.worker.liveness()) == ""
        with rig.results.arrived:
            rig.mailbox.put("front", image_message(camera_picture(), T0 + 5))
            assert rig.results.arrived.wait_for(lambda: rig.results.stamps_ns == [5], 10)
            rig.results.stamps_ns.clear()
        assert rig.worker.stop(10)
        assert not rig.worker.liveness().alive
        rig.mailbox.put("front", image_message(camera_picture(), T0 + 6))
    assert rig.drops == {"inactive": 2}


def test_stamps_older_than_the_limit_are_dropped(tiny_student: Path) -> None:
    rig = Rig(tiny_student, stamp_age_ms=100)
    rig.now_ns = T0 + 50 * 10**6
    rig.process(image_message(camera_picture(), T0))
    rig.now_ns = T0 + 150 * 10**6
    rig.process(image_message(camera_picture(), T0 + 1))
    assert rig.drops == {"stale": 1}
    assert rig.results.stamps_ns == [0]


def test_stamps_of_another_clock_suspend_the_limit_with_one_warning(tiny_student: Path) -> None:
    rig = Rig(tiny_student, stamp_age_ms=100)
    rig.now_ns = T0 + 3600 * 10**9
    for stamp in range(3):
        rig.process(image_message(camera_picture(), T0 + stamp))
    assert rig.results.stamps_ns == [0, 1, 2]
    assert len(rig.warnings) == 1
    assert "use_sim_time" in rig.warnings[0]
    rig.process(image_message(camera_picture(), rig.now_ns))
    assert "applies to front again" in rig.warnings[1]


def test_stamps_ahead_of_the_clock_suspend_the_limit_because_they_have_no_age(tiny_student: Path) -> None:
    rig = Rig(tiny_student, stamp_age_ms=100)
    rig.now_ns = T0
    rig.process(image_message(camera_picture(), T0 + 90 * 10**6))  # as far behind as a slow /clock may be
    assert not rig.health.stamp_limit_suspended
    rig.process(image_message(camera_picture(), T0 + 6 * 10**9))
    assert rig.health.stamp_limit_suspended
    assert "6 s ahead of the clock" in rig.warnings[0]
    status = rig.health.status(time.monotonic_ns(), rig.mailbox.counts()["front"], CameraLink("/front/image_raw", 1), 0)
    assert (status.level, dict(status.values)["state"]) == (Level.WARN, "clocks_apart")
    unlimited = StampAge(0.0, lambda: T0, rig.warnings.append)
    assert unlimited.check("front", T0 + 6 * 10**9) == -6000.0


def test_a_stale_frame_ends_the_suspension_of_the_limit(tiny_student: Path) -> None:
    rig = Rig(tiny_student, stamp_age_ms=100)
    rig.now_ns = T0 + 3600 * 10**9
    rig.process(image_message(camera_picture(), T0))
    assert rig.health.stamp_limit_suspended
    rig.process(image_message(camera_picture(), rig.now_ns - 10**9))
    assert rig.drops == {"stale": 1}
    assert not rig.health.stamp_limit_suspended


def test_stamps_that_jump_do_not_flood_the_log() -> None:
    warnings: list[str] = []
    now_ns = T0
    stamp_age = StampAge(200.0, lambda: now_ns, warnings.append)
    started_s = time.monotonic()
    for frame in range(300):
        now_ns += 33_333_333
        for camera in ("front", "rear"):
            stamp_age.check(camera, now_ns + (15 * 10**9 if frame % 6 == 5 else 0))
    periods = 1 + (time.monotonic() - started_s) // WARNING_PERIOD_S
    # Two kinds of warnings for each of two cameras.
    assert 4 <= len(warnings) <= 4 * periods
