"""`replay_bag` perceives every frame of recordings from other writers, or says what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mcap_builder import McapBuilder, Message, channel, schema
from small_bag import START_NS, image_message, moving_picture
from tiny_student import HEIGHT, WIDTH, write_tiny_student

from ros_kd_perception.bags.reader import BagReader, typestore
from ros_kd_perception.replay import main

IMAGE = "sensor_msgs/msg/Image"
PERIOD_NS = 100_000_000
IMAGES = (schema(1, IMAGE), channel(1, 1, "/front/image_raw"))
FEEDBACK = "nav2_msgs/action/NavigateToPose_FeedbackMessage"


def frames(*indexes: int) -> list[Message]:
    times = {index: START_NS + index * PERIOD_NS for index in indexes}
    pictures = {index: moving_picture((2 * HEIGHT, 2 * WIDTH), index) for index in indexes}
    messages = {index: image_message("front", times[index], pictures[index]) for index in indexes}
    return [(1, times[index], bytes(typestore().serialize_cdr(messages[index], IMAGE))) for index in indexes]


def builder(profile: str = "ros2", declarations: tuple[bytes, ...] = IMAGES) -> McapBuilder:
    return McapBuilder(profile, declarations).add(*declarations)


def with_unknown(encoding: str) -> McapBuilder:
    feedback = (schema(9, FEEDBACK, encoding), channel(9, 9, "/navigate_to_pose/_action/feedback"))
    return builder(declarations=(*IMAGES, *feedback)).chunk(*frames(0, 1, 2, 3), (9, START_NS, b"?"))


LAYOUTS: dict[str, Callable[[], McapBuilder]] = {
    "empty profile": lambda: builder("").chunk(*frames(0, 1, 2, 3)),
    "no message index": lambda: builder().chunk(*frames(0, 1), message_index=False).chunk(*frames(2, 3)),
    "outside of chunks": lambda: builder().loose(*frames(1, 0)).chunk(*frames(2, 3)),
    "unknown definition": lambda: with_unknown("unknown"),
    "no definition": lambda: with_unknown(""),
    "foreign definition": lambda: with_unknown("protobuf"),
    "type name of ROS 1": lambda: builder(declarations=(schema(1, "sensor_msgs/Image"), IMAGES[1])).chunk(
        *frames(0, 1, 2, 3)
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_student(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_frame_is_perceived(layout: str, model: Path, tmp_path: Path) -> None:
    path, output = LAYOUTS[layout]().write(tmp_path / "drive.mcap"), tmp_path / "out.mcap"
    assert main([str(path), "-o", str(output), "--model", str(model), "--quiet"]) == 0
    topic = "/perception/front/segmentation"
    with BagReader(output, {"front": topic}) as results:
        assert [message.log_time_ns for message in results.raw_messages({topic})] == [
            START_NS + index * PERIOD_NS for index in range(4)
        ]


def test_lost_frames_end_the_replay_with_both_numbers(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = builder().chunk(*frames(0, 1, 2, 3))
    path = out.write(tmp_path / "drive.mcap", [*IMAGES, *out.chunk_indexes, out.statistics({1: 6})])
    assert main([str(path), "-o", str(tmp_path / "out.mcap"), "--model", str(model), "--quiet"]) == 2
    assert "expected 6 messages of /front/image_raw" in (printed := capsys.readouterr().err)
    assert "found 4" in printed
    assert [file.name for file in tmp_path.iterdir()] == ["drive.mcap"]
