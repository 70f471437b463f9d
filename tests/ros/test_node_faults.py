"""Bad messages, dead and silent cameras, wrong clocks: the node counts them by reason, reports them and goes on."""

from __future__ import annotations

import array
import itertools
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_graph import BEST_EFFORT, RELIABLE, Peer, camera_picture, compressed_message, image_message, stamp_ns
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from ros_kd_perception.health.status import Level
from ros_kd_perception.model.onnx_runtime import onnxruntime

T0 = 1_700_000_000_000_000_000
PICTURE = camera_picture()


def level(peer: Peer, about: str) -> int:
    return peer.status(about).level[0]


def changed(message: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def with_data(message: Any, data: bytes) -> Any:
    return changed(message, data=array.array("B", data))


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG with a valid header of this size and almost no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


BAD_IMAGES: dict[str, tuple[str, Callable[[Image], Image]]] = {
    "an unknown encoding": ("unknown_encoding", lambda m: changed(m, encoding="rgb9")),
    "no encoding": ("unknown_encoding", lambda m: changed(m, encoding="")),
    "an encoding of control characters": ("unknown_encoding", lambda m: changed(m, encoding="\x07\n" * 200)),
    "no width": ("bad_size", lambda m: changed(m, width=0)),
    "no height": ("bad_size", lambda m: changed(m, height=0)),
    "a size beyond all memory": ("too_large", lambda m: changed(m, width=2**32 - 1, height=2**32 - 1)),
    "60000x60000": ("too_large", lambda m: changed(m, width=60000, height=60000, step=180000)),
    "a step shorter than a row": ("bad_step", lambda m: changed(m, step=m.step - 1)),
    "no step": ("bad_step", lambda m: changed(m, step=0)),
    "a step beyond the data": ("bad_data", lambda m: changed(m, step=m.step * 1000)),
    "more rows than data": ("bad_data", lambda m: changed(m, height=m.height + 1)),
    "no data": ("bad_data", lambda m: with_data(m, b"")),
    "one byte": ("bad_data", lambda m: with_data(m, b"\x00")),
    "an encoding that needs more": ("bad_step", lambda m: changed(m, encoding="bgra8")),
}
BAD_COMPRESSED: dict[str, tuple[str, Callable[[CompressedImage], CompressedImage]]] = {
    "no data": ("bad_data", lambda m: with_data(m, b"")),
    "random bytes": ("bad_data", lambda m: with_data(m, bytes(range(256)))),
    "a JPEG cut off in its header": ("bad_data", lambda m: with_data(m, m.data.tobytes()[:20])),
    "60000x60000": ("too_large", lambda m: with_data(changed(m, format="png"), png_claiming(60000, 60000))),
    "a PNG that is called a JPEG": ("bad_data", lambda m: with_data(m, compressed_message(PICTURE, T0).data.tobytes())),
    "a PNG without its pixels": ("bad_data", lambda m: with_data(changed(m, format="png"), png_claiming(640, 480))),
    "a PNG of no width": ("bad_size", lambda m: with_data(changed(m, format="png"), png_claiming(0, 480))),
}


def test_every_malformed_message_is_counted_by_reason_and_the_node_goes_on(peer: Peer, start_node: Any) -> None:
    peer.listen_to_results("front", "rear")
    node = start_node("-p", "rear.image_transport:=compressed", cameras=["front", "rear"])
    raw = peer.matched_publisher(Image, "/front/image_raw")
    jpeg = peer.matched_publisher(CompressedImage, "/rear/image_raw/compressed")
    number = 0

    def next_stamp() -> int:
        nonlocal number
        number += 1
        return T0 + number * 10**6

    def provoke(camera: str, what: str, reason: str, send: Callable[[], None]) -> None:
        before = peer.drops(camera).get(reason, 0)
        for _ in range(20):  # best effort: a busy machine may lose a message
            send()
            peer.spin_for(0.15)
            if peer.drops(camera).get(reason, 0) > before:
                return
        raise AssertionError(f"{camera} does not drop {what} as {reason}: {peer.drops(camera)}")

    def good_raw(_: int) -> Image:
        return image_message(PICTURE, next_stamp())

    def good_jpeg(_: int) -> CompressedImage:
        return compressed_message(PICTURE, next_stamp(), ".jpg")

    peer.send_until_result(raw, good_raw, "front")
    peer.send_until_result(jpeg, good_jpeg, "rear")
    for what, (reason, spoil) in BAD_IMAGES.items():
        provoke("front", what, reason, lambda spoil=spoil: raw.publish(spoil(good_raw(0))))
    for what, (reason, spoil_jpeg) in BAD_COMPRESSED.items():
        provoke("rear", what, reason, lambda spoil=spoil_jpeg: jpeg.publish(spoil(good_jpeg(0))))
    provoke("front", "a stamp of zero", "zero_stamp", lambda: raw.publish(image_message(PICTURE, 0)))
    provoke("front", "an old stamp", "stamp_backwards", lambda: raw.publish(image_message(PICTURE, T0)))
    assert level(peer, "front") in (Level.WARN, Level.ERROR)
    assert "refused" in peer.status("front").message

    assert node.alive
    peer.send_until_result(raw, good_raw, "front")
    peer.send_until_result(jpeg, good_jpeg, "rear")
    for camera in ("front", "rear"):
        peer.until(lambda camera=camera: peer.count(camera, "waiting") == 0, "all is worked off")
        assert peer.count(camera, "received") == peer.count(camera, "published") + sum(peer.drops(camera).values())
    warnings = [line for line in node.log.splitlines() if "dropped a frame" in line]
    reasons = {reason for reason, _ in (*BAD_IMAGES.values(), *BAD_COMPRESSED.values())}
    refused = sum(count for camera in ("front", "rear") for count in peer.drops(camera).values())
    assert len(reasons) <= len(warnings) < refused  # throttled by camera and reason
    assert node.end() == 0
    assert "Traceback" not in node.log


def test_a_looped_bag_goes_on_after_its_jump_back(peer: Peer, start_node: Any) -> None:
    peer.listen_to_results("front")
    start_node()
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    for second in range(1000, 1004):  # a single first frame may count as a wrong stamp
        start_ns = T0 + second * 10**9
        peer.send_until_result(publisher, lambda n, start_ns=start_ns: image_message(PICTURE, start_ns + n), "front")
    mask = peer.send_until_result(publisher, lambda n: image_message(PICTURE, T0 + n * 10**7), "front")
    assert stamp_ns(mask) < T0 + 10**12
    peer.until(lambda: peer.drops("front").get("stamp_backwards") == 2, "two drops are reported")


CAMERA = """
import sys, time
import rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "/front/image_raw", QoSProfile(depth=1))
message = Image(height=48, width=64, encoding="mono8", step=64, data=bytes(48 * 64))
message.header.frame_id = "front_optical"
while True:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
    message.data[0] = (message.data[0] + 1) % 256
    publisher.publish(message)
    time.sleep(0.02)
"""


def test_a_killed_camera_is_an_error_until_it_is_back(peer: Peer, start_node: Any, environment: dict[str, str]) -> None:
    node = start_node(silence_timeout_ms=400.0)
    # Without the profile, a killed process leaves 0.5 MB of shared memory behind and not 32 MB.
    small = {name: value for name, value in environment.items() if name != "FASTDDS_DEFAULT_PROFILES_FILE"}

    def start_camera() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", CAMERA], env=small)

    camera = start_camera()
    try:
        peer.until(lambda: peer.count("front", "published") > 5 and level(peer, "front") == Level.OK, "it runs")
        camera.kill()
        peer.until(lambda: level(peer, "front") == Level.ERROR, "the death is reported")
        assert peer.status("front").message.startswith("nothing for 0.")
        before = peer.count("front", "published")
        camera.wait()
        camera = start_camera()
        peer.until(lambda: level(peer, "front") == Level.OK, "the recovery is reported")
        peer.until(lambda: peer.count("front", "published") > before, "its images are perceived again")
        assert node.alive
    finally:
        camera.terminate()
        camera.wait()


def test_the_reason_for_a_silent_camera_is_reported(peer: Peer, start_node: Any) -> None:
    start_node(silence_timeout_ms=300.0, image_reliability="reliable")

    def until_told(*words: str) -> None:
        peer.until(lambda: level(peer, "front") == Level.ERROR, "it is an error")
        peer.until(lambda: all(word in peer.status("front").message for word in words), f"diagnostics say {words}")

    until_told("no publisher on /front/image_raw")
    silent = peer.publisher(Image, "/front/image_raw", RELIABLE)
    until_told("1 publisher(s) match", "fastdds_large_images.xml", "image_reliability: reliable")
    peer.node.destroy_publisher(silent)
    lossy = peer.publisher(Image, "/front/image_raw", BEST_EFFORT)
    until_told("cannot be received: incompatible QoS", "image_reliability: best_effort")
    peer.node.destroy_publisher(lossy)
    peer.publisher(CompressedImage, "/front/image_raw", RELIABLE)
    until_told("it sends sensor_msgs/msg/CompressedImage", "image_transport")


@pytest.mark.parametrize("with_clock", [True, False])
def test_the_limit_on_stamp_ages_goes_by_the_ros_clock(peer: Peer, start_node: Any, with_clock: bool) -> None:
    """With /clock, old stamps are dropped. Without it, the limit is suspended and a warning names use_sim_time."""
    peer.listen_to_results("front")
    node = start_node(use_sim_time=with_clock, max_stamp_age_ms=100.0)
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    if with_clock:
        clock = peer.matched_publisher(Clock, "/clock")
        now = Clock()
        now.clock.sec = T0 // 10**9
        numbers = itertools.count()
        while not peer.value("front", "stamp_age_ms.p50"):  # the first image may arrive before the first /clock
            clock.publish(now)
            publisher.publish(image_message(PICTURE, T0 - 50 * 10**6 + next(numbers)))
            peer.spin_for(0.05)
        while "stale" not in peer.drops("front"):
            now.clock.nanosec = 200 * 10**6
            clock.publish(now)
            publisher.publish(image_message(PICTURE, T0 - 50 * 10**6 + next(numbers)))
            peer.spin_for(0.05)
        assert float(peer.value("front", "stamp_age_ms.p50")) == pytest.approx(50, abs=30)
    else:
        peer.send_until_result(publisher, lambda n: image_message(PICTURE, T0 + n), "front")
        peer.until(lambda: "use_sim_time" in node.log, "the log names use_sim_time")
        peer.until(lambda: peer.count("front", "published") > 0, "diagnostics follow")
        assert "stale" not in peer.drops("front")
        assert peer.value("front", "stamp_age_ms.p50") == ""


def test_a_stamp_in_the_future_is_refused_and_the_next_frames_are_not(peer: Peer, start_node: Any) -> None:
    """Stamps of the future from a camera that uses the clock of this machine, as a live camera does."""
    peer.listen_to_results("front")
    start_node()
    publisher = peer.matched_publisher(Image, "/front/image_raw", RELIABLE)

    def live(_: int) -> Image:
        return image_message(PICTURE, time.time_ns())

    for _ in range(4):
        peer.send_until_result(publisher, live, "front")
    while not peer.drops("front").get("stamp_ahead"):  # best effort: the first one may be lost
        publisher.publish(image_message(PICTURE, time.time_ns() + 7200 * 10**9))
        peer.spin_for(0.1)
        peer.send_until_result(publisher, live, "front")
    newest_ns = max(stamp_ns(mask) for mask in peer.results("front"))
    assert newest_ns < time.time_ns()
    assert "stamp_backwards" not in peer.drops("front")
    assert "ahead of" in peer.status("front").message


def test_frames_of_unknown_age_are_dropped_if_the_parameter_says_so(peer: Peer, start_node: Any) -> None:
    peer.listen_to_results("front")
    start_node(max_stamp_age_ms=100.0, stamp_age_unknown="drop")
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    numbers = itertools.count()
    while peer.drops("front").get("stale", 0) < 3:
        publisher.publish(image_message(PICTURE, time.time_ns() - 7200 * 10**9 + next(numbers)))
        peer.spin_for(0.05)
    assert peer.results("front") == []
    assert level(peer, "front") == Level.ERROR
    assert "stamp_age_unknown: drop" in peer.status("front").message
    peer.send_until_result(publisher, lambda _: image_message(PICTURE, time.time_ns()), "front")


def test_diagnostics_name_the_model_and_provider_that_run(peer: Peer, start_node: Any, tiny_student: Path) -> None:
    import hashlib

    start_node(cameras=["front", "left"], device="cpu")
    peer.until(lambda: peer.value("model", "sha256") and peer.status("left").name, "diagnostics come")
    expected = {
        "model": "tiny",
        "sha256": hashlib.sha256(tiny_student.read_bytes()).hexdigest(),
        "device": "cpu",
        "provider_asked": "CPUExecutionProvider",
        "provider": "CPUExecutionProvider",
        "precision": "fp32",
    }
    assert {key: peer.value("model", key) for key in expected} == expected
    assert level(peer, "model") == Level.OK
    assert set(peer.statuses) == {f"perception: {name}" for name in ("model", "front", "left", "node")}


def test_a_missing_device_is_an_error_while_the_node_runs(peer: Peer, start_node: Any) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is there")
    node = start_node(device="cuda")
    peer.until_active()
    peer.until(lambda: level(peer, "model") == Level.ERROR, "the fallback is reported")
    sentence = "CUDAExecutionProvider was asked for, CPUExecutionProvider runs"
    assert sentence in peer.status("model").message
    assert sentence in node.log


def test_noise_of_any_kind_leaves_the_node_alive(peer: Peer, start_node: Any) -> None:
    """Random sizes, steps, encodings and data, as fast as possible."""
    random = np.random.default_rng(0)
    node = start_node()
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    encodings = ["bgr8", "mono8", "bayer_rggb8", "nv12", "yuv422", "rgba8", "16UC1", "\x00", "nv21"]
    for number in range(300):
        message = Image(
            height=int(random.choice([0, 1, 2, 7, 48, 2**31])),
            width=int(random.choice([0, 1, 2, 7, 64, 2**31])),
            step=int(random.choice([0, 1, 21, 64, 192, 2**32 - 1])),
            encoding=str(random.choice(encodings)),
            is_bigendian=int(random.integers(0, 256)),
        )
        message.data.frombytes(random.bytes(int(random.choice([0, 1, 63, 3072, 9216]))))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(T0 + number, 10**9)
        publisher.publish(message)
        peer.spin_for(0.002)
    peer.until(lambda: peer.count("front", "received") > 50 and not peer.count("front", "waiting"), "all is counted")
    assert peer.count("front", "received") == peer.count("front", "published") + sum(peer.drops("front").values())
    assert "failed" not in peer.drops("front")
    assert node.alive
    assert node.end() == 0
