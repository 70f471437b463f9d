"""`check_vehicle` on a real graph, as a process."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_graph import BEST_EFFORT, NodeProcess, Peer, camera_picture, compressed_message, image_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ros_kd_perception.ros import vehicle_watch
from ros_kd_perception.ros.parameter_table import ParameterTable
from ros_kd_perception.ros.vehicle_watch import VehicleWatch

SECONDS = "1.5"
LIMIT_S = 40.0


@dataclass(frozen=True)
class Report:
    """What a process said."""

    status: int
    document: dict[str, Any]

    def finding(self, check: str) -> dict[str, str]:
        [finding] = [finding for finding in self.document["findings"] if finding["check"] == check]
        return finding

    def level(self, check: str) -> str:
        return self.finding(check)["level"]


Check = Callable[..., Report]
StartNode = Callable[..., NodeProcess]


@pytest.fixture
def check(environment: dict[str, str], peer: Peer) -> Check:
    """Run the command, and call a function again and again meanwhile."""

    def run(*arguments: str, meanwhile: Callable[[], object] = lambda: None) -> Report:
        command = [sys.executable, "-m", "ros_kd_perception.ros.check_vehicle", "--seconds", SECONDS, "--json"]
        process = subprocess.Popen(
            [*command, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

        def ended() -> bool:
            meanwhile()
            peer.spin_for(0.03)
            return process.poll() is not None

        try:
            peer.until(ended, "the command ends", LIMIT_S)
        finally:
            process.kill()
        output, errors = process.communicate()
        assert output, errors
        return Report(process.returncode, json.loads(output))

    return run


def test_without_any_publisher_it_ends_and_says_so(check: Check, tiny_student: Path) -> None:
    begun_s = time.monotonic()
    report = check("--ros-args", "-p", f"model:={tiny_student}", "-p", "cameras:=[front, left]")

    assert report.status == 1
    assert time.monotonic() - begun_s < LIMIT_S
    for camera in ("front", "left"):
        finding = report.finding(f"camera {camera}")
        assert finding["level"] == "problem"
        assert f"nothing came on /{camera}/image_raw" in finding["sentence"]
        assert "it has no publisher" in finding["sentence"]
        assert finding["remedy"] == "start the camera or remap the topic"
    assert "does not run" in report.finding("node")["sentence"]
    assert report.level("model") == report.level("clock") == report.level("shared memory") == "ok"


def test_a_vehicle_that_is_well_beside_its_running_node(
    check: Check, peer: Peer, start_node: StartNode, tiny_student: Path, tmp_path: Path
) -> None:
    parameters = tmp_path / "vehicle.yaml"
    parameters.write_text(
        f"/**: {{ros__parameters: {{model: {tiny_student}}}}}\n"
        "/perception: {ros__parameters: {cameras: [front, left], left.image_transport: compressed}}\n"
    )
    front = peer.publisher(Image, "/cam0/image", BEST_EFFORT)
    left = peer.publisher(CompressedImage, "/left/image_raw/compressed", BEST_EFFORT)

    def send() -> None:
        front.publish(image_message(camera_picture(), time.time_ns()))
        left.publish(compressed_message(camera_picture(), time.time_ns(), ".jpg"))

    start_node()
    peer.until_active()
    report = check("--params-file", str(parameters), "--ros-args", "-r", "front/image_raw:=/cam0/image", meanwhile=send)

    assert report.document["node"] == "/perception"
    assert "/perception runs" in report.finding("node")["sentence"]
    front_finding = report.finding("camera front")
    assert front_finding["sentence"].startswith("bgr8 160x96, ")
    assert "on /cam0/image" in front_finding["sentence"]
    assert "jpeg" in report.finding("camera left")["sentence"]
    for camera in ("front", "left"):
        for about in ("", ": pictures", ": frame_id", ": stamps", ": camera_info"):
            assert report.level(f"camera {camera}{about}") == "ok", report.document
    assert report.status == 0
    assert report.document["has_problem"] is False


def test_cameras_that_are_not_well(check: Check, peer: Peer, tiny_student: Path) -> None:
    depth = peer.publisher(Image, "/depth/image_raw", BEST_EFFORT)
    late = peer.publisher(Image, "/late/image_raw", BEST_EFFORT)
    wrong = peer.publisher(CompressedImage, "/wrong/image_raw", BEST_EFFORT)
    clock = peer.publisher(Clock, "/clock")

    def send() -> None:
        message = image_message(camera_picture(), time.time_ns(), "/optical")
        message.encoding = "32FC1"
        depth.publish(message)
        late.publish(image_message(camera_picture(), time.time_ns() - 60 * 10**9))
        wrong.publish(compressed_message(camera_picture(), time.time_ns()))
        clock.publish(Clock())

    parameters = ("-p", f"model:={tiny_student}", "-p", "cameras:=[depth, late, wrong]")
    report = check("--ros-args", *parameters, meanwhile=send)

    assert report.status == 1
    assert report.level("camera depth") == "ok"
    assert report.level("camera depth: pictures") == "problem"
    assert "32FC1" in report.finding("camera depth: pictures")["sentence"]
    assert report.level("camera depth: frame_id") == "warning"
    behind = re.match(r"([0-9.]+) s behind the system clock", report.finding("camera late: stamps")["sentence"])
    assert behind
    assert 60 <= float(behind[1]) < 65  # images also wait on a busy machine
    assert "use_sim_time: true" in report.finding("camera late: stamps")["remedy"]
    assert "sensor_msgs/msg/CompressedImage" in report.finding("camera wrong")["sentence"]
    assert "image_transport" in report.finding("camera wrong")["remedy"]
    assert report.level("clock") == "warning"


def test_simulated_time_scans_and_tf(check: Check, peer: Peer, tiny_student: Path, tmp_path: Path) -> None:
    parameters = tmp_path / "vehicle.yaml"
    parameters.write_text(
        "/car1/perception:\n  ros__parameters:\n"
        f"    {{model: {tiny_student}, cameras: [front, left], use_sim_time: true, "
        "scan.enabled: true, scan.mounting: tf}\n"
    )
    images = {camera: peer.publisher(Image, f"/car1/{camera}/image_raw", BEST_EFFORT) for camera in ("front", "left")}
    info = peer.publisher(CameraInfo, "/car1/front/camera_info", BEST_EFFORT)
    clock = peer.publisher(Clock, "/clock")
    bag_ns = 1_700_000_000 * 10**9

    def send() -> None:
        nonlocal bag_ns
        bag_ns += 30_000_000
        tick = Clock()
        tick.clock.sec, tick.clock.nanosec = divmod(bag_ns, 10**9)
        clock.publish(tick)
        for publisher in images.values():
            publisher.publish(image_message(camera_picture(), bag_ns))
        info.publish(CameraInfo(width=160, height=96, k=[100.0, 0.0, 80.0, 0.0, 100.0, 48.0, 0.0, 0.0, 1.0]))

    report = check("--params-file", str(parameters), meanwhile=send)

    assert report.document["node"] == "/car1/perception"
    assert report.level("clock") == "ok"
    assert report.level("camera front: stamps") == "ok"
    assert "by /clock" in report.finding("camera front: stamps")["sentence"]
    assert report.level("camera front: camera_info") == "ok"
    assert "/car1/left/camera_info: it has no publisher" in report.finding("camera left: camera_info")["sentence"]
    assert report.level("camera left: camera_info") == "problem"
    assert "tf2_ros" in report.finding("camera front: mounting")["sentence"]
    assert report.status == 1


@pytest.mark.parametrize(
    "output", ["scan.enabled", "ground_points.enabled", "ground_detections.enabled", "publish_camera_info"]
)
def test_each_output_that_needs_the_calibration_of_a_camera(
    check: Check, tiny_student: Path, tmp_path: Path, output: str
) -> None:
    parameters = tmp_path / "vehicle.yaml"
    parameters.write_text(
        "/**:\n  ros__parameters:\n"
        f"    {{model: {tiny_student}, cameras: [front], front.mounting.height_m: 1.5, {output}: true}}\n"
    )

    report = check("--params-file", str(parameters))

    assert report.level("camera front: camera_info") == "problem"
    assert "publish the calibration" in report.finding("camera front: camera_info")["remedy"]


@pytest.fixture
def watch_of(context: Context) -> Iterator[Callable[..., VehicleWatch]]:
    """Return what listens for a node with these parameters. Nothing spins it."""
    nodes: list[Node] = []

    def make(**parameters: Any) -> VehicleWatch:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        nodes.append(node := Node("check_vehicle", context=context, parameter_overrides=overrides))
        return VehicleWatch(node, ParameterTable(node, lambda changes: None).read())

    yield make
    for node in nodes:
        node.destroy_node()


def test_a_camera_info_is_read_as_the_outputs_of_the_node_read_it(watch_of: Callable[..., VehicleWatch]) -> None:
    other_lens, bad_projection = (
        CameraInfo(width=160, height=96, k=[100.0, 0.0, 80.0, 0.0, 100.0, 48.0, 0.0, 0.0, 1.0]) for _ in range(2)
    )
    other_lens.distortion_model = "thin_prism"
    bad_projection.p = [math.nan] * 12
    mounting = {"front.mounting.height_m": 1.5}
    passes_on = watch_of(publish_camera_info=True)
    scan, ground, detections = (
        watch_of(**mounting, **{f"front.{output}.enabled": True})
        for output in ("scan", "ground_points", "ground_detections")
    )

    def problem(watch: VehicleWatch, info: CameraInfo) -> str:
        watch._heard["front"].info = info
        return watch.calibration("front").problem

    assert problem(passes_on, other_lens) == ""
    assert passes_on.calibration("front").size == "160x96"
    for output in (scan, ground, detections):
        assert "distortion model" in problem(output, other_lens)
    for output in (passes_on, ground):
        assert "P with NaN" in problem(output, bad_projection)
    for output in (scan, detections):
        assert problem(output, bad_projection) == ""


def test_tf_is_asked_for_the_frame_that_the_node_asks_for(
    watch_of: Callable[..., VehicleWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pose(frame_id: str, optical_frame_id: str) -> None:
        if optical_frame_id != "front_optical":
            raise ValueError(f"no transform from {optical_frame_id!r} to {frame_id}")

    monkeypatch.setattr(vehicle_watch, "TfMounting", lambda node: SimpleNamespace(pose=pose))
    watch = watch_of(**{"front.scan.enabled": True, "scan.mounting": "tf"})
    heard = watch._heard["front"]
    heard.frame_ids.append("front_optical")

    assert "expected a CameraInfo" in watch.calibration("front").mounting

    heard.info = CameraInfo()
    assert watch.calibration("front").mounting == "no transform from '' to base_link"
    heard.info.header.frame_id = "front_optical"
    assert watch.calibration("front").mounting == ""


def test_shared_memory_is_counted_for_all_processes_that_the_node_has(
    check: Check, peer: Peer, tiny_student: Path, start_node: StartNode
) -> None:
    words = (f"model:={tiny_student}", "cameras:=[front, left]", "preparation_processes:=8")
    report = check("--ros-args", *(word for value in words for word in ("-p", value)))
    start_node(cameras=["front", "left"], preparation_processes=8)
    peer.until(lambda: peer.value("workers", "standing_by") == "1", "all processes are there")

    workers = peer.value("workers", "process_ids").split()

    assert f"are needed for the node's {1 + len(workers)} processes" in report.finding("shared memory")["sentence"]


def test_a_message_that_cannot_be_handled_does_not_end_the_check(check: Check, peer: Peer, tiny_student: Path) -> None:
    front = peer.publisher(Image, "/front/image_raw", BEST_EFFORT)
    clock = peer.publisher(Clock, "/clock")
    before_1970 = Clock()
    before_1970.clock.sec = -5

    def send() -> None:
        clock.publish(before_1970)
        front.publish(image_message(camera_picture(), time.time_ns()))

    report = check("--ros-args", "-p", f"model:={tiny_student}", "-p", "use_sim_time:=true", meanwhile=send)

    assert report.level("messages") == "warning"
    assert "Seconds value must not be negative" in report.finding("messages")["sentence"]
    assert report.level("camera front") == "ok"


def test_simulated_time_that_does_not_come(check: Check, peer: Peer, tiny_student: Path) -> None:
    front = peer.publisher(Image, "/front/image_raw", BEST_EFFORT)
    report = check(
        "--ros-args", "-p", f"model:={tiny_student}", "-p", "use_sim_time:=true",
        meanwhile=lambda: front.publish(image_message(camera_picture(), time.time_ns())),
    )  # fmt: skip

    assert report.level("clock") == "problem"
    assert report.level("camera front: stamps") == "warning"


@pytest.mark.parametrize(
    ("parameters", "check_name", "level", "words"),
    [
        ({"model": "/no/such.onnx"}, "model", "problem", "/no/such.onnx"),
        ({"require_signature": "true"}, "parameters", "problem", "signature_key"),
        ({"require_signature": "true", "signature_key": "/no/key.pub"}, "model", "problem", "/no/key.pub"),
        ({"device": "cuda", "require_gpu": "true"}, "GPU", "problem", "CUDAExecutionProvider"),
        ({"max_age": "5.0"}, "parameters", "warning", "max_age_ms"),
    ],
)
def test_parameters_and_files_that_are_not_well(
    parameters: dict[str, str], check_name: str, level: str, words: str, check: Check, tiny_student: Path
) -> None:
    rules = {"model": str(tiny_student)} | parameters
    report = check("--ros-args", *(word for name, value in rules.items() for word in ("-p", f"{name}:={value}")))

    findings = [finding for finding in report.document["findings"] if finding["check"] == check_name]
    assert level in [finding["level"] for finding in findings], report.document
    assert any(words in finding["sentence"] for finding in findings)
    assert report.status == 1  # no camera sends, too


def test_two_nodes_of_one_name_are_a_problem(
    check: Check, peer: Peer, start_node: StartNode, tiny_student: Path
) -> None:
    for _ in range(2):
        start_node()
    names = peer.node.get_node_names
    peer.until(lambda: names().count("perception") == 2, "both nodes are there")

    finding = check("--ros-args", "-p", f"model:={tiny_student}").finding("node")

    assert finding["level"] == "problem"
    assert "2 nodes are called /perception" in finding["sentence"]


def run_plain(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ros_kd_perception.ros.check_vehicle", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_lines_for_people(environment: dict[str, str], tiny_student: Path) -> None:
    done = run_plain(
        environment, "--seconds", "0.3", "--camera", "rear=/cam9/image", "--ros-args", "-p", f"model:={tiny_student}"
    )

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("problem  camera rear: nothing came on /cam9/image in 0.3 s") for line in lines)
    assert any(line.startswith("ok       model: ") for line in lines)
    assert lines[-1].startswith("1 problem and ")


def test_ros_own_arguments_count_as_for_the_node(
    environment: dict[str, str], tiny_student: Path, tmp_path: Path
) -> None:
    path = tmp_path / "vehicle.yaml"
    path.write_text("/perception: {ros__parameters: {cameras: [roof], model: /no/such.onnx}}")

    done = run_plain(
        environment, "--seconds", "0.3", "--ros-args", "--params-file", str(path), "-p", f"model:={tiny_student}"
    )

    assert "ok       parameters: can be used, cameras: roof" in done.stdout, done.stderr
    assert f"ok       model: {tiny_student}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--seconds", "0"], "expected --seconds above 0"),
        (["--seconds", "nan"], "expected --seconds above 0"),
        (["--params-file", "/no/such.yaml"], "expected a parameter file at /no/such.yaml"),
        (["--node", "1a"], "expected the full name of a node"),
        (["--camera", "front"], "expected --camera NAME=TOPIC"),
        (["--ros-args", "-r", "__node:=1a"], "1a"),
    ],
)
def test_options_that_cannot_be_used(arguments: list[str], why: str, environment: dict[str, str]) -> None:
    done = run_plain(environment, *arguments)

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("check_vehicle: ")
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_it_at_once(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "ros_kd_perception.ros.check_vehicle", "--seconds", "500"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()  # the node has started
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=LIMIT_S)

    assert process.returncode == 130
    assert "interrupted" in errors
    assert output == ""
