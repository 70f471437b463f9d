"""The replay reads ahead: the same results in the same order, errors and interrupts in their place, bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bag import write_small_bag
from tiny_student import contract_with, write_tiny_model, write_tiny_student

from ros_kd_perception import replay_pipeline
from ros_kd_perception.bags.reader import BagError, BagReader
from ros_kd_perception.model.contract import InputSpec
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.replay import main
from ros_kd_perception.replay_pipeline import ReplayedFrame, ReplayedInfo, ReplayPipeline
from ros_kd_perception.structures import BadFrame, Frame, Perception

LIMIT_S = 30.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_student(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def perceiver(model: Path) -> Perceiver:
    return Perceiver(OnnxModel.open(model, device="cpu", intra_op_threads=1))


@pytest.fixture(scope="module")
def bag_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", frames=20)


@pytest.fixture
def bag(bag_path: Path) -> Iterator[BagReader]:
    with BagReader(bag_path) as opened:
        yield opened


def frames_of(results: Iterator[ReplayedFrame | ReplayedInfo]) -> list[ReplayedFrame]:
    return [result for result in results if isinstance(result, ReplayedFrame)]


def take_all(pipeline: ReplayPipeline, found: list[ReplayedFrame | ReplayedInfo]) -> None:
    with pipeline as results:
        found.extend(results)


class HeldRuns:
    """Holds every run of the network until the test releases it, by the number of its frame."""

    def __init__(self, perceiver: Perceiver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started = threading.Semaphore(0)
        self._release: dict[int, threading.Event] = {}
        self._lock = threading.Lock()
        run = perceiver.perceive_prepared

        def held(prepared: Any) -> list[Perception]:
            self.started.release()
            assert self.release(prepared[0].frame.stamp_ns).wait(LIMIT_S)
            return run(prepared)

        monkeypatch.setattr(perceiver, "perceive_prepared", held)

    def release(self, stamp_ns: int) -> threading.Event:
        with self._lock:
            return self._release.setdefault(stamp_ns, threading.Event())


@pytest.mark.parametrize("runs", [1, 3])
def test_results_come_in_the_order_of_the_bag_and_are_those_of_one_frame_after_the_other(
    bag: BagReader, perceiver: Perceiver, runs: int
) -> None:
    with ReplayPipeline(bag, perceiver, runs) as results:
        found = frames_of(iter(results))
    assert [(frame.log_time_ns, frame.camera) for frame in found] == [
        (message.log_time_ns, camera) for camera, message in bag.frames()
    ]
    for replayed in found:
        assert isinstance(replayed.outcome, Perception)
        assert replayed.frame is not None
        [alone] = perceiver.perceive([replayed.frame])
        assert replayed.outcome.stamp_ns == replayed.frame.stamp_ns
        assert np.array_equal(replayed.outcome.class_map, alone.class_map)
        assert np.array_equal(replayed.outcome.detections.boxes_xyxy, alone.detections.boxes_xyxy)


def test_a_later_run_that_ends_first_does_not_overtake(
    bag: BagReader, perceiver: Perceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = HeldRuns(perceiver, monkeypatch)
    stamps = [message.log_time_ns for _, message in bag.frames()]
    for stamp_ns in stamps[1:]:
        runs.release(stamp_ns).set()
    with ReplayPipeline(bag, perceiver, 2) as results:
        first: deque[ReplayedFrame | ReplayedInfo] = deque()
        taking = threading.Thread(target=lambda: first.extend(frames_of(iter(results))))
        taking.start()
        for _ in range(3):  # the first run, and two that overtake it
            assert runs.started.acquire(timeout=LIMIT_S)
        assert not first
        runs.release(stamps[0]).set()
        taking.join(LIMIT_S)
    assert [frame.log_time_ns for frame in first] == stamps


def test_reading_stops_when_enough_frames_wait(
    bag: BagReader, perceiver: Perceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = counted_frames(monkeypatch)
    with ReplayPipeline(bag, perceiver, 2) as results:
        taken = iter(results)
        for number in range(1, 6):
            next(taken)
            # 4 wait, one is in preparation.
            assert reached(read, number + 5)
            assert not read.acquire(timeout=0.05)
            for _ in range(number + 5):
                read.release()


def counted_frames(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Count the frames that are read and decoded."""
    read, read_camera_frames = threading.Semaphore(0), replay_pipeline.read_camera_frames

    def counting(*arguments: Any) -> Iterator[Any]:
        for found in read_camera_frames(*arguments):
            read.release()
            yield found

    monkeypatch.setattr(replay_pipeline, "read_camera_frames", counting)
    return read


def reached(semaphore: threading.Semaphore, count: int) -> bool:
    return all(semaphore.acquire(timeout=LIMIT_S) for _ in range(count))


def test_large_pictures_wait_in_smaller_numbers(
    bag: BagReader, perceiver: Perceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture_bytes = next(frame for _, _, frame in replay_pipeline.read_camera_frames(bag)).image_bgr.nbytes
    monkeypatch.setattr(replay_pipeline, "MAX_WAITING_BYTES", 2 * picture_bytes)
    read = counted_frames(monkeypatch)
    with ReplayPipeline(bag, perceiver, 8) as results:
        next(iter(results))
        assert reached(read, 1 + 2 + 1)  # one is taken, two wait, one is in preparation
        assert not read.acquire(timeout=0.05)
    monkeypatch.setattr(replay_pipeline, "MAX_WAITING_BYTES", 1)  # every picture is larger
    with ReplayPipeline(bag, perceiver, 8) as results:
        assert len(frames_of(iter(results))) == 40


def test_damage_is_reported_after_the_frames_before_it(
    bag_path: Path, perceiver: Perceiver, tmp_path: Path, model: Path
) -> None:
    content = bytearray(bag_path.read_bytes())
    content[content.rindex(b"zstd", 0, len(content) * 3 // 4) + 24] ^= 0xFF  # inside a chunk in the middle
    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(content)
    found: list[ReplayedFrame | ReplayedInfo] = []
    with pytest.raises(BagError, match=r"damaged\.mcap"), BagReader(damaged) as bag:
        take_all(ReplayPipeline(bag, perceiver, 2), found)
    assert 0 < len(found) < 40
    assert all(isinstance(result.outcome, Perception) for result in found)
    # A replay that ends before the damage does not meet it.
    few = ["--limit", str(len(found)), "--threads", "2", "--quiet", "--model", str(model)]
    assert main([str(damaged), "-o", str(tmp_path / "few.mcap"), *few]) == 0


def test_camera_infos_keep_their_place_between_the_frames(bag: BagReader, perceiver: Perceiver) -> None:
    with ReplayPipeline(bag, perceiver, 2, with_camera_infos=True) as results:
        found = [(type(result).__name__, result.camera) for result in results]
    # The first CameraInfo of each camera is also yielded before all messages.
    assert found[:4] == [("ReplayedInfo", camera) for camera in ("front", "left", "front", "left")]
    assert found[4:] == [("ReplayedFrame", camera) for _ in range(20) for camera in ("front", "left")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_leaving_in_the_middle_ends_the_threads(
    bag: BagReader, perceiver: Perceiver, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    read = counted_frames(monkeypatch)

    def leave() -> None:
        with ReplayPipeline(bag, perceiver, 2) as results:
            next(iter(results))
            assert reached(read, 6)  # the reader waits for room
            raise error

    with pytest.raises(error):
        leave()
    names = {thread.name for thread in threading.enumerate()}
    assert not [name for name in names if name == "bag reader" or name.startswith("network")]


def test_a_frame_that_cannot_be_prepared_costs_only_itself(
    bag: BagReader, perceiver: Perceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = perceiver.prepare

    def fail_sometimes(frame: Frame, out: Any) -> Any:
        if frame.camera == "left":
            raise MemoryError("no room for a picture")
        return prepare(frame, out)

    monkeypatch.setattr(perceiver, "prepare", fail_sometimes)
    with ReplayPipeline(bag, perceiver, 2) as results:
        kinds = [(frame.camera, type(frame.outcome)) for frame in frames_of(iter(results))]
    assert kinds == [("front", Perception), ("left", MemoryError)] * 20


def test_stamps_are_judged_in_the_order_of_the_bag(
    bag: BagReader, perceiver: Perceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = [*bag.frames()][:6] * 2
    monkeypatch.setattr(bag, "frames", lambda: iter(again))
    with ReplayPipeline(bag, perceiver, 3) as results:
        outcomes = [frame.outcome for frame in frames_of(iter(results))]
    assert all(isinstance(outcome, Perception) for outcome in outcomes[:6])
    assert [outcome.reason for outcome in outcomes[6:] if isinstance(outcome, BadFrame)][:4] == ["stamp_backwards"] * 4


def opened(path: Path) -> Perceiver:
    return Perceiver(OnnxModel.open(path, device="cpu", intra_op_threads=1))


def test_further_models_see_the_same_frames_each_by_its_input(
    bag: BagReader, perceiver: Perceiver, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = opened(model)
    larger = opened(write_tiny_model(tmp_path / "larger.onnx", contract_with(input=InputSpec(96, 160))))
    prepared: list[Perceiver] = []
    prepare = Perceiver.prepare

    def counting(self: Perceiver, *arguments: Any, **options: Any) -> Any:
        prepared.append(self)
        return prepare(self, *arguments, **options)

    monkeypatch.setattr(Perceiver, "prepare", counting)
    with ReplayPipeline(bag, perceiver, 2, also=[same, larger]) as results:
        found = frames_of(iter(results))
    assert (prepared.count(perceiver), prepared.count(same), prepared.count(larger)) == (40, 0, 40)
    for replayed in found:
        assert replayed.frame is not None
        for one, outcome in zip((perceiver, same, larger), (replayed.outcome, *replayed.others), strict=True):
            assert isinstance(outcome, Perception)
            [alone] = one.perceive([replayed.frame])
            assert np.array_equal(outcome.class_map, alone.class_map)
            assert np.array_equal(outcome.detections.boxes_xyxy, alone.detections.boxes_xyxy)


def test_a_model_that_fails_costs_only_its_own_result(
    bag: BagReader, perceiver: Perceiver, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = opened(model)

    def fail(_: Any) -> list[Perception]:
        raise MemoryError("no room for this model")

    monkeypatch.setattr(other, "perceive_prepared", fail)
    with ReplayPipeline(bag, perceiver, 2, also=[other]) as results:
        kinds = {(type(frame.outcome), *map(type, frame.others)) for frame in frames_of(iter(results))}
    assert kinds == {(Perception, MemoryError)}
