"""A real ROS 2 graph for tests: node processes, and a node of the test that publishes, listens and calls services.

Nothing sleeps: `Peer.until` spins until its condition holds.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo

TIMEOUT_S = 30.0  # on a busy machine
REPEAT_S = 2.0  # after which a question without an answer is asked again
_NUMBERS = itertools.count()
RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class NodeProcess:
    """`perception_node` as a process; its log is in `log_path`."""

    def __init__(self, environment: Mapping[str, str], folder: Path, parameters: Mapping[str, Any], *more: str) -> None:
        self.log_path = folder / f"node_{time.monotonic_ns()}.log"
        arguments = [item for name, value in parameters.items() for item in ("-p", f"{name}:={_to_yaml(value)}")]
        command = [sys.executable, "-m", "ros_kd_perception.ros.perception_node", "--ros-args", *arguments, *more]
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(command, env=dict(environment), stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Kill it only if nothing else works, because Fast DDS then leaves 32 MB of shared memory behind each time.
        if self.alive:
            self.process.terminate()
        try:
            self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        if error is not None:
            print(self.log)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)


class Peer:
    """The other side of the graph: publishes images, stores every result, calls transitions."""

    def __init__(self, context: Context) -> None:
        self.node = Node(f"peer_{next(_NUMBERS)}", context=context, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self.received: defaultdict[str, list[Any]] = defaultdict(list)
        self.statuses: dict[str, DiagnosticStatus] = {}
        self._forgotten_ns = 0
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._keep_diagnostics, RELIABLE)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()

    def forget_statuses(self) -> None:
        """Forget what a node said that has ended. What it said may still be on its way, and does not count either."""
        self._forgotten_ns = time.time_ns()
        self.statuses.clear()

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> None:
        """Spin until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, (
                f"waited {timeout_s} s in vain until {what}; diagnostics {self.summary()}"
            )
            self._executor.spin_once(timeout_sec=0.02)

    def spin_for(self, seconds: float) -> None:
        """Spin for some time, so that events that must not happen could happen."""
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(0.02, remaining))

    def listen(self, kind: Any, topic: str, qos: QoSProfile = RELIABLE) -> Any:
        return self.node.create_subscription(kind, topic, self.received[topic].append, qos)

    def listen_to_results(self, *cameras: str) -> None:
        for camera in cameras:
            self.listen(Image, f"/perception/{camera}/segmentation")
            self.listen(Detection2DArray, f"/perception/{camera}/detections")
            for table in ("segmentation", "detections"):
                self.listen(LabelInfo, f"/perception/{camera}/{table}/label_info", LATCHED)

    def results(self, camera: str, kind: str = "segmentation") -> list[Any]:
        return self.received[f"/perception/{camera}/{kind}"]

    def latest(self, camera: str, kind: str = "segmentation") -> Any:
        """Return the last message of a kind. Topics keep no order among each other: it is awaited, not assumed."""
        self.until(lambda: bool(self.results(camera, kind)), f"{kind} of {camera} comes")
        return self.results(camera, kind)[-1]

    def publisher(self, kind: Any, topic: str, qos: QoSProfile = RELIABLE) -> Any:
        return self.node.create_publisher(kind, topic, qos)

    def matched_publisher(self, kind: Any, topic: str, qos: QoSProfile = RELIABLE) -> Any:
        """Return a publisher that the node has already discovered."""
        publisher = self.publisher(kind, topic, qos)
        self.until(publisher.get_subscription_count, f"the node subscribes to {topic}")
        return publisher

    def send_until_result(self, publisher: Any, make: Callable[[int], Any], camera: str) -> Any:
        """Publish until a result of one of these images comes, and return the first one.

        A matched pair may still lose its first messages, and a result of an earlier image may still be on its way.
        """
        [mask] = self._send_until(publisher, make, camera, ["segmentation"])
        return mask

    def send_until_both(self, publisher: Any, make: Callable[[int], Any], camera: str) -> tuple[Any, Any]:
        """Publish until the mask and the boxes of one of these images come, and return both.

        The pairs of each topic match on their own: the first boxes may be lost though their mask came, or the reverse.
        """
        mask, boxes = self._send_until(publisher, make, camera, ["segmentation", "detections"])
        return mask, boxes

    def _send_until(self, publisher: Any, make: Callable[[int], Any], camera: str, kinds: Sequence[str]) -> list[Any]:
        before = {kind: len(self.results(camera, kind)) for kind in kinds}
        numbers = itertools.count(1)
        sent_ns: list[int] = []

        def complete() -> list[list[Any]]:
            found = [{stamp_ns(each): each for each in self.results(camera, kind)[before[kind] :]} for kind in kinds]
            return [[of[stamp] for of in found] for stamp in sent_ns if all(stamp in of for of in found)]

        def send_and_look() -> bool:
            image = make(next(numbers))
            publisher.publish(image)
            sent_ns.append(stamp_ns(image))
            self.spin_for(0.05)
            return bool(complete())

        self.until(send_and_look, f"{camera} gives {' and '.join(kinds)} of one of these images")
        return complete()[0]

    def send_until(self, publisher: Any, message: Any, condition: Callable[[], Any], what: str) -> None:
        """Publish a message until a condition holds, because a matched pair may still lose its first messages."""

        def send_and_look() -> Any:
            publisher.publish(message)
            self.spin_for(0.1)
            return condition()

        self.until(send_and_look, what)

    def status(self, about: str) -> DiagnosticStatus:
        return self.statuses.get(f"perception: {about}", DiagnosticStatus(level=b"\x03"))

    def value(self, about: str, key: str) -> str:
        return next((item.value for item in self.status(about).values if item.key == key), "")

    def count(self, camera: str, key: str) -> int:
        return int(self.value(camera, key) or 0)

    def drops(self, camera: str) -> dict[str, int]:
        """Return the drops by reason, only reasons that occurred."""
        prefix = "dropped."
        items = {
            v.key.removeprefix(prefix): int(v.value) for v in self.status(camera).values if v.key.startswith(prefix)
        }
        return {reason: count for reason, count in items.items() if count}

    def summary(self) -> dict[str, str]:
        return {name: f"{s.level[0]} {s.message}" for name, s in self.statuses.items()}

    def call(self, kind: Any, name: str, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """Call a service of a node and return its answer."""
        client, future = self.ask(kind, name, request)
        self.until(future.done, f"{name} answers", timeout_s)
        self.node.destroy_client(client)
        return future.result()

    def ask(self, kind: Any, name: str, request: Any) -> tuple[Any, Any]:
        """Send a request to a service of a node, and return the client and the future of the answer."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"{name} is offered")
        self._until_clients_are_known(name.rpartition("/")[0])
        return client, client.call_async(request)

    def _until_clients_are_known(self, node: str) -> None:
        """Read nothing from a node until it answers: then it knows the clients that were made before.

        A client sees a service before the service sees the client. On a busy machine the answer is lost then, because
        the server waits 100 ms for the client and gives up. Discovery keeps the order in which clients are made, so an
        answer to a later client shows that the earlier one is known. Reading nothing may be repeated, a transition not.
        """
        client = self.node.create_client(GetParameters, f"{node}/get_parameters")
        self.until(client.service_is_ready, f"{node}/get_parameters is offered")
        futures: list[Any] = []
        next_s = 0.0

        def answered() -> bool:
            nonlocal next_s
            if time.monotonic() >= next_s:
                futures.append(client.call_async(GetParameters.Request()))
                next_s = time.monotonic() + REPEAT_S
            return any(future.done() for future in futures)

        self.until(answered, f"{node} answers")
        self.node.destroy_client(client)

    def interface(self, what: str, node: str = "perception") -> dict[str, str]:
        """Return the type by name of what a node does: `publisher`, `subscriber`, `service` or `client`.

        A node may answer services before this side knows its name. Until then nothing is found: await it.
        """
        try:
            found = getattr(self.node, f"get_{what}_names_and_types_by_node")(node, "/")
        except NodeNameNonExistentError:
            return {}
        return {name: kind for name, [kind] in found}

    def published(self, camera: str) -> dict[str, str]:
        """Return the type by topic of what the node publishes for a camera, without the camera's prefix."""
        prefix, found = f"/perception/{camera}/", self.interface("publisher")
        return {name.removeprefix(prefix): kind for name, kind in found.items() if name.startswith(prefix)}

    def set_parameter(self, name: str, value: Any) -> Any:
        """Set a parameter of the node and return its answer."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, "/perception/set_parameters", request).results[0]

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, "/perception/change_state", request).success)

    def state(self) -> str:
        return str(self.call(GetState, "/perception/get_state", GetState.Request()).current_state.label)

    def until_active(self) -> None:
        self.until(lambda: self.state() == "active", "the node is active")

    def _keep_diagnostics(self, message: DiagnosticArray) -> None:
        if stamp_ns(message) >= self._forgotten_ns:
            self.statuses.update({status.name: status for status in message.status})


def camera_picture(height: int = 96, width: int = 160, seed: int = 0) -> np.ndarray:
    """Return a smooth uint8 `[height, width, 3]` picture that differs by seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def image_message(picture: np.ndarray, stamp_ns: int, frame_id: str = "front_optical") -> Image:
    message = Image(height=picture.shape[0], width=picture.shape[1], encoding="bgr8", step=picture.shape[1] * 3)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = frame_id
    message.data.frombytes(np.ascontiguousarray(picture).data.cast("B"))
    return message


def compressed_message(picture: np.ndarray, stamp_ns: int, suffix: str = ".png") -> CompressedImage:
    message = CompressedImage(format="png" if suffix == ".png" else "jpeg")
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = "front_optical"
    message.data.frombytes(cv2.imencode(suffix, picture)[1].data.cast("B"))
    return message


def stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def _to_yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(str, value))}]"
    return str(value)
