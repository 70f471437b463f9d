"""Cameras that send a thousand images a second, or another size each time: all is counted, and memory is bounded."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import rclpy
from checkout import ROOT
from ros_graph import BEST_EFFORT, NodeProcess, Peer, camera_picture, image_message
from sensor_msgs.msg import Image

T0 = 1_700_000_000_000_000_000
RATE_HZ, SECONDS = 1000, 4.0
REAR_PERIOD_S = 0.1
SIZES, LARGEST = 300, (480, 640)
MAX_GROWTH_MIB = 24.0  # the largest image and its mask have 1.2 MiB: a leak of one in ten would exceed it
StartNode = Callable[..., NodeProcess]


def publish_fast() -> None:
    """Publish small images as `front` for some seconds at 1000 Hz, and print how many."""
    rclpy.init()
    node = rclpy.create_node("mad_camera")
    publisher = node.create_publisher(Image, "/front/image_raw", BEST_EFFORT)
    while not publisher.get_subscription_count():
        time.sleep(0.01)
    pictures = [camera_picture(48, 64, seed) for seed in range(7)]
    began_s, number = time.monotonic(), 0
    while (passed_s := time.monotonic() - began_s) < SECONDS:
        while number < passed_s * RATE_HZ:
            number += 1
            publisher.publish(image_message(pictures[number % 7], T0 + number * 10**6))
        time.sleep(0.0005)
    print(number, flush=True)
    time.sleep(0.5)  # a last image, so that the gap before it is seen
    publisher.publish(image_message(pictures[0], T0 + 10**12))
    time.sleep(2.0)
    rclpy.shutdown()


def processes_of(peer: Peer, node: NodeProcess) -> list[int]:
    return [node.process.pid, *map(int, peer.value("workers", "process_ids").split())]


def cpu_s(processes: list[int]) -> float:
    """Return the CPU time of processes so far, seconds."""
    fields = [Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() for process in processes]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def own_mib(processes: list[int]) -> float:
    """Return the memory that processes allocated, without what they share with the middleware."""
    lines = [line for process in processes for line in Path(f"/proc/{process}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024


def until_every_frame_is_counted(peer: Peer, least: int) -> None:
    def is_worked_off() -> bool:
        accounted = peer.count("front", "published") + sum(peer.drops("front").values())
        return peer.count("front", "received") == accounted >= least and not peer.count("front", "waiting")

    peer.until(is_worked_off, f"{least} images are counted")


@pytest.mark.slow  # the camera sends for four seconds, and then a last image
@pytest.mark.parametrize("processes", [0, 2])
def test_a_camera_of_1000_hz_leaves_the_other_one_its_turns(
    peer: Peer, start_node: StartNode, environment: dict[str, str], processes: int
) -> None:
    node = start_node(cameras=["front", "rear"], preparation_processes=processes)
    peer.listen_to_results("rear")
    rear, numbers = peer.matched_publisher(Image, "/rear/image_raw"), itertools.count(1)

    def send_rear() -> None:
        number = next(numbers)
        rear.publish(image_message(camera_picture(seed=number % 7), T0 + number * 10**6))

    peer.node.create_timer(REAR_PERIOD_S, send_rear)
    peer.until(lambda: len(peer.results("rear")) > 3, "the other camera is perceived")
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "support"), str(ROOT)])
    with subprocess.Popen([sys.executable, __file__], env=environment, stdout=subprocess.PIPE, text=True) as camera:
        peer.until(lambda: peer.count("front", "received") > 10, "the fast camera sends")
        ours, began_s, sent_before = processes_of(peer, node), time.monotonic(), next(numbers)
        cpu_before_s, seen, front = cpu_s(ours), len(peer.results("rear")), peer.count("front", "received")
        peer.spin_for(SECONDS / 2)
        wall_s = time.monotonic() - began_s
        used_s, front = cpu_s(ours) - cpu_before_s, peer.count("front", "received") - front
        sent_rear, seen = next(numbers) - sent_before, len(peer.results("rear")) - seen
        peer.until(lambda: camera.poll() is not None, "the fast camera ends")
        assert camera.stdout is not None
        sent = int(camera.stdout.read())
    # Only those before the subscription was ready, or after the last one that arrived, can be missing.
    until_every_frame_is_counted(peer, int(0.95 * sent))
    print(
        f"{processes} processes: {used_s / wall_s:.2f} cores and {1e6 * used_s / max(front, 1):.0f} us for an image of "
        f"{front / wall_s:.0f} a second; {peer.count('front', 'published')} of {sent} published, "
        f"dropped {peer.drops('front')}; of the other camera {seen} of {sent_rear}"
    )
    assert peer.count("front", "received") <= sent + 1
    assert seen >= 0.7 * sent_rear
    assert peer.value("workers", "ended") in ("", "0")
    assert node.end() == 0
    assert "Traceback" not in node.log


@pytest.mark.slow  # four hundred images, one after the other
@pytest.mark.parametrize("processes", [0, 2])
def test_another_size_each_time_takes_no_more_memory_than_the_largest(
    peer: Peer, start_node: StartNode, processes: int
) -> None:
    node = start_node(cameras=["front", "rear"], preparation_processes=processes)
    peer.listen_to_results("front")
    front, masks = peer.matched_publisher(Image, "/front/image_raw"), peer.results("front")
    sizes = itertools.cycle([(16 + n * 37 % LARGEST[0], 16 + n * 53 % LARGEST[1]) for n in range(1, 480)])
    numbers = itertools.count(1)

    def send_and_look(first: int) -> None:
        def until_one_more(size: tuple[int, int]) -> None:
            peer.send_until_result(
                front, lambda _: image_message(camera_picture(*size), T0 + next(numbers) * 10**6), "front"
            )

        for size in itertools.islice(sizes, first):
            until_one_more(size)

    peer.send_until_result(
        front, lambda _: image_message(camera_picture(*LARGEST), T0 + next(numbers) * 10**6), "front"
    )
    send_and_look(SIZES // 3)
    ours = processes_of(peer, node)
    before = own_mib(ours), sum(len(os.listdir(f"/proc/{process}/fd")) for process in ours)
    send_and_look(SIZES)
    after = own_mib(ours), sum(len(os.listdir(f"/proc/{process}/fd")) for process in ours)
    print(f"{processes} processes: memory {before[0]:.1f} and {after[0]:.1f} MiB, files {before[1]} and {after[1]}")
    assert len({(mask.height, mask.width) for mask in masks}) > SIZES
    assert all(len(mask.data) == mask.height * mask.width for mask in masks)
    assert after[0] - before[0] < MAX_GROWTH_MIB
    assert after[1] - before[1] <= 2
    until_every_frame_is_counted(peer, SIZES)
    assert set(peer.drops("front")) <= {"replaced", "lost"}
    assert node.end() == 0
    assert "Traceback" not in node.log


if __name__ == "__main__":
    publish_fast()
