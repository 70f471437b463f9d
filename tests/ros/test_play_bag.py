from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_graph import RELIABLE, TIMEOUT_S, Peer, stamp_ns
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from small_bag import START_NS, moving_picture, write_small_bag

from ros_kd_perception.traffic_log import read_traffic

FRONT, LEFT = "/front/image_raw", "/left/image_raw"
EVERYTHING = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)


def start(environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ros_kd_perception.ros.play_bag", *arguments],
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def listen_to_all(peer: Peer) -> None:
    for topic in (FRONT, LEFT):
        peer.listen(Image, topic, EVERYTHING)
    peer.listen(CameraInfo, "/front/camera_info", EVERYTHING)
    peer.listen(Clock, "/clock", EVERYTHING)


def play(peer: Peer, process: subprocess.Popen[str]) -> str:
    """Receive until the player has ended; returns what it printed."""
    peer.until(lambda: process.poll() is not None, "the player ends")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


def test_plays_what_lies_in_the_bag_in_its_order_and_never_early(
    peer: Peer, environment: dict[str, str], tmp_path: Path
) -> None:
    bag, log = write_small_bag(tmp_path / "drive.mcap", frames=12, rate_hz=10), tmp_path / "sent.csv"
    listen_to_all(peer)
    output = play(peer, start(environment, str(bag), "--wait-for-subscribers", "20", "--traffic-log", str(log)))

    assert "played 24 images" in output
    front, left = peer.received[FRONT], peer.received[LEFT]
    assert [stamp_ns(m) for m in front] == [START_NS + k * 100_000_000 for k in range(12)]
    assert [stamp_ns(m) for m in left] == [START_NS + k * 100_000_000 + 50_000_000 for k in range(12)]
    assert front[3].header.frame_id == "front_optical"
    assert bytes(front[3].data) == moving_picture((96, 160), 6).tobytes()
    assert [m.width for m in peer.received["/front/camera_info"]] == [160]

    sent = list(read_traffic(log))
    assert {c.kind for c in sent} == {"image"}
    for crossing in sent:
        due_ns = sent[0].steady_ns + crossing.stamp_ns - START_NS
        assert crossing.steady_ns >= due_ns - 30_000_000  # the first one itself may have been that late


def test_clock_follows_the_bag(peer: Peer, environment: dict[str, str], tmp_path: Path) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", frames=8, rate_hz=10)
    listen_to_all(peer)
    play(peer, start(environment, str(bag), "--wait-for-subscribers", "20"))

    clocks_ns = [m.clock.sec * 10**9 + m.clock.nanosec for m in peer.received["/clock"]]
    assert len(clocks_ns) > 8
    assert clocks_ns == sorted(clocks_ns)
    assert all(START_NS <= t <= START_NS + 800_000_000 for t in clocks_ns)


def test_rate_and_part(peer: Peer, environment: dict[str, str], tmp_path: Path) -> None:
    bag, log = write_small_bag(tmp_path / "drive.mcap", frames=20, rate_hz=10), tmp_path / "sent.csv"
    listen_to_all(peer)
    play(
        peer,
        start(
            environment, str(bag), "--rate", "2", "--start-offset", "0.5", "--duration", "1", "--no-clock",
            "--wait-for-subscribers", "20", "--traffic-log", str(log), "--camera", f"f={FRONT}",
        ),
    )  # fmt: skip

    assert [stamp_ns(m) - START_NS for m in peer.received[FRONT]] == [k * 100_000_000 for k in range(5, 15)]
    assert not peer.received[LEFT]
    assert not peer.received["/clock"]
    sent = list(read_traffic(log))
    assert {c.camera for c in sent} == {"f"}
    assert 0.4 <= (sent[-1].steady_ns - sent[0].steady_ns) / 1e9 < 0.9  # at the bag's own speed it is 0.9 s


def test_loop_until_interrupted(peer: Peer, environment: dict[str, str], tmp_path: Path) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", frames=3, rate_hz=20)
    listen_to_all(peer)
    process = start(environment, str(bag), "--loop", "--wait-for-subscribers", "20")
    peer.until(lambda: len(peer.received[FRONT]) > 7, "the third round")
    process.send_signal(signal.SIGINT)
    play(peer, process)

    stamps = [stamp_ns(m) for m in peer.received[FRONT]]
    assert stamps[:6] == stamps[:3] * 2


@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_offers_the_reliability_asked_for(
    peer: Peer, environment: dict[str, str], tmp_path: Path, reliability: str
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", frames=2)
    process = start(environment, str(bag), "--loop", "--reliability", reliability)
    peer.until(lambda: peer.node.get_publishers_info_by_topic(FRONT), "the player is there")
    endpoint = peer.node.get_publishers_info_by_topic(FRONT)[0]
    process.terminate()
    process.communicate(timeout=TIMEOUT_S)
    assert endpoint.qos_profile.reliability == ReliabilityPolicy[reliability.upper()]


def test_compressed_folder(peer: Peer, environment: dict[str, str], tmp_path: Path) -> None:
    bag = write_small_bag(tmp_path / "drive", ("front",), frames=3, compressed=True)
    topic = "/front/image_raw/compressed"
    peer.listen(CompressedImage, topic, RELIABLE)
    play(peer, start(environment, str(bag), "--wait-for-subscribers", "20"))
    assert len(peer.received[topic]) == 3


def test_nobody_subscribes(environment: dict[str, str], tmp_path: Path) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", frames=2)
    process = start(environment, str(bag), "--wait-for-subscribers", "0.3")
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "/front/image_raw, /left/image_raw" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.mcap"], "nowhere.mcap"),
        (["{bag}", "--start-offset", "100"], "0.1 s long"),
        (["{bag}", "--rate", "0"], "--rate"),
        (["{bag}", "--camera", "front"], "NAME=TOPIC"),
        (["{bag}", "--camera", "front=/rear/image_raw"], "/rear/image_raw"),
        (["{cut}"], "cut.mcap"),
    ],
)
def test_what_cannot_be_played_is_one_sentence(
    environment: dict[str, str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", ("front",), frames=2)
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(bag.read_bytes()[:-300])
    process = start(environment, *(argument.format(bag=bag, cut=cut) for argument in arguments))
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert errors.startswith("play_bag: ")
    assert errors.count("\n") == 1
    assert sentence in errors
