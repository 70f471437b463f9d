"""VehicleWatch: listens to cameras, /clock and TF for some seconds, and returns what came as facts for checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.free_space.parameters import GroundPointParameters, ScanParameters, read_free_space_parameters
from ros_kd_perception.ground_positions.parameters import GroundParameters, read_ground_parameters
from ros_kd_perception.health.camera_checks import CalibrationFacts, CameraSample, ClockFacts
from ros_kd_perception.health.watch import StampOrder
from ros_kd_perception.images.message import frame_from_message
from ros_kd_perception.images.serialized_message import read_compressed_image, read_image
from ros_kd_perception.messages.optional_outputs import CAMERA_INFO
from ros_kd_perception.ros.node_parameters import NodeParameters
from ros_kd_perception.ros.topics.camera_images import CameraImages, relative_topic
from ros_kd_perception.ros.topics.tf_mounting import TfMounting
from ros_kd_perception.structures import BadFrame

_SPIN_S = 0.1
_BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
_MAX_FORMATS = 8
_Mounted = ScanParameters | GroundPointParameters | GroundParameters


@dataclass
class _Heard:
    """What came from one camera."""

    received: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    formats: list[str] = field(default_factory=list)
    unreadable: dict[str, BadFrame] = field(default_factory=dict)  # by format
    frame_ids: list[str] = field(default_factory=list)
    message_bytes: int = 0
    refused: int = 0
    refusal: str = ""
    ages_ms: list[float] = field(default_factory=list)
    info: Any = None


class VehicleWatch:
    """Subscribes to what the node would subscribe to.

    Attributes:
        failures: Why messages could not be handled, one sentence each.

    Args:
        node: The node that listens. Its namespace and its remappings are those of the perception node.
        parameters: The parameters of the perception node.

    Raises:
        ParameterError: An output on the ground has no mounting.
    """

    def __init__(self, node: Node, parameters: NodeParameters) -> None:
        self._node = node
        self._parameters = parameters
        self.failures: list[str] = []
        self._stamps = StampOrder()
        self._ticks = 0
        self._listened_s = 0.0
        of_node = parameters.values.get, parameters.cameras
        free_space = read_free_space_parameters(*of_node)
        self._mounted: Mapping[str, _Mounted] = {**read_ground_parameters(*of_node), **free_space.mounted}
        self._passes_info_on = bool(parameters.values.get(CAMERA_INFO))
        # These outputs send a CameraInfo of their own.
        self._sends_info = {*free_space.grounds, *(parameters.cameras if self._passes_info_on else ())}
        self._heard = {camera: _Heard() for camera in parameters.cameras}
        self._tf, self._tf_problem = self._make_tf()
        # Only to ask who publishes; it never subscribes.
        self._images = {
            c: CameraImages(node, c, parameters.image_transports[c], parameters.image_reliability)
            for c in parameters.cameras
        }
        for camera in parameters.cameras:
            self._subscribe(camera)
        node.create_subscription(Clock, "/clock", self._tick, _BEST_EFFORT)

    def listen(self, seconds: float, is_stopped: Callable[[], bool]) -> None:
        """Listen for some seconds, or until stopped."""
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        begun_s = time.monotonic()
        try:
            while (left_s := begun_s + seconds - time.monotonic()) > 0 and not is_stopped():
                try:
                    executor.spin_once(timeout_sec=min(left_s, _SPIN_S))
                except Exception as error:
                    # For example a /clock before 1970. One callback is lost, and what else came is still told.
                    _note(self.failures, " ".join(f"{type(error).__name__}: {error}".split()))
        finally:
            executor.remove_node(self._node)
            executor.shutdown()
        self._listened_s = time.monotonic() - begun_s

    def clock(self) -> ClockFacts:
        """Return what came on /clock."""
        use_sim_time = bool(self._node.get_parameter("use_sim_time").value)
        return ClockFacts(use_sim_time, self._node.count_publishers("/clock"), self._ticks)

    def sample(self, camera: str) -> CameraSample:
        """Return what came from a camera."""
        heard, settings = self._heard[camera], self._parameters.camera_settings[camera]
        ages_ms = heard.ages_ms
        return CameraSample(
            camera,
            self._images[camera].link(),
            self._listened_s,
            heard.received,
            heard.last_s - heard.first_s,
            tuple(heard.formats),
            heard.message_bytes,
            heard.refused,
            heard.refusal,
            tuple(heard.frame_ids),
            min(ages_ms, default=None),
            max(ages_ms, default=None),
            settings.enabled,
            settings.max_rate_hz,
        )

    def calibration(self, camera: str) -> CalibrationFacts:
        """Return the calibration and the mounting of a camera."""
        topic = self._node.resolve_topic_name(f"{camera}/camera_info")
        mounted, info = self._mounted.get(camera), self._heard[camera].info
        problem, doubt, size = "", "", ""
        if info is not None:
            try:
                doubt, size = self._read_info(camera, info)
            except ValueError as error:
                problem = str(error)
        publishers = self._node.count_publishers(topic)
        is_needed = mounted is not None or self._passes_info_on
        mounting = self._mounting(camera, mounted)
        return CalibrationFacts(topic, is_needed, publishers, info is not None, problem, doubt, size, mounting)

    def nodes_called(self, name: str) -> int:
        """Return the number of nodes on the graph that have a full name."""
        names = self._node.get_node_names_and_namespaces()
        return [f"{namespace.rstrip('/')}/{base}" for base, namespace in names].count(name)

    def _make_tf(self) -> tuple[TfMounting | None, str]:
        if all(mounted.pose is not None for mounted in self._mounted.values()):
            return None, ""
        try:
            return TfMounting(self._node), ""
        except ImportError as error:
            return None, str(error)

    def _read_info(self, camera: str, info: CameraInfo) -> tuple[str, str]:
        """Read a CameraInfo as the outputs of its camera do. Return what is doubtful in it, and its image size.

        Raises:
            ValueError: One of the outputs cannot use it. One sentence.
        """
        mounted, doubt, height, width = self._mounted.get(camera), "", 0, 0
        if camera in self._sends_info:
            height, width = CameraInfoFields.from_message(info).image_size
        if mounted is not None or not self._passes_info_on:
            calibration = Calibration.from_message(info, rectified=mounted.rectified if mounted else False)
            doubt, height, width = calibration.doubt, calibration.height, calibration.width
        return doubt, f"{width}x{height}"

    def _mounting(self, camera: str, mounted: _Mounted | None) -> str | None:
        if mounted is None or mounted.pose is not None:
            return None
        if self._tf is None:
            return self._tf_problem
        info = self._heard[camera].info
        if info is None:
            return "expected a CameraInfo, whose frame_id TF is asked for, none came"
        try:
            self._tf.pose(mounted.frame_id, info.header.frame_id)
        except ValueError as error:
            return str(error)
        return ""

    def _subscribe(self, camera: str) -> None:
        transport = self._parameters.image_transports[camera]
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[self._parameters.image_reliability.upper()])
        self._node.create_subscription(
            Image if transport == "raw" else CompressedImage,
            relative_topic(camera, transport),
            lambda content: self._take_image(camera, transport, content),
            qos,
            raw=True,
        )
        self._node.create_subscription(
            CameraInfo, f"{camera}/camera_info", lambda info: setattr(self._heard[camera], "info", info), _BEST_EFFORT
        )

    def _tick(self, _: Clock) -> None:
        self._ticks += 1

    def _take_image(self, camera: str, transport: str, content: bytes) -> None:
        heard, now_s = self._heard[camera], time.monotonic()
        now_ns = self._node.get_clock().now().nanoseconds
        heard.received += 1
        heard.first_s, heard.last_s = heard.first_s or now_s, now_s
        heard.message_bytes = max(heard.message_bytes, len(content))
        try:
            message: Any = (read_image if transport == "raw" else read_compressed_image)(
                np.frombuffer(content, np.uint8)
            )
            self._judge(camera, message, now_ns, now_s)
        except BadFrame as error:
            heard.refused += 1
            heard.refusal = heard.refusal or str(error)

    def _judge(self, camera: str, message: Any, now_ns: int, now_s: float) -> None:
        heard, stamp = self._heard[camera], message.header.stamp
        stamp_ns = stamp.sec * 10**9 + stamp.nanosec
        kind = (
            f"{message.encoding} {message.width}x{message.height}" if hasattr(message, "encoding") else message.format
        )
        kind = kind[:100]
        is_new = _note(heard.formats, kind)
        _note(heard.frame_ids, message.header.frame_id)
        if now_ns > 0:  # 0: under use_sim_time before the first /clock
            heard.ages_ms.append((now_ns - stamp_ns) / 1e6)
        if kind in heard.unreadable:
            raise heard.unreadable[kind]
        if is_new:  # decoding each would take the time of a core
            try:
                frame_from_message(camera, message)
            except BadFrame as error:
                heard.unreadable[kind] = error
                raise
        self._stamps.check(camera, stamp_ns, round(now_s * 1e9))


def _note(seen: list[str], value: str) -> bool:
    """Add a value that is new, up to a limit. Returns whether it was new."""
    if value in seen or len(seen) >= _MAX_FORMATS:
        return False
    seen.append(value)
    return True


def image_sizes(formats: Sequence[str]) -> tuple[str, ...]:
    """Return the sizes among formats such as `bgr8 1280x720`. Those of files do not name one."""
    return tuple(
        dict.fromkeys(size for text in formats if "x" in (size := text.rpartition(" ")[2]) and size[0].isdigit())
    )
