"""Test how frames of two bags are found and read side by side, for any order and any loss."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bag import START_NS

from ros_kd_perception.bags.reader import BagError, BagReader, BagWriter, decode_message, message_class
from ros_kd_perception.differences.recorded_frames import FrameCursor, StampIndex

TOPICS = {f"/perception/{camera}/{part}": (camera, part) for camera in ("front", "left") for part in ("masks", "boxes")}
PARTS = {"front": ("masks", "boxes"), "left": ("masks", "boxes")}
MESSAGES = st.lists(st.tuples(st.sampled_from(sorted(TOPICS)), st.integers(0, 5)), min_size=1, max_size=30)


def message(stamp_ns: int, frame_id: str) -> Any:
    stamp = message_class("builtin_interfaces/msg/Time")(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    header = message_class("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)
    return message_class("vision_msgs/msg/Detection2DArray")(header=header, detections=[])


def write(path: Path, messages: list[tuple[str, int]]) -> Path:
    with BagWriter(path) as writer:
        for number, (topic, frame) in enumerate(messages):
            writer.write(topic, START_NS + number, message(START_NS + frame, str(number)))
    return path


@settings(max_examples=60)
@given(old=MESSAGES, new=MESSAGES)
def test_shared_frames_are_those_that_both_have_whole(old: list[tuple[str, int]], new: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sides = [(old, write(Path(folder) / "a.mcap", old)), (new, write(Path(folder) / "b.mcap", new))]
        expected, indices = [], []
        for messages, path in sides:
            there = {(topic, START_NS + frame) for topic, frame in messages}
            expected.append(
                {
                    (camera, START_NS + frame)
                    for camera in PARTS
                    for frame in range(6)
                    if all((f"/perception/{camera}/{part}", START_NS + frame) in there for part in PARTS[camera])
                }
            )
            with BagReader(path, without_cameras=True) as bag:
                indices.append(StampIndex.of(bag, TOPICS))
            assert indices[-1].repeated == len(messages) - len(there)
        found = [index.complete(PARTS) for index in indices]
        assert [set(side) for side in found] == expected
        shared = [key for key in found[0] if key in expected[1]]
        for messages, path in sides:
            with BagReader(path, without_cameras=True) as bag:
                cursor = FrameCursor(bag, TOPICS, {key: PARTS[key[0]] for key in shared})
                for camera, stamp_ns in shared:
                    taken = cursor.take((camera, stamp_ns))
                    for part, raw in taken.items():
                        first = messages.index((f"/perception/{camera}/{part}", stamp_ns - START_NS))
                        assert decode_message(raw).header.frame_id == str(first)  # the first one, if recorded twice
                    assert set(taken) == set(PARTS[camera])


def test_a_message_without_a_header_is_one_sentence(tmp_path: Path) -> None:
    topic = "/perception/front/masks"
    with BagWriter(tmp_path / "a.mcap") as writer:
        writer.add_topic(topic, "vision_msgs/msg/Detection2DArray")
        writer.write_raw(topic, START_NS, b"\x00\x01\x00\x00\x01")
    with (
        BagReader(tmp_path / "a.mcap", without_cameras=True) as bag,
        pytest.raises(
            BagError, match=r"expected messages with a header on /perception/front/masks of .*; record the bag again"
        ),
    ):
        StampIndex.of(bag, TOPICS)
