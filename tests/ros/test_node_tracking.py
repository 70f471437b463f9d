"""`track_objects`: the ids of the node are those of a replay, with and without worker processes; none comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_graph import NodeProcess, Peer, camera_picture, image_message, stamp_ns
from sensor_msgs.msg import Image

from ros_kd_perception.bags.message_types import message_class
from ros_kd_perception.bags.reader import BagReader, BagWriter, decode_message
from ros_kd_perception.replay import main
from ros_kd_perception.tracking.tracked_cameras import TAKEOVER_IDS

T0 = 1_700_000_000_000_000_000
STEP_NS, JUMP_NS = 10**8, 5 * 10**9
StartNode = Callable[..., NodeProcess]


def ids_by_stamp(arrays: list[Any]) -> dict[int, list[str]]:
    return {stamp_ns(array): [box.id for box in array.detections] for array in arrays}


def send(peer: Peer, publisher: Any, start_ns: int) -> None:
    """Send frames until the mask and the boxes of one come."""
    picture = camera_picture()
    peer.send_until_both(publisher, lambda n: image_message(picture, start_ns + n * STEP_NS), "front")


def replayed_ids(stamps_ns: list[int], folder: Path, model: Path) -> dict[int, list[str]]:
    """Return the ids that a replay gives to the frames of these stamps."""
    pixels = camera_picture()
    header, time = message_class("std_msgs/msg/Header"), message_class("builtin_interfaces/msg/Time")
    with BagWriter(folder / "sent.mcap") as bag:
        for stamp in stamps_ns:
            height, width = pixels.shape[:2]
            bag.write(
                "/front/image_raw",
                stamp,
                message_class("sensor_msgs/msg/Image")(
                    header=header(stamp=time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id="front_optical"),
                    height=height, width=width, encoding="bgr8", is_bigendian=0, step=width * 3,
                    data=np.ascontiguousarray(pixels).reshape(-1),
                ),
            )  # fmt: skip
    output = folder / "replayed.mcap"
    assert main([str(folder / "sent.mcap"), "-o", str(output), "--model", str(model), "--quiet", "--track"]) == 0
    topic = "/perception/front/detections"
    with BagReader(output, {"front": "/perception/front/segmentation"}) as bag:
        return ids_by_stamp([decode_message(raw) for raw in bag.raw_messages([topic])])


@pytest.mark.parametrize("processes", [0, 1])
def test_ids_stay_over_frames_and_are_those_of_a_replay(
    peer: Peer, start_node: StartNode, tiny_student: Path, tmp_path: Path, processes: int
) -> None:
    peer.listen_to_results("front")
    start_node(track_objects=True, preparation_processes=processes)
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    for start_ns in (T0, T0 + 100 * STEP_NS, T0 + 100 * STEP_NS + JUMP_NS):
        send(peer, publisher, start_ns)
        send(peer, publisher, start_ns + 50 * STEP_NS)
    live = ids_by_stamp(peer.results("front", "detections"))

    assert live == replayed_ids(sorted(live), tmp_path, tiny_student)
    used = [ids for _, ids in sorted(live.items())]
    assert all(len(set(ids)) == 3 and all(ids) for ids in used)  # the boxes of the tiny student: 0.9, 0.8, 0.7
    assert used[0] != used[-1]  # the stamps jumped meanwhile
    assert max(map(int, used[-1])) < TAKEOVER_IDS


def test_without_it_ids_are_empty(peer: Peer, start_node: StartNode) -> None:
    peer.listen_to_results("front")
    start_node()
    send(peer, peer.matched_publisher(Image, "/front/image_raw"), T0)
    assert {tuple(ids) for ids in ids_by_stamp(peer.results("front", "detections")).values()} == {("", "", "")}


def test_a_process_that_takes_over_uses_no_id_of_the_one_before(peer: Peer, start_node: StartNode) -> None:
    peer.listen_to_results("front")
    start_node(track_objects=True, preparation_processes=1)
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    send(peer, publisher, T0)
    before = {one for ids in ids_by_stamp(peer.results("front", "detections")).values() for one in ids}
    # Both the process that serves the camera and the one that stands by.
    for process_id in peer.value("workers", "process_ids").split():
        os.kill(int(process_id), signal.SIGKILL)
    count = len(peer.results("front", "detections"))

    def is_taken_over() -> bool:
        send(peer, publisher, T0 + (1000 + len(peer.results("front", "detections")) * 100) * STEP_NS)
        return any(
            int(box.id) > TAKEOVER_IDS for a in peer.results("front", "detections")[count:] for box in a.detections
        )

    peer.until(is_taken_over, "the new process gives ids", 60)
    after = {one for ids in ids_by_stamp(peer.results("front", "detections")[count:]).values() for one in ids}
    assert not before & {one for one in after if int(one) > TAKEOVER_IDS}
    assert all(int(one) < TAKEOVER_IDS for one in before)
