"""The examples of docs/examples on a real graph, behind the real node. Those in C++ only where rclcpp is installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from checkout import ROOT
from geometry_msgs.msg import Twist, TwistStamped
from ros_graph import BEST_EFFORT, LATCHED, RELIABLE, Peer, image_message
from sensor_msgs.msg import CameraInfo, Image, LaserScan
from std_msgs.msg import Bool
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass

EXAMPLES = ROOT / "docs" / "examples"
ROAD, CAR = 3, 8  # class ids of the tiny student, whose class map is the brightness by steps of 24
StartNode = Callable[..., Any]


@pytest.fixture(scope="session")
def cpp_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the examples in C++ and return the folder of the executables."""
    try:
        for package in ("rclcpp", "message_filters", "vision_msgs"):
            get_package_prefix(package)
    except (PackageNotFoundError, OSError) as error:  # OSError: AMENT_PREFIX_PATH is not set
        pytest.skip(f"NOT RUN: C++ examples need a ROS install: {error}")
    build = tmp_path_factory.mktemp("examples")
    for command in (["cmake", str(EXAMPLES / "cpp")], ["cmake", "--build", "."]):
        done = subprocess.run(command, cwd=build, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build


@pytest.fixture(params=["python", "cpp"])
def command_of(request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    if request.param == "python":
        return lambda name: [sys.executable, str(EXAMPLES / f"{name}.py")]
    build: Path = request.getfixturevalue("cpp_build")
    return lambda name: [str(build / name)]


class Example:
    """A running example."""

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self.process = process
        self._log_path = log_path

    @property
    def log(self) -> str:
        return self._log_path.read_text()


@contextmanager
def running(command: list[str], environment: dict[str, str], folder: Path, *rules: str) -> Iterator[Example]:
    """Run an example with ROS arguments, and end it with Ctrl-C."""
    log_path = folder / "example.log"
    arguments = ["--ros-args", *rules]
    # Without the checkout: an example stands alone. vision_msgs comes from where the tests have it.
    inherited = environment | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    with log_path.open("w") as log:
        process = subprocess.Popen([*command, *arguments], env=inherited, stdout=log, stderr=log, cwd=folder)
    try:
        yield Example(process, log_path)
        assert process.poll() is None, log_path.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert "Traceback" not in log_path.read_text()


def street(blocked: bool) -> np.ndarray:
    """Return a picture that is all road for the tiny student, or has a car right before the camera."""
    picture = np.full((96, 160, 3), 24 * ROAD + 12, np.uint8)
    if blocked:
        picture[48:, 40:120] = 24 * CAR + 12
    return picture


def test_the_brake_follows_the_scan_of_the_node_and_takes_everything_unknown_for_danger(
    peer: Peer, start_node: StartNode, environment: dict[str, str], tmp_path: Path,
    command_of: Callable[[str], list[str]],
) -> None:  # fmt: skip
    scan_rules = {"front.mounting.height_m": 1.45, "front.mounting.pitch_deg": 5.0, "scan.range_max_m": 10.0}
    # The padding below the picture is no road for the tiny student, and shares a cell with its lowest rows.
    scan_rules["free_space.ignore_bottom_px"] = 8
    start_node(
        *(word for name, value in scan_rules.items() for word in ("-p", f"{name}:={value}")), "-p", "scan.enabled:=true"
    )
    images = peer.matched_publisher(Image, "/front/image_raw")
    infos = peer.matched_publisher(CameraInfo, "/front/camera_info")
    speeds = peer.publisher(TwistStamped, "/vehicle/speed", BEST_EFFORT)
    peer.listen(Bool, "/brake", RELIABLE)
    info = CameraInfo(width=160, height=96, k=[120.0, 0.0, 80.0, 0.0, 120.0, 48.0, 0.0, 0.0, 1.0])

    def send(blocked: bool = False, image_age_s: float = 0.0, speed_mps: float | None = 0.5) -> None:
        now_ns = time.time_ns()
        infos.publish(info)
        images.publish(image_message(street(blocked), now_ns - round(image_age_s * 1e9)))
        if speed_mps is not None:
            speed = TwistStamped()
            speed.header.stamp.sec, speed.header.stamp.nanosec = divmod(now_ns, 10**9)
            speed.twist.linear.x = speed_mps
            speeds.publish(speed)

    def until_brake_is(wanted: bool, reason: str, **sent: Any) -> None:
        decisions = peer.received["/brake"]
        before = example.log.count(reason)

        def found() -> bool:
            send(**sent)
            peer.spin_for(0.04)
            return bool(decisions) and decisions[-1].data == wanted and example.log.count(reason) > before

        peer.until(found, f"brake is {wanted} because of {reason}: {example.log}")

    rules = ("-r", "scan:=/perception/front/scan", "-r", "speed:=/vehicle/speed", "-p", "max_age_s:=1.0")
    with running(command_of("emergency_brake"), environment, tmp_path, *rules) as example:
        peer.until(lambda: peer.received["/brake"], "the brake decides without any message")
        assert all(decision.data for decision in peer.received["/brake"])
        until_brake_is(False, "free")
        until_brake_is(True, "blocked", blocked=True)
        until_brake_is(False, "free")
        until_brake_is(True, "cannot see far enough", speed_mps=20.0)
        until_brake_is(False, "free")
        until_brake_is(True, "stale speed", speed_mps=None)
        until_brake_is(False, "free")
        until_brake_is(True, "stale scan", image_age_s=60.0)


def test_the_brake_takes_a_beam_without_a_range_for_danger(
    peer: Peer, environment: dict[str, str], tmp_path: Path, command_of: Callable[[str], list[str]]
) -> None:
    scans, speeds = (peer.publisher(kind, name) for kind, name in ((LaserScan, "/scan"), (TwistStamped, "/speed")))
    peer.listen(Bool, "/brake", RELIABLE)

    def send(straight_ahead_m: float) -> None:
        scan, speed = LaserScan(angle_min=-0.1, angle_max=0.1, angle_increment=0.01, range_max=50.0), TwistStamped()
        scan.ranges = [float("inf")] * 10 + [straight_ahead_m] + [float("inf")] * 5 + [float("nan")] * 5
        for message in (scan, speed):
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
        scans.publish(scan)
        speeds.publish(speed)

    def until_log(reason: str, straight_ahead_m: float) -> None:
        peer.until(
            lambda: (send(straight_ahead_m), peer.spin_for(0.04), reason in example.log)[2],
            f"the brake says {reason}: {example.log}",
        )

    with running(command_of("emergency_brake"), environment, tmp_path) as example:
        until_log("free", float("inf"))
        until_log("unknown ahead", float("nan"))
        until_log("blocked", 3.0)


def test_the_brake_takes_a_scan_that_says_nothing_about_the_way_ahead_for_danger(
    peer: Peer, environment: dict[str, str], tmp_path: Path, command_of: Callable[[str], list[str]]
) -> None:
    scans, speeds = (peer.publisher(kind, name) for kind, name in ((LaserScan, "/scan"), (TwistStamped, "/speed")))
    peer.listen(Bool, "/brake", RELIABLE)
    far, near, none = float("inf"), float("-inf"), float("nan")

    def until_brake_is(wanted: bool, angle_min: float, increment: float, ranges: list[float]) -> None:
        def found() -> bool:
            scan, speed = LaserScan(angle_min=angle_min, angle_increment=increment, ranges=ranges), TwistStamped()
            scan.range_min, scan.range_max = 0.5, 50.0
            for message in (scan, speed):
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
            scans.publish(scan)
            speeds.publish(speed)
            peer.spin_for(0.04)
            return bool(peer.received["/brake"]) and peer.received["/brake"][-1].data == wanted

        peer.until(found, f"brake is {wanted} for {ranges}: {example.log}")

    with running(command_of("emergency_brake"), environment, tmp_path) as example:
        for angle_min, increment, ranges in (
            (-0.1, 0.1, []),
            (0.1, 0.01, [far] * 20),  # a scanner that looks aside
            (-0.21, 0.14, [far, none, far, far]),  # beams of 8 degrees, none of them straight ahead
            (-0.21, 0.14, [far, far, none, far]),
            (-0.2, 0.1, [far, near, far, far, far]),  # REP 117: nearer than range_min
            (-0.2, 0.1, [far, far, 0.0, far, far]),  # what many scanners give for no range
        ):
            until_brake_is(False, -0.21, 0.14, [far, far, far, far])
            until_brake_is(True, angle_min, increment, ranges)


def commands(peer: Peer) -> list[Twist]:
    return peer.received["/cmd_vel"]


def test_the_follower_drives_by_boxes_and_mask_of_the_node_and_stops_without_them(
    peer: Peer, start_node: StartNode, environment: dict[str, str], tmp_path: Path,
    command_of: Callable[[str], list[str]],
) -> None:  # fmt: skip
    start_node()
    images = peer.matched_publisher(Image, "/front/image_raw")
    peer.listen(Twist, "/cmd_vel", RELIABLE)

    def until_command(what: str, fits: Callable[[Twist], bool], picture: np.ndarray | None) -> None:
        commands(peer).clear()

        def found() -> bool:
            if picture is not None:
                images.publish(image_message(picture, time.time_ns()))
            peer.spin_for(0.05)
            return any(map(fits, commands(peer)))

        peer.until(found, what)

    rules = ("-r", "__ns:=/perception/front", "-r", "cmd_vel:=/cmd_vel", "-p", "target:=car", "-p", "max_age_s:=2.0")
    with running(command_of("follower"), environment, tmp_path, *rules):
        until_command("it stands without images", lambda c: c.linear.x == c.angular.z == 0, None)
        # The tiny student always sees a car left of the middle, which is a turn to the left.
        until_command("it follows on the road", lambda c: 0 < c.linear.x <= 1 and c.angular.z > 0, street(False))
        until_command(
            "it only turns if the way is no road", lambda c: c.linear.x == 0 and c.angular.z > 0, street(True)
        )
        until_command("it stands again", lambda c: c.linear.x == c.angular.z == 0, None)


def test_the_follower_pairs_by_stamp_and_reads_ids_by_name(
    peer: Peer, environment: dict[str, str], tmp_path: Path, command_of: Callable[[str], list[str]]
) -> None:
    boxes, masks = peer.publisher(Detection2DArray, "/detections"), peer.publisher(Image, "/segmentation")
    for kind, names in (("detections", {7: "pedestrian", 1: "car"}), ("segmentation", {40: "road", 2: "sky"})):
        table = LabelInfo(class_map=[VisionClass(class_id=i, class_name=name) for i, name in names.items()])
        peer.publisher(LabelInfo, f"/{kind}/label_info", LATCHED).publish(table)
    peer.listen(Twist, "/cmd_vel", RELIABLE)

    def stamped(message: Any, stamp_ns: int) -> Any:
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        return message

    def box_at(x: float, class_id: str) -> Detection2D:
        box = Detection2D()
        guess = ObjectHypothesisWithPose()
        guess.hypothesis.class_id, guess.hypothesis.score = class_id, 0.9
        box.results = [guess]
        box.bbox.center.position.x, box.bbox.center.position.y = x, 40.0
        box.bbox.size_x, box.bbox.size_y = 10.0, 24.0
        return box

    mask = Image(height=80, width=100, encoding="mono8", step=128)
    mask.data.frombytes(bytes([40]) * 128 * 80)

    def send(same_stamp: bool, person: str = "7", car: str = "1", ahead_s: int = 0) -> None:
        now_ns = time.time_ns() + ahead_s * 10**9
        array = Detection2DArray(detections=[box_at(75.0, person), box_at(10.0, car)])
        masks.publish(stamped(mask, now_ns))
        boxes.publish(stamped(array, now_ns + (not same_stamp)))
        peer.spin_for(0.05)

    with running(command_of("follower"), environment, tmp_path, "-p", "max_age_s:=2.0"):
        peer.until(lambda: (send(False), len(commands(peer)) > 20)[1], "it has had time")
        assert {(c.linear.x, c.angular.z) for c in commands(peer)} == {(0.0, 0.0)}
        if "follower.py" in command_of("follower")[-1]:  # the C++ twin leaves its queue to message_filters
            for _ in range(10):  # left over from before the clock was set back
                send(False, ahead_s=3600)
        for ids in (("7", "1"), ("pedestrian", "car")):  # numbers, or names with detection_class_id: name
            commands(peer).clear()
            # The last command of the ids before may come late.
            peer.until(
                lambda ids=ids: (send(True, *ids), len(commands(peer)) > 10 and commands(peer)[-1].linear.x)[1],
                f"it follows {ids[0]}",
            )
            command = commands(peer)[-1]
            assert command.angular.z == pytest.approx(-0.8 * (2 * 75 / 100 - 1))
            assert command.linear.x == pytest.approx(1 - (24 / 80) / 0.6)


def test_the_follower_pairs_again_after_stamps_have_gone_back(
    peer: Peer, environment: dict[str, str], tmp_path: Path, command_of: Callable[[str], list[str]]
) -> None:
    boxes, masks = peer.publisher(Detection2DArray, "/detections"), peer.publisher(Image, "/segmentation")
    peer.listen(Twist, "/cmd_vel", RELIABLE)
    guess = ObjectHypothesisWithPose()
    guess.hypothesis.class_id, guess.hypothesis.score = "pedestrian", 0.9
    box = Detection2D(results=[guess])
    box.bbox.size_x, box.bbox.size_y = 10.0, 24.0
    array, mask = Detection2DArray(detections=[box]), Image(height=80, width=100, encoding="mono8", step=100)
    mask.data.frombytes(bytes(8000))

    def send(stamp_ns: int, *pairs: tuple[Any, Any]) -> None:
        for message, publisher in pairs:
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
            publisher.publish(message)
        peer.spin_for(0.05)

    def it_turns() -> bool:
        send(time.time_ns(), (mask, masks), (array, boxes))
        return bool(commands(peer)) and commands(peer)[-1].angular.z != 0

    with running(command_of("follower"), environment, tmp_path, "-p", "max_age_s:=2.0"):
        peer.until(it_turns, "it follows")
        for second in range(3600, 3620):  # from time to time the boxes of a mask are lost
            stamp_ns = time.time_ns() + second * 10**9
            send(stamp_ns, (mask, masks))
            send(stamp_ns + 10**8, (mask, masks), (array, boxes))
        send(stamp_ns + 2 * 10**8, (mask, masks))
        peer.until(lambda: commands(peer)[-1].angular.z == 0, "it takes no command from stamps of the future")
        peer.until(it_turns, "it follows again when the bag begins again")
