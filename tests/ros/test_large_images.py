"""Large images between processes without middleware settings in their environment, as under `ros2 run`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from small_bag import START_NS, camera_info, image_message, moving_picture

from ros_kd_perception.bags.reader import BagWriter
from ros_kd_perception.system.fastdds_settings import PROFILE_VARIABLE
from ros_kd_perception.system.shipped_files import FASTDDS_PROFILE

FRAMES = 24
RATE_HZ = 8
SIZES = {"kitti": (375, 1242), "hd": (720, 1280)}
# Counts best-effort images until their publisher has appeared and disappeared.
LISTENER = """
import collections, json, sys, time
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("listener")
received, seen, give_up_s = collections.Counter(), False, time.monotonic() + 60
for topic in sys.argv[1:]:
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, topic, lambda _, topic=topic: received.update([topic]), qos)
while time.monotonic() < give_up_s and not (seen and not node.count_publishers(sys.argv[1])):
    rclpy.spin_once(node, timeout_sec=0.1)
    seen = seen or node.count_publishers(sys.argv[1]) > 0
print(json.dumps(received))
"""


@pytest.fixture
def unset(environment: dict[str, str]) -> dict[str, str]:
    """Environment of a graph of its own, without settings for large images."""
    return {name: value for name, value in environment.items() if not name.startswith(("FASTDDS_", "FASTRTPS_"))}


def write_bag(path: Path) -> Path:
    with BagWriter(path) as writer:
        for camera, size in SIZES.items():
            writer.write(f"/{camera}/camera_info", START_NS, camera_info(camera, size))
        for number in range(FRAMES):
            stamp_ns = START_NS + number * 10**9 // RATE_HZ
            for camera, size in SIZES.items():
                picture = moving_picture(size, number)
                writer.write(f"/{camera}/image_raw", stamp_ns, image_message(camera, stamp_ns, picture))
    return path


def start(environment: Mapping[str, str], *command: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_bag_of_large_images_arrives_without_loss_as_best_effort(unset: dict[str, str], tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "large.mcap")
    topics = [f"/{camera}/image_raw" for camera in SIZES]
    listener = start(unset, "-c", LISTENER, *topics)
    options = ("--reliability", "best_effort", "--wait-for-subscribers", "30")

    with start(unset, "-m", "ros_kd_perception.ros.play_bag", bag, *options) as player:
        printed = player.communicate(timeout=60)[0]
    received = listener.communicate(timeout=60)[0]

    assert player.returncode == 0, printed
    assert f"{FASTDDS_PROFILE}\n" in printed
    assert received == f'{{"{topics[0]}": {FRAMES}, "{topics[1]}": {FRAMES}}}\n', printed


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, f"Fast DDS has room for large images: FASTDDS_DEFAULT_PROFILES_FILE=.*{FASTDDS_PROFILE}"),
        ({"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}, "keeps the settings .* FASTDDS_BUILTIN_TRANSPORTS=UDPv4"),
        ({PROFILE_VARIABLE: ""}, f"may lose images .* {PROFILE_VARIABLE} is empty"),
    ],
    ids=["unset", "chosen", "switched off"],
)
@pytest.mark.parametrize(
    "executable", [("perception_node",), ("record_perception", "-o", "results.mcap", "--cameras", "a")]
)
def test_the_log_names_the_settings_in_use(
    executable: tuple[str, ...], settings: dict[str, str], sentence: str, unset: dict[str, str], tmp_path: Path
) -> None:
    command = ["-m", f"ros_kd_perception.ros.{executable[0]}", *executable[1:]]
    process = subprocess.Popen(
        [sys.executable, *command],
        env=unset | settings,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert re.search(sentence, first)
