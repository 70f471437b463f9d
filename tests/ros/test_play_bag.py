from __future__ import annotations

import gzip
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_graph import RELIABLE, TIMEOUT_S, Peer, stamp_ns
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from small_bag import START_NS, image_message, moving_picture, write_small_bag, write_timed_bag

from ros_kd_perception.bags.reader import BagWriter, typestore
from ros_kd_perception.bags.traffic_log import read_traffic
from ros_kd_perception.playback_timeline import CLOCK_LEAD_S

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

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
    """Receive until the player has ended, and return what it printed."""
    peer.until(lambda: process.poll() is not None, "the player ends")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


def test_messages_are_played_in_their_order_and_never_early(
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
    for entry in sent:
        due_ns = sent[0].steady_ns + entry.stamp_ns - START_NS
        assert entry.steady_ns >= due_ns - 30_000_000  # the first one may have been late itself


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
    assert 0.4 <= (sent[-1].steady_ns - sent[0].steady_ns) / 1e9 < 0.9  # at the speed of the recording it takes 0.9 s


def test_loop_until_interrupted(peer: Peer, environment: dict[str, str], tmp_path: Path) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", frames=3, rate_hz=20)
    listen_to_all(peer)
    process = start(environment, str(bag), "--loop", "--wait-for-subscribers", "20")
    peer.until(lambda: len(peer.received[FRONT]) > 7, "the third round")
    process.send_signal(signal.SIGINT)
    play(peer, process)

    stamps = [stamp_ns(m) for m in peer.received[FRONT]]
    assert stamps[:6] == stamps[:3] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_unpacking(environment: dict[str, str], tmp_path: Path, number: signal.Signals) -> None:
    bag, temporary = tmp_path / "endless.mcap.gz", tmp_path / "temporary"
    temporary.mkdir()
    zeros = gzip.compress(bytes(1 << 26))  # slow to unpack: zstd fills a disk before a busy machine sends the signal
    bag.write_bytes(gzip.compress(b"\x89MCAP0\r\n".ljust(512, b"\0")) + zeros * 500)
    process = start({**environment, "TMPDIR": str(temporary)}, str(bag))
    while not list(temporary.glob("bag-*/*/bag")):
        assert process.poll() is None, process.stderr and process.stderr.read()
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (130, "play_bag: interrupted, nothing played\n")
    assert list(temporary.iterdir()) == []


def test_a_message_that_is_too_short_for_a_header_does_not_end_the_playing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    message = image_message("front", START_NS, moving_picture((8, 8), 0))
    whole = bytes(typestore().serialize_cdr(message, "sensor_msgs/msg/Image"))
    with BagWriter(tmp_path / "drive.mcap") as bag:
        bag.add_topic(FRONT, "sensor_msgs/msg/Image")
        for index, data in enumerate([b"", b"\0\1", whole]):
            bag.write_raw(FRONT, START_NS + index, data)
    process = start(environment, str(tmp_path / "drive.mcap"), "--traffic-log", str(tmp_path / "sent.csv"))
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors
    assert "played 3 images" in output
    assert [entry.stamp_ns for entry in read_traffic(tmp_path / "sent.csv")] == [0, 0, START_NS]


def test_a_bag_of_only_damaged_messages_is_reported(environment: dict[str, str], tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive.mcap") as bag:
        bag.add_topic(FRONT, "sensor_msgs/msg/Image")
        bag.write_raw(FRONT, START_NS, zstd.compress(bytes(99))[:-3])
    process = start(environment, str(tmp_path / "drive.mcap"))
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert "all 1 messages are damaged" in errors.splitlines()[-1]


def test_after_a_clock_that_was_set_back_a_part_goes_on(
    peer: Peer, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    for part, start_s in enumerate((0, -3600)):
        write_timed_bag(folder / f"drive_{part}.mcap", [("front", start_s + k / 10) for k in range(5)])
    peer.listen(Image, FRONT, EVERYTHING)
    play(peer, start(environment, str(folder), "--start-offset", "0.35", "--wait-for-subscribers", "20"))
    assert len(peer.received[FRONT]) == 6


def seconds_sent(log: Path) -> list[float]:
    sent = list(read_traffic(log))
    return [(entry.steady_ns - sent[0].steady_ns) / 1e9 for entry in sent]


FIVE = [("front", k / 10) for k in range(5)]
TO_1970 = -START_NS / 1e9


@pytest.mark.parametrize(
    ("images", "expected_s", "sentences"),
    [
        (FIVE, [0, 0.1, 0.2, 0.3, 0.4], []),
        ([*FIVE, ("front", 9000)], [0, 0.1, 0.2, 0.3, 0.4, 1.4], ["2.5 h without a frame of any camera after 0.4 s"]),
        ([("front", TO_1970 + 5), *FIVE], [0, 1, 1.1, 1.2, 1.3, 1.4], ["days without a frame", "1970-01-01 00:00:05"]),
        ([("front", 0), ("left", 90)], [0, 1], ["90.0 s without"]),
    ],
    ids=["cameras start late", "hours between two parts", "a clock that is set", "cameras far apart"],
)
def test_only_cameras_set_the_time_and_long_gaps_are_skipped(
    peer: Peer,
    environment: dict[str, str],
    tmp_path: Path,
    images: list[tuple[str, float]],
    expected_s: list[float],
    sentences: list[str],
) -> None:
    first_s = min(second for _, second in images)
    old_s = max(TO_1970, first_s - 3600)  # start of the recorder, with a CameraInfo
    bag = write_timed_bag(tmp_path / "drive.mcap", images, recorder_s=old_s, camera_info_s=old_s)
    log = tmp_path / "sent.csv"
    listen_to_all(peer)
    output = play(peer, start(environment, str(bag), "--wait-for-subscribers", "20", "--traffic-log", str(log)))

    sent_s = seconds_sent(log)
    assert len(sent_s) == len(expected_s)
    assert all(sent - due > -0.05 for sent, due in zip(sent_s, expected_s, strict=True))
    assert sent_s[-1] < expected_s[-1] + 5
    jumps = [line for line in output.splitlines() if line.startswith("jumping")]
    assert len(jumps) == bool(sentences)
    assert all(sentence in jumps[0] for sentence in sentences)
    assert len(peer.received["/front/camera_info"]) == 1
    clocks_ns = [m.clock.sec * 10**9 + m.clock.nanosec for m in peer.received["/clock"]]
    times_ns = [START_NS + round(second * 1e9) for _, second in images]
    lead_ns = round(CLOCK_LEAD_S * 1e9)  # the clock jumps before the image: what is left of a gap has two halves
    assert all(any(t - lead_ns <= clock <= t + lead_ns + 5e7 for t in times_ns) for clock in clocks_ns)


def test_gaps_can_be_kept_and_a_part_is_counted_from_the_first_image(
    peer: Peer, environment: dict[str, str], tmp_path: Path
) -> None:
    images = [("front", k / 10) for k in range(10)] + [("front", 10.95 + k / 10) for k in range(10)]
    bag = write_timed_bag(tmp_path / "drive.mcap", images, recorder_s=-70, camera_info_s=-70)
    log = tmp_path / "sent.csv"
    listen_to_all(peer)
    part = ["--start-offset", "0.5", "--duration", "1.6", "--camera", f"front={FRONT}"]
    play(peer, start(environment, str(bag), *part, "--wait-for-subscribers", "20"))
    assert [stamp_ns(m) - START_NS for m in peer.received[FRONT]] == [
        *(k * 100_000_000 for k in range(5, 10)), 10_950_000_000, 11_050_000_000,
    ]  # fmt: skip
    assert len(peer.received["/front/camera_info"]) == 1  # it was recorded once, before the part that is played

    play(peer, start(environment, str(bag), *part, "--keep-gaps", "--rate", "20", "--traffic-log", str(log)))
    assert len(seconds_sent(log)) == 5


@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_the_requested_reliability_is_offered(
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


def test_messages_compressed_one_by_one_are_published_decompressed_without_damaged_ones(
    peer: Peer, environment: dict[str, str], tmp_path: Path
) -> None:
    with BagWriter(tmp_path / "drive.mcap") as bag:
        bag.add_topic(FRONT, "sensor_msgs/msg/Image")
        for index in range(3):
            message = image_message("front", START_NS + index, moving_picture((8, 8), index))
            packed = zstd.compress(bytes(typestore().serialize_cdr(message, "sensor_msgs/msg/Image")))
            bag.write_raw(FRONT, START_NS + index, packed[:-3] if index == 1 else packed)
    peer.listen(Image, FRONT, EVERYTHING)
    output = play(peer, start(environment, str(tmp_path / "drive.mcap"), "--wait-for-subscribers", "20"))
    assert "played 2 images" in output
    assert [stamp_ns(m) for m in peer.received[FRONT]] == [START_NS, START_NS + 2]


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
        (["{bag}", "--start-offset", "100"], "the last one is 0.1 s after"),
        (["{bag}", "--start-offset", "nan"], "--start-offset"),
        (["{bag}", "--duration", "inf"], "--duration"),
        (["{bag}", "--wait-for-subscribers", "inf"], "--wait-for-subscribers"),
        (["{bag}", "--rate", "0"], "--rate"),
        (["{bag}", "--camera", "front"], "NAME=TOPIC"),
        (["{bag}", "--camera", "front=/rear/image_raw"], "/rear/image_raw"),
        (["{cut}"], "cut.mcap"),
    ],
)
def test_a_bag_that_cannot_be_played_gives_one_sentence(
    environment: dict[str, str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", ("front",), frames=2)
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(bag.read_bytes()[:-300])
    process = start(environment, *(argument.format(bag=bag, cut=cut) for argument in arguments))
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    *logged, sentence_line = errors.splitlines()
    assert sentence_line.startswith("play_bag: ")
    assert all(line.startswith("[INFO]") for line in logged)  # the settings of the middleware
    assert sentence in sentence_line


def test_the_clock_is_not_behind_the_first_image_after_a_gap(
    peer: Peer, environment: dict[str, str], tmp_path: Path, start_node: Any
) -> None:
    """Otherwise a node that uses /clock sees a stamp of the future."""
    times_s = [start_s + k / 10 for start_s in (0.0, 70.0, 140.0) for k in range(8)]
    bag = write_timed_bag(tmp_path / "drive.mcap", [("front", time_s) for time_s in times_s])
    start_node(use_sim_time=True)
    peer.until_active()
    play(peer, start(environment, str(bag), "--wait-for-subscribers", "20"))
    peer.until(lambda: peer.count("front", "received") == len(times_s), "every image has come")
    peer.until(lambda: not peer.count("front", "waiting"), "all are worked off")
    assert peer.drops("front").get("stamp_ahead", 0) == 0
