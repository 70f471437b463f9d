"""A node on a machine that has not enough files or memory: one sentence says so, and it serves on with what it has.

Limits are set with prlimit(2) on processes that run, so that they meet a machine that was large enough at the start.
"""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_graph import NodeProcess, Peer, camera_picture, compressed_message, image_message
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger
from tiny_student import contract_with, write_tiny_model
from uncounted import without_counting

from ros_kd_perception.model.contract import InputSpec

T0 = 1_700_000_000_000_000_000
CAMERAS = ("front", "rear")
StartNode = Callable[..., NodeProcess]


class Cameras:
    """Sends small images of both cameras until each has a result."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._numbers = itertools.count(1)
        peer.listen_to_results(*CAMERAS)
        self._publishers = {camera: peer.matched_publisher(Image, f"/{camera}/image_raw") for camera in CAMERAS}

    def until_perceived(self, cameras: Iterable[str] = CAMERAS) -> None:
        for camera in cameras:
            self._peer.send_until_result(
                self._publishers[camera], lambda _: image_message(camera_picture(), T0 + next(self._numbers)), camera
            )


def process_ids(peer: Peer) -> list[int]:
    return [int(word) for word in peer.value("workers", "process_ids").split()]


def until_full_strength(peer: Peer, gone: Iterable[int] = ()) -> None:
    def is_full() -> bool:
        facts = [peer.value("workers", key) for key in ("processes", "standing_by", "unserved_cameras")]
        return facts == ["2", "1", ""] and not {*gone} & {*process_ids(peer)}

    peer.until(is_full, "all processes run", 60)


def until_every_frame_is_counted(peer: Peer, cameras: Iterable[str] = CAMERAS) -> None:
    def is_worked_off(camera: str) -> bool:
        accounted = peer.count(camera, "published") + sum(peer.drops(camera).values())
        return peer.count(camera, "received") == accounted > 0

    peer.until(lambda: all(map(is_worked_off, cameras)), "every frame is counted")


def limit(process: int, what: int, value: int) -> None:
    resource.prlimit(process, what, (value, resource.prlimit(process, what)[1]))


def allow_no_more_files(process: int) -> None:
    limit(process, resource.RLIMIT_NOFILE, max(map(int, os.listdir(f"/proc/{process}/fd"))) + 1)


def memory_bytes(process: int) -> int:
    pages = Path(f"/proc/{process}/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def reload(peer: Peer, model: Path) -> Any:
    assert peer.set_parameter("model", str(model)).successful
    return peer.call(Trigger, "/perception/reload_model", Trigger.Request())


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return without_counting(environment)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A model whose shared frames take 8 MiB for two cameras."""
    return write_tiny_model(tmp_path / "large.onnx", contract_with(name="large", input=InputSpec(512, 640)))


@pytest.fixture
def node(start_node: StartNode) -> NodeProcess:
    return start_node(cameras=CAMERAS, preparation_processes=2)


@pytest.mark.slow  # a new process is tried every 5 s
def test_a_node_that_may_open_no_more_files_serves_on_and_recovers(peer: Peer, node: NodeProcess, large: Path) -> None:
    cameras = Cameras(peer)
    cameras.until_perceived()
    until_full_strength(peer)
    allow_no_more_files(node.process.pid)

    refused = reload(peer, large)
    assert not refused.success
    assert "refused, the old model runs on" in refused.message
    assert "Too many open files" in refused.message
    cameras.until_perceived()

    first = process_ids(peer)[0]
    os.kill(first, 9)
    cameras.until_perceived()
    words = "expected to start 3 worker processes, got: Too many open files; raise the limit"
    peer.until(lambda: words in node.log, "the node says what it lacks")
    peer.until(lambda: peer.value("workers", "standing_by") == "0", "the diagnostics show it")
    assert peer.value("workers", "ended") == "1"
    cameras.until_perceived()

    limit(node.process.pid, resource.RLIMIT_NOFILE, 1024)
    until_full_strength(peer, [first])
    assert reload(peer, large).success
    cameras.until_perceived()
    until_every_frame_is_counted(peer)
    assert node.end() == 0
    assert "Traceback" not in node.log


def test_a_model_whose_frames_find_no_memory_is_refused_and_the_old_one_runs_on(
    peer: Peer, node: NodeProcess, large: Path
) -> None:
    cameras = Cameras(peer)
    cameras.until_perceived()
    limit(node.process.pid, resource.RLIMIT_FSIZE, 1 << 20)
    refused = reload(peer, large)
    assert not refused.success
    assert "expected 8 MiB of free memory for frames, got: File too large; free some memory" in refused.message
    cameras.until_perceived()
    limit(node.process.pid, resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    assert reload(peer, large).success
    cameras.until_perceived()
    assert peer.value("workers", "ended") == "0"
    assert node.end() == 0
    assert "Traceback" not in node.log


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (resource.RLIMIT_NOFILE, "Too many open files"),
        (resource.RLIMIT_AS, "expected room for 8 MiB of shared frames in this process, got: Cannot allocate memory"),
    ],
    ids=["files", "memory"],
)
def test_worker_processes_that_cannot_open_the_frames_of_a_new_model_are_replaced(
    peer: Peer, node: NodeProcess, large: Path, what: int, words: str
) -> None:
    cameras = Cameras(peer)
    cameras.until_perceived()
    until_full_strength(peer)
    poor = process_ids(peer)[:2]
    for process in poor:
        if what == resource.RLIMIT_NOFILE:
            allow_no_more_files(process)
        else:
            limit(process, what, memory_bytes(process) + (1 << 20))
    assert reload(peer, large).success
    started_s = time.monotonic()
    cameras.until_perceived()
    print(f"all cameras after {time.monotonic() - started_s:.2f} s")
    until_full_strength(peer, poor)
    cameras.until_perceived()
    until_every_frame_is_counted(peer)
    assert "a worker process cannot switch to another model: expected" in node.log
    assert words.lower() in node.log.lower()  # the system or we find it first, in the same words
    assert peer.value("workers", "ended") == "2"
    assert node.end() == 0
    assert "Traceback" not in node.log


def test_a_picture_that_needs_more_memory_than_there_is_costs_that_frame_alone(
    peer: Peer, start_node: StartNode
) -> None:
    node = start_node("-p", "front.image_transport:=compressed", cameras=CAMERAS, preparation_processes=2)
    peer.listen_to_results(*CAMERAS)
    front = peer.matched_publisher(CompressedImage, "/front/image_raw/compressed")
    rear, numbers = peer.matched_publisher(Image, "/rear/image_raw"), itertools.count(1)

    def small(_: int) -> CompressedImage:
        return compressed_message(camera_picture(), T0 + next(numbers))

    peer.send_until_result(front, small, "front")
    until_full_strength(peer)
    poor = process_ids(peer)
    for process in poor:
        limit(process, resource.RLIMIT_AS, memory_bytes(process) + (64 << 20))
        assert Path(f"/proc/{process}/oom_score_adj").read_text().strip() == "1000"  # the kernel ends it first
    huge = compressed_message(np.zeros((7000, 9000, 3), np.uint8), T0)  # a small file of 189 MB of pixels
    assert len(huge.data) < 1 << 20

    def failed() -> int:
        return sum(peer.drops("front").get(reason, 0) for reason in ("bad_data", "failed", "worker_lost"))

    def send_and_look() -> bool:
        huge.header.stamp.nanosec = next(numbers)
        front.publish(huge)
        peer.send_until_result(rear, lambda _: image_message(camera_picture(), T0 + next(numbers)), "rear")
        return failed() > 2

    peer.until(send_and_look, "frames are dropped")
    peer.send_until_result(front, small, "front")
    print(f"front {peer.drops('front')}, rear {peer.drops('rear')}, {peer.value('workers', 'ended')} ended")
    until_every_frame_is_counted(peer)
    assert "failed" not in peer.drops("rear")
    assert "emory" in node.log
    for process in {*poor} & {*process_ids(peer)}:
        limit(process, resource.RLIMIT_AS, resource.RLIM_INFINITY)
    assert node.end() == 0


@pytest.mark.parametrize(
    ("processes", "files", "words"),
    [
        (0, 24, "expected to start a process that opens"),
        (2, 29, "expected to start 3 worker processes, got: Too many open files; raise the limit"),
        (0, 48, ""),
        (2, 48, ""),
    ],
)
def test_more_cameras_than_file_descriptors(
    environment: dict[str, str], tiny_student: Path, peer: Peer, processes: int, files: int, words: str
) -> None:
    """Cameras take no file descriptors, so that a node with enough of them for itself serves any number of cameras."""
    cameras = [f"camera{number}" for number in range(64)]
    parameters = [f"model:={tiny_student}", "autostart:=true", f"cameras:=[{', '.join(cameras)}]"]
    parameters += [f"preparation_processes:='{processes}'", "diagnostics_period_s:=0.1"]
    arguments = " ".join(f'-p "{parameter}"' for parameter in parameters)
    node = f"ulimit -n {files}; exec {sys.executable} -m ros_kd_perception.ros.perception_node --ros-args {arguments}"
    peer.listen_to_results(cameras[-1])
    with subprocess.Popen(["bash", "-c", node], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            if words:
                peer.until(lambda: "not configured" in peer.status("model").message, "it is refused")
                assert words in peer.status("model").message
                assert "Too many open files" in peer.status("model").message
            else:
                publisher = peer.matched_publisher(Image, f"/{cameras[-1]}/image_raw")
                peer.send_until_result(publisher, lambda n: image_message(camera_picture(), T0 + n), cameras[-1])
        finally:
            process.terminate()
        assert process.wait(30) == 0
