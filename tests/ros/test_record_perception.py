from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSDurabilityPolicy
from rclpy.serialization import serialize_message
from ros_graph import LATCHED, RELIABLE, TIMEOUT_S, Peer, image_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo, VisionClass

from ros_kd_perception.bags.reader import BagReader, BagWriter, RawMessage, decode_message
from ros_kd_perception.bags.traffic_log import read_traffic
from ros_kd_perception.ros import record_perception
from ros_kd_perception.ros.record_perception import QUEUE_MESSAGES, topics_of

BASE = "/perception/front"
TOPICS = {
    f"{BASE}/segmentation": (Image, RELIABLE),
    f"{BASE}/detections": (Detection2DArray, RELIABLE),
    f"{BASE}/segmentation/label_info": (LabelInfo, LATCHED),
    f"{BASE}/detections/label_info": (LabelInfo, LATCHED),
    "/diagnostics": (DiagnosticArray, RELIABLE),
}


class Publisher:
    """Publishes on the topics of a perception node in its place."""

    def __init__(self, peer: Peer) -> None:
        self.publishers = {topic: peer.publisher(kind, topic, qos) for topic, (kind, qos) in TOPICS.items()}
        table = LabelInfo(class_map=[VisionClass(class_id=3, class_name="road")])
        self.publishers[f"{BASE}/segmentation/label_info"].publish(table)
        self.publishers[f"{BASE}/detections/label_info"].publish(table)

    def matched(self) -> bool:
        return all(publisher.get_subscription_count() for publisher in self.publishers.values())

    def publish(self, number: int, size: tuple[int, int] = (48, 64)) -> None:
        mask = image_message(np.zeros((*size, 3), np.uint8), number)
        mask.encoding, mask.step = "mono8", size[1]
        mask.data = mask.data[: size[0] * size[1]]
        mask.data[:4] = type(mask.data)("B", [number % 11] * 4)
        self.publishers[f"{BASE}/segmentation"].publish(mask)
        boxes = Detection2DArray()
        boxes.header = mask.header
        self.publishers[f"{BASE}/detections"].publish(boxes)


def start(environment: Mapping[str, str], output: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ros_kd_perception.ros.record_perception", "-o", str(output), "--cameras", "front"]
    return subprocess.Popen(
        [*command, *arguments], env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    process.send_signal(number)
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors
    return output


def read(path: Path) -> dict[str, list[tuple[RawMessage, Any]]]:
    messages: dict[str, list[tuple[RawMessage, Any]]] = {}
    with BagReader(path, {"front": f"{BASE}/segmentation"}) as bag:
        for raw in bag.raw_messages(list(TOPICS)):
            messages.setdefault(raw.topic, []).append((raw, decode_message(raw)))
    return messages


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_records_every_result_and_completes_the_bag(
    peer: Peer, environment: dict[str, str], tmp_path: Path, number: int
) -> None:
    output, log = tmp_path / "results.mcap", tmp_path / "received.csv"
    publisher = Publisher(peer)
    process = start(environment, output, "--traffic-log", str(log))
    peer.until(publisher.matched, "the recorder subscribes")
    before_ns = time.monotonic_ns()
    for stamp in range(1, 21):
        publisher.publish(stamp)
    publisher.publishers["/diagnostics"].publish(DiagnosticArray())
    peer.until(lambda: log.exists() and sum(1 for _ in read_traffic(log)) == 43, "all has arrived")
    assert not output.exists()
    assert "recorded 43 messages" in end(process, number)

    messages = read(output)
    assert {topic: len(found) for topic, found in messages.items()} == {
        f"{BASE}/segmentation": 20,
        f"{BASE}/detections": 20,
        f"{BASE}/segmentation/label_info": 1,
        f"{BASE}/detections/label_info": 1,
        "/diagnostics": 1,
    }
    masks = [mask for _, mask in messages[f"{BASE}/segmentation"]]
    assert [mask.header.stamp.nanosec for mask in masks] == list(range(1, 21))
    assert masks[6].data[:5].tolist() == [7, 7, 7, 7, 0]
    assert messages[f"{BASE}/segmentation/label_info"][0][1].class_map[0].class_name == "road"
    entries = [c for c in read_traffic(log) if c.kind == "segmentation"]
    assert [c.stamp_ns for c in entries] == list(range(1, 21))
    assert all(c.camera == "front" and before_ns < c.steady_ns < time.monotonic_ns() for c in entries)
    assert [path.name for path in tmp_path.iterdir() if ".partial" in path.name] == []


def test_takes_a_720p_mask_at_each_of_twenty_frames_a_second(
    peer: Peer, environment: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "results.mcap"
    publisher = Publisher(peer)
    process = start(environment, output)
    peer.until(publisher.matched, "the recorder subscribes")
    for stamp in range(1, 41):
        publisher.publish(stamp, (720, 1280))
        peer.spin_for(0.05)
    assert "lost" not in end(process)
    assert len(read(output)[f"{BASE}/segmentation"]) == 40


def test_times_are_of_the_clock_topic_under_sim_time(peer: Peer, environment: dict[str, str], tmp_path: Path) -> None:
    output, log = tmp_path / "results.mcap", tmp_path / "received.csv"
    publisher, clock = Publisher(peer), peer.publisher(Clock, "/clock")
    process = start(environment, output, "--traffic-log", str(log), "--ros-args", "-p", "use_sim_time:=true")
    peer.until(lambda: publisher.matched() and clock.get_subscription_count(), "the recorder subscribes")
    time_message = Clock()
    time_message.clock.sec = 1_600_000_000

    def received(kind: str) -> int:
        return sum(entry.kind == kind for entry in read_traffic(log))

    peer.until(lambda: received("segmentation/label_info") == 1, "the latched table arrives, before there is any time")
    for stamp in range(1, 200):
        clock.publish(time_message)
        publisher.publish(stamp)
        peer.spin_for(0.02)
    peer.until(lambda: received("segmentation") == 199, "all has arrived")
    end(process)

    messages = read(output)
    log_times = {raw.log_time_ns for found in messages.values() for raw, _ in found}
    assert log_times == {1_600_000_000 * 10**9}
    assert len(messages[f"{BASE}/segmentation/label_info"]) == 1


def test_latched_topics_stay_latched_in_the_bag(peer: Peer, environment: dict[str, str], tmp_path: Path) -> None:
    from rosbags.rosbag2 import Reader

    output = tmp_path / "results.mcap"
    publisher = Publisher(peer)
    process = start(environment, output)
    peer.until(publisher.matched, "the recorder subscribes")
    publisher.publish(1)
    peer.spin_for(0.5)
    end(process)
    with Reader(output) as reader:
        qos = {connection.topic: connection.ext.offered_qos_profiles[0] for connection in reader.connections}
    transient_local = int(QoSDurabilityPolicy.TRANSIENT_LOCAL)
    assert int(qos[f"{BASE}/segmentation/label_info"].durability.value) == transient_local
    assert int(qos[f"{BASE}/segmentation"].durability.value) != transient_local


def test_a_recording_without_messages_fails(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    process = start(environment, folder / "results.mcap", "--traffic-log", str(tmp_path / "log.csv"))
    deadline = time.monotonic() + TIMEOUT_S
    while not (tmp_path / "log.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "none came" in errors
    assert "Traceback" not in errors
    assert not folder.exists()


def test_an_existing_bag_is_not_changed(environment: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "results.mcap"
    output.write_text("precious")
    process = start(environment, output)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert errors.startswith("record_perception: ")
    assert errors.count("\n") == 1
    assert output.read_text() == "precious"


@pytest.mark.parametrize(
    "names",
    [
        ["--cameras", "../../etc"], ["--cameras", "front", "x" * 65], ["--perception", "perception"],
        ["--perception", "/../perception"], ["--perception", "/" + "x" * 200],
    ],
    ids=["folder", "long camera", "relative", "folder of the node", "long node"],
)  # fmt: skip
def test_names_that_no_topic_can_have_are_refused(
    names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = [] if "--cameras" in names else ["--cameras", "front"]
    assert record_perception.main(["-o", str(tmp_path / "out" / "results.mcap"), *cameras, *names]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("record_perception: expected --")
    assert errors.count("\n") == 1
    assert len(errors) < 250
    assert not (tmp_path / "out").exists()


def test_a_message_without_a_header_is_left_out(peer: Peer, environment: dict[str, str], tmp_path: Path) -> None:
    publisher = Publisher(peer)
    process = start(environment, tmp_path / "results.mcap", "--traffic-log", str(tmp_path / "log.csv"))
    peer.until(publisher.matched, "the recorder subscribes")
    for number in (1, 2):
        publisher.publishers[f"{BASE}/segmentation"].publish(b"\x00\x01\x00\x00\x07")
        publisher.publish(number)
    peer.until(
        lambda: len([row for row in read_traffic(tmp_path / "log.csv") if row.stamp_ns == 2]) == 2, "all arrived"
    )
    assert "2 left out because they have no header" in end(process)
    assert len(read(tmp_path / "results.mcap")[f"{BASE}/segmentation"]) == 2


def test_an_invalid_clock_loses_no_recorded_message(peer: Peer, environment: dict[str, str], tmp_path: Path) -> None:
    output, log = tmp_path / "results.mcap", tmp_path / "received.csv"
    publisher, clock = Publisher(peer), peer.publisher(Clock, "/clock")
    process = start(environment, output, "--traffic-log", str(log), "--ros-args", "-p", "use_sim_time:=true")
    peer.until(lambda: publisher.matched() and clock.get_subscription_count(), "the recorder subscribes")
    times = Clock()
    for number, second in enumerate((5, -1, -1, 6), start=1):
        times.clock.sec = second
        clock.publish(times)
        peer.spin_for(0.2)
        publisher.publish(number)
    peer.until(
        lambda: process.poll() is not None or len([c for c in read_traffic(log) if c.stamp_ns == 4]) == 2, "all arrived"
    )
    assert process.poll() is None
    end(process)
    assert [mask.header.stamp.nanosec for _, mask in read(output)[f"{BASE}/segmentation"]] == [1, 2, 3, 4]


def test_a_clock_that_never_comes_is_named(peer: Peer, environment: dict[str, str], tmp_path: Path) -> None:
    output, log = tmp_path / "results.mcap", tmp_path / "received.csv"
    publisher = Publisher(peer)
    process = start(environment, output, "--traffic-log", str(log), "--ros-args", "-p", "use_sim_time:=true")
    peer.until(publisher.matched, "the recorder subscribes")
    publisher.publish(1)
    peer.until(lambda: log.exists() and sum(1 for _ in read_traffic(log)) == 4, "all has arrived")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "expected times on /clock" in errors
    assert "4 messages were lost" in errors
    assert not output.exists()


def test_the_messages_that_wait_for_the_clock_are_limited(tmp_path: Path) -> None:
    now, receivers = SimpleNamespace(nanoseconds=0), []
    node: Any = SimpleNamespace(
        create_subscription=lambda kind, topic, receive, qos, raw: receivers.append(receive),
        get_clock=lambda: SimpleNamespace(now=lambda: now),
    )
    serialized = serialize_message(image_message(np.zeros((4, 4, 3), np.uint8), 7))
    with BagWriter(tmp_path / "results.mcap", irreplaceable=True) as writer:
        topics = topics_of("/perception", ["front"])
        recorder = record_perception.PerceptionRecorder(node, writer, topics, None)
        receive, deadline = receivers[[topic.kind for topic in topics].index("segmentation")], time.monotonic() + 60
        for number in range(1, QUEUE_MESSAGES + 45):
            receive(serialized)
            while recorder.untimed < number and time.monotonic() < deadline:
                time.sleep(0.001)
        now.nanoseconds = 5
        receive(serialized)
        recorder.finish()
        assert (recorder.recorded, recorder.untimed, recorder.lost) == (QUEUE_MESSAGES + 1, 44, 0)
        assert "44 lost because no time had come on /clock" in record_perception.summary(recorder, writer.path)
    assert len(read(tmp_path / "results.mcap")[f"{BASE}/segmentation"]) == QUEUE_MESSAGES + 1


def test_a_full_disk_ends_the_recording_and_keeps_what_was_recorded(
    peer: Peer, environment: dict[str, str], tmp_path: Path
) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    # Half of the disk of 8 MiB is occupied from the start.
    script = (
        'mount -t tmpfs -o size=8m tmpfs "$0" || exit 77; head -c 3000000 /dev/zero > "$0/other"; "$@"; status=$?; '
        f'cp "$0"/*.mcap {kept}; exit $status'
    )
    recorder = [sys.executable, "-m", "ros_kd_perception.ros.record_perception", "--cameras", "front"]
    command = ["unshare", "-rm", "sh", "-c", script, str(disk), *recorder, "-o", str(disk / "results.mcap")]
    publisher = Publisher(peer)
    try:
        process = subprocess.Popen(
            command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError:
        pytest.skip("needs unshare, for a small disk")
    peer.until(lambda: publisher.matched() or process.poll() is not None, "the recorder subscribes")
    noise, numbers = np.random.default_rng(0), iter(range(1, 10**6))

    def send_and_look() -> bool:
        mask = image_message(noise.integers(0, 256, (120, 160, 3), dtype=np.uint8), next(numbers))
        publisher.publishers[f"{BASE}/segmentation"].publish(mask)
        peer.spin_for(0.02)
        return process.poll() is not None

    peer.until(send_and_look, "the disk is full")
    output, errors = process.communicate(timeout=TIMEOUT_S)
    if process.returncode in (1, 77) and "record_perception" not in errors:
        pytest.skip(f"needs a kernel and a user that may mount a small disk: {errors}")
    assert process.returncode == 2
    assert "the recording ended early, with what came before in" in errors
    assert "No space left on device" in errors
    assert "Traceback" not in errors
    messages = read(kept / "results.mcap")
    assert f"recorded {sum(map(len, messages.values()))} messages" in output
    assert len(messages[f"{BASE}/segmentation"]) > 10


def test_a_task_that_the_model_does_not_do_is_not_waited_for(peer: Peer, tmp_path: Path) -> None:
    rest = [topic for topic in TOPICS if "detections" in topic]
    with BagWriter(tmp_path / "results.mcap") as writer:
        recorder = record_perception.PerceptionRecorder(peer.node, writer, topics_of("/perception", ["front"]), None)
        peer.publisher(Image, f"{BASE}/segmentation")
        labels = f"{BASE}/segmentation/label_info"
        peer.until(lambda: set(recorder.publishers_missing()) == {labels, *rest, "/diagnostics"}, "the mask is found")
        peer.publisher(DiagnosticArray, "/diagnostics")
        peer.publisher(LabelInfo, labels, LATCHED)
        peer.until(lambda: recorder.publishers_missing() == [], "the labels of the only task are found")
        peer.publisher(Detection2DArray, f"{BASE}/detections")
        peer.until(lambda: recorder.publishers_missing() == [f"{BASE}/detections/label_info"], "a second task is found")
        recorder.finish()
