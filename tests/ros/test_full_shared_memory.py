"""`/dev/shm` fills up while a node with worker processes runs: no process crashes, and every frame is counted.

The test mounts a small tmpfs in a mount namespace of its own. `python THIS_FILE MODEL FOLDER` is what runs there: the
other end of the graph must see the same shared memory.
"""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import ROOT
from rclpy.context import Context
from ros_graph import NodeProcess, Peer, camera_picture, image_message
from sensor_msgs.msg import Image

T0 = 1_700_000_000_000_000_000
CAMERAS = ("front", "rear")
FULL = Path("/dev/shm/somebody_elses")
NO_NAMESPACE = 77
SAID = "expected shared memory of the middleware for worker process"
DEAF = "has received nothing of"
"""Without shared memory a process may receive no large image. The node says so, ends it and counts it."""


@pytest.mark.slow  # four processes start, one after the other
def test_a_full_shared_memory_stops_no_camera(environment: dict[str, str], tiny_student: Path, tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=200m tmpfs /dev/shm || exit {NO_NAMESPACE}; exec "$@"'
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "support"), str(ROOT)])
    command = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, __file__, str(tiny_student), str(tmp_path)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare, for a small /dev/shm")
    if done.returncode == NO_NAMESPACE or "unshare" in done.stderr:
        pytest.skip(f"no mount namespace for a small /dev/shm: {done.stderr.strip()}")
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def fill() -> None:
    """Leave no byte of the shared memory free."""
    descriptor = os.open(FULL, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        while os.write(descriptor, bytes(4096)):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)


def process_ids(peer: Peer) -> list[int]:
    return [int(word) for word in peer.value("workers", "process_ids").split()]


def until_full_strength(peer: Peer, gone: list[int], send: Callable[[], None]) -> None:
    def is_full() -> bool:
        send()  # cameras do not wait for processes
        facts = [peer.value("workers", key) for key in ("processes", "standing_by", "unserved_cameras")]
        return facts == ["2", "1", ""] and not {*gone} & {*process_ids(peer)}

    peer.until(is_full, "all processes run", 60)


def run_with_little_shared_memory(model: Path, folder: Path) -> None:
    context = Context()
    context.init(args=[], domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    peer = Peer(context)
    parameters = {"model": model, "autostart": True, "cameras": CAMERAS, "preparation_processes": 2}
    with NodeProcess(os.environ, folder, parameters | {"diagnostics_period_s": 0.1, "intra_op_threads": 1}) as node:
        peer.listen_to_results(*CAMERAS)
        publishers = {camera: peer.matched_publisher(Image, f"/{camera}/image_raw") for camera in CAMERAS}
        numbers, pictures = itertools.count(1), {"front": camera_picture(), "rear": camera_picture(480, 640)}

        def send() -> None:
            for camera, publisher in publishers.items():
                publisher.publish(image_message(pictures[camera], T0 + next(numbers)))
            peer.spin_for(0.05)

        def until_perceived() -> None:
            for camera, publisher in publishers.items():
                peer.send_until_result(
                    publisher, lambda _, camera=camera: image_message(pictures[camera], T0 + next(numbers)), camera
                )

        until_perceived()
        until_full_strength(peer, [], send)
        fill()
        until_perceived()
        killed: list[int] = []
        for number in (1, 2):  # first one that was there before, then also one that found no shared memory
            now = process_ids(peer)[:number]
            for process in now:
                os.kill(process, 9)
            killed += now
            fill()
            # What an ended process held becomes free later, when others clean up. A new one must not find it.
            peer.until(lambda: (fill(), send(), SAID in node.log)[-1], "a process finds no shared memory", 60)
            until_perceived()
            until_full_strength(peer, killed, send)
            until_perceived()
        FULL.unlink()
        until_perceived()
        assert SAID in node.log, node.log

        def is_each_end_told() -> bool:
            return peer.value("workers", "ended") == str(3 + node.log.count(DEAF))

        peer.until(is_each_end_told, "three killed processes, and each one that the node ended, are counted")

        def is_counted(camera: str) -> bool:
            accounted = peer.count(camera, "published") + sum(peer.drops(camera).values())
            return peer.count(camera, "received") == accounted > 0

        peer.until(lambda: all(map(is_counted, CAMERAS)), "every frame is counted")
        print({camera: (peer.count(camera, "received"), peer.drops(camera)) for camera in CAMERAS})
        assert node.end() == 0
        assert "Traceback" not in node.log
    peer.close()
    context.try_shutdown()


if __name__ == "__main__":
    run_with_little_shared_memory(Path(sys.argv[1]), Path(sys.argv[2]))
