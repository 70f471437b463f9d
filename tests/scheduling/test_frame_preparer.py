"""Frames are prepared while the network is busy: the newest one of each camera, in turn, and every one is counted."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_student import write_tiny_student

from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.scheduling.frame_preparer import FramePreparer
from ros_kd_perception.scheduling.mailbox import Mailbox
from ros_kd_perception.scheduling.preparation import LocalPreparation, ReadyFrame

CAMERAS = ("front", "left", "right")
PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
FOREVER_MS = 1e9


def message(number: int, encoding: str = "bgr8") -> SimpleNamespace:
    """Stand-in for an image message. Its stamp is its number."""
    stamp = SimpleNamespace(sec=0, nanosec=number)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id="optical"),
        height=48,
        width=64,
        encoding=encoding,
        step=192,
        is_bigendian=0,
        data=PIXELS.tobytes(),
    )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


@pytest.fixture(scope="module")
def perceiver(tmp_path_factory: pytest.TempPathFactory) -> Perceiver:
    return Perceiver(OnnxModel.open(write_tiny_student(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu"))


class Rig:
    """A running preparer. The test takes the place of the network's thread."""

    def __init__(self, perceiver: Perceiver, **settings: float) -> None:
        self.mailbox: Mailbox[SimpleNamespace] = Mailbox(CAMERAS, settings.pop("max_age_ms", 0.0))
        self.sentences: list[str] = []
        self.preparer = FramePreparer(
            self.mailbox, LocalPreparation(self.mailbox, perceiver.prepare, self._drop), **settings
        )  # type: ignore[arg-type]
        self.preparer.start()

    def _drop(self, camera: str, reason: str, sentence: str) -> None:
        self.mailbox.dropped(camera, reason)
        self.sentences.append(sentence)

    def take(self) -> ReadyFrame:
        ready = self.preparer.take()
        assert ready is not None
        self.mailbox.published(ready.queued.camera)
        return ready

    def in_progress(self) -> int:
        return sum(counts.in_progress for counts in self.mailbox.counts().values())

    def dropped(self, camera: str = "front") -> dict[str, int]:
        return self.mailbox.counts()[camera].dropped


@pytest.fixture
def start(perceiver: Perceiver) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def start_one(**settings: float) -> Rig:
        rigs.append(Rig(perceiver, **settings))
        return rigs[-1]

    yield start_one
    for rig in rigs:
        rig.preparer.close()
        assert rig.preparer.join(30)


def test_a_frame_comes_out_decoded_and_letterboxed(start: Callable[..., Rig], perceiver: Perceiver) -> None:
    rig = start()
    rig.mailbox.put("front", message(7))
    ready = rig.take()
    expected = perceiver.prepare(ready.prepared.frame)
    assert (ready.prepared.frame.camera, ready.prepared.frame.stamp_ns) == ("front", 7)
    assert np.array_equal(ready.prepared.network_input, expected.network_input)
    assert ready.preparation_ms > 0
    assert ready.queued.arrival_ns <= ready.ready_ns <= time.monotonic_ns()


def test_the_next_frame_is_made_ready_while_the_network_is_busy(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.mailbox.put("front", message(1))
    rig.take()
    rig.mailbox.put("left", message(2))
    until(lambda: rig.in_progress() == 1)
    rig.mailbox.put("right", message(3))
    assert rig.mailbox.counts()["right"].waiting == 1  # only one frame is prepared ahead
    assert [rig.take().queued.camera for _ in range(2)] == ["left", "right"]


def test_preparation_waits_for_the_end_of_the_run_and_then_takes_the_newest(start: Callable[..., Rig]) -> None:
    rig = start(expected_run_ms=FOREVER_MS)
    rig.mailbox.put("front", message(1))
    rig.take()  # an idle network gets a frame at once
    for number in (2, 3, 4):
        rig.mailbox.put("front", message(number))
    assert rig.in_progress() == 0
    assert rig.take().prepared.frame.stamp_ns == 4  # a run that ends early gets the next frame at once, too
    assert rig.dropped() == {"replaced": 2}


def test_a_ready_frame_gives_way_to_newer_ones_when_the_run_takes_longer_than_expected(
    start: Callable[..., Rig],
) -> None:
    rig = start()
    rig.mailbox.put("front", message(1))
    rig.take()
    rig.mailbox.put("front", message(2))
    until(lambda: rig.in_progress() == 1)
    rig.mailbox.put("front", message(3))
    rig.mailbox.put("front", message(4))
    ready_at = time.monotonic()
    until(lambda: time.monotonic() > ready_at + 1.0)  # far beyond what a preparation takes
    assert rig.take().prepared.frame.stamp_ns == 4
    assert rig.dropped() == {"replaced": 2}
    counts = rig.mailbox.counts()["front"]
    assert (counts.received, counts.published, counts.waiting, counts.in_progress) == (4, 2, 0, 0)


def test_a_ready_frame_that_grew_too_old_is_dropped(start: Callable[..., Rig]) -> None:
    rig = start(max_age_ms=1000.0)
    rig.mailbox.put("front", message(1))
    rig.take()
    rig.mailbox.put("front", message(2))
    until(lambda: rig.in_progress() == 1)
    rig.mailbox.max_age_ms = 1e-6
    taker = threading.Thread(target=rig.preparer.take)
    taker.start()
    until(lambda: rig.dropped() == {"too_old": 1})
    rig.preparer.close()
    taker.join(30)
    assert not taker.is_alive()


def test_a_ready_frame_of_a_camera_that_was_disabled_is_dropped_as_inactive(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.mailbox.put("front", message(1))
    rig.take()
    rig.mailbox.put("front", message(2))
    until(lambda: rig.in_progress() == 1)
    rig.mailbox.set_enabled("front", False)
    rig.mailbox.put("left", message(3))
    assert rig.take().queued.camera == "left"
    assert rig.dropped() == {"inactive": 1}
    rig.mailbox.set_enabled("front", True)
    rig.mailbox.put("front", message(4))
    assert rig.take().prepared.frame.stamp_ns == 4


def test_a_camera_whose_ready_frame_gave_way_keeps_its_turn(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.mailbox.put("front", message(1))
    rig.take()
    rig.mailbox.put("left", message(2))
    until(lambda: rig.in_progress() == 1)
    rig.mailbox.put("right", message(3))
    rig.mailbox.put("left", message(4))
    ready_at = time.monotonic()
    until(lambda: time.monotonic() > ready_at + 1.0)  # far beyond what a preparation takes
    assert [rig.take().prepared.frame.stamp_ns for _ in range(2)] == [4, 3]
    assert rig.dropped("left") == {"replaced": 1}


@pytest.mark.parametrize(
    ("encoding", "height", "width", "quick"),
    [("bgr8", 48, 64, True), ("8UC3", 720, 1280, True), ("rgb8", 48, 64, False), ("bgr8", 1080, 1920, False)],
)
def test_an_idle_network_prepares_only_what_takes_no_longer_than_a_handover(
    perceiver: Perceiver, start: Callable[..., Rig], encoding: str, height: int, width: int, quick: bool
) -> None:
    rig = start()
    threads: list[str] = []

    def prepare(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return perceiver.prepare(*arguments)

    rig.preparer._preparation._make_input = prepare  # type: ignore[attr-defined]
    network = threading.Thread(target=rig.take, name="network")
    network.start()
    until(lambda: rig.preparer._idle)
    image = message(1, encoding)
    image.height, image.width, image.step, image.data = height, width, width * 3, bytes(height * width * 3)
    assert rig.mailbox.put("front", image) is quick  # only an idle consumer is woken
    network.join(30)
    assert threads == ["network" if quick else "preparation 0"]


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8"])  # prepared by the network's thread, and by the pool
def test_a_camera_that_becomes_due_wakes_the_thread_that_prepares_its_newest_message(
    start: Callable[..., Rig], encoding: str
) -> None:
    rig = start()
    rig.mailbox.set_max_rate("front", 5.0)
    taken: list[tuple[int, float]] = []

    def run_network() -> None:
        while (ready := rig.preparer.take()) is not None:
            taken.append((ready.prepared.frame.stamp_ns, time.monotonic()))
            rig.mailbox.published(ready.queued.camera)

    network = threading.Thread(target=run_network)
    network.start()
    rig.mailbox.put("front", message(1, encoding))
    until(lambda: len(taken) == 1 and rig.preparer._idle)
    for number in (2, 3):
        rig.mailbox.put("front", message(number, encoding))
    until(lambda: len(taken) == 2)
    rig.preparer.close()
    network.join(30)
    assert [stamp_ns for stamp_ns, _ in taken] == [1, 3]
    assert taken[1][1] - taken[0][1] > 0.1
    assert rig.dropped() == {"over_rate": 1}


def test_a_camera_that_becomes_due_while_the_network_is_busy_is_prepared_ahead(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.mailbox.set_max_rate("front", 5.0)
    rig.mailbox.put("front", message(1))
    rig.take()
    rig.mailbox.put("front", message(2))
    assert rig.in_progress() == 0
    until(lambda: rig.in_progress() == 1)
    assert rig.take().prepared.frame.stamp_ns == 2


def test_a_message_that_came_while_its_camera_had_a_ready_frame_is_prepared_when_the_camera_is_due(
    start: Callable[..., Rig],
) -> None:
    rig = start()
    rig.mailbox.set_max_rate("front", 5.0)
    rig.preparer._preparations_ns.append(10**9)  # a long one: no frame is replaced by a newer one
    for number in (1, 2):
        rig.mailbox.put("front", message(number, "rgb8"))
        until(lambda: len(rig.preparer._ready) == 1)
        rig.mailbox.put("front", message(3, "rgb8"))
        time.sleep(0.05)  # the pool skips the camera: it has a frame already
        rig.take()
    until(lambda: len(rig.preparer._ready) == 1)  # nothing arrives any more, and the run continues
    assert rig.take().prepared.frame.stamp_ns == 3


def test_nobody_is_woken_while_the_network_is_busy(start: Callable[..., Rig]) -> None:
    rig = start(expected_run_ms=FOREVER_MS)
    assert not rig.mailbox.put("front", message(1))
    rig.take()
    assert not rig.mailbox.put("front", message(2))


def test_cameras_whose_frames_join_a_batch_are_prepared_for_the_next(start: Callable[..., Rig]) -> None:
    rig = start(threads=3, ahead=3)
    rig.preparer._preparations_ns.append(10**9)  # a long one: no frame is replaced by a newer one
    for camera in CAMERAS:
        rig.mailbox.put(camera, message(1, "rgb8"))
    until(lambda: len(rig.preparer._ready) == len(CAMERAS))
    for camera in CAMERAS:
        rig.mailbox.put(camera, message(2, "rgb8"))
    rig.take()
    until(lambda: len(rig.preparer._ready) == len(CAMERAS))
    time.sleep(0.05)  # the pool skips the other two cameras: each has a frame already
    assert len(rig.preparer.take_batch(2)) == 2
    # No more messages arrive and the run continues. Their frames must still be prepared.
    until(lambda: len(rig.preparer._ready) == len(CAMERAS))


def test_bad_messages_never_reach_the_network(start: Callable[..., Rig]) -> None:
    rig = start()
    for number in range(10):
        rig.mailbox.put("front", message(number, encoding="rgb9"))
        until(lambda number=number: rig.dropped() == {"unknown_encoding": number + 1})
    rig.mailbox.put("front", message(10))
    assert rig.take().prepared.frame.stamp_ns == 10
    assert "rgb9" in rig.sentences[0]


def test_what_raises_unexpectedly_loses_its_frame_only(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.mailbox.put("front", SimpleNamespace(encoding="bgr8"))
    until(lambda: rig.dropped() == {"failed": 1})
    assert "AttributeError" in rig.sentences[0]
    rig.mailbox.put("front", message(1))
    assert rig.take().prepared.frame.stamp_ns == 1


def test_closing_drops_what_is_ready_and_ends_every_thread(start: Callable[..., Rig]) -> None:
    rig = start(threads=2, ahead=2)
    rig.mailbox.put("front", message(1))
    rig.take()
    rig.mailbox.put("front", message(2))
    rig.mailbox.put("left", message(3))
    until(lambda: rig.in_progress() == 2)
    assert rig.preparer.alive
    rig.preparer.close()
    assert rig.preparer.take() is None
    assert rig.preparer.join(30)
    assert not rig.preparer.alive
    assert rig.dropped("front") == rig.dropped("left") == {"inactive": 1}


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (3, 3), (2, 3)])
def test_frames_of_a_camera_stay_in_order_and_all_are_accounted_for(
    start: Callable[..., Rig], threads: int, ahead: int
) -> None:
    rig = start(threads=threads, ahead=ahead)
    stamps: dict[str, list[int]] = defaultdict(list)

    def run_network() -> None:
        while (ready := rig.preparer.take()) is not None:
            stamps[ready.queued.camera].append(ready.prepared.frame.stamp_ns)
            rig.mailbox.published(ready.queued.camera)

    network = threading.Thread(target=run_network)
    network.start()
    for number in range(1, 301):
        rig.mailbox.put(CAMERAS[number % 3], message(number, encoding="bgr8" if number % 10 else "rgb9"))
        if number % 7 == 0:
            time.sleep(0.001)
    until(lambda: not any(c.waiting or c.in_progress for c in rig.mailbox.counts().values()))
    rig.preparer.close()
    network.join(30)
    for camera, counts in rig.mailbox.counts().items():
        assert counts.received == 100 == counts.published + sum(counts.dropped.values())
        assert stamps[camera] == sorted(stamps[camera])
        assert len(stamps[camera]) == counts.published > 0
