"""Record the results of the perception node into a bag: `record_perception -o results.mcap --cameras front`.

It replaces `ros2 bag record` on machines without a ROS install, for the topics of the node. Messages are written as
they arrive, without decoding. The file has a temporary name until it is complete. SIGINT or SIGTERM completes it, and
so does any error that ends the recording, because a drive cannot be repeated.
"""

from __future__ import annotations

import argparse
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from ros_kd_perception.bags.reader import BagWriter
from ros_kd_perception.bags.traffic_log import TrafficEntry, TrafficLog
from ros_kd_perception.images.serialized_message import stamp_ns_of
from ros_kd_perception.messages.result_topics import FRAME_TOPICS, LABEL_TOPICS
from ros_kd_perception.parameters.camera_names import CAMERA_NAME
from ros_kd_perception.parameters.rules import MAX_CAMERA_CHARACTERS
from ros_kd_perception.ros.installed_messages import message_class
from ros_kd_perception.ros.node_startup import own_arguments, start_node, stop_at_signals
from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.interruption import StopRequest
from ros_kd_perception.system.warning_throttle import WarningThrottle

QUEUE_MESSAGES = 256
"""Number of messages that may wait for the disk: 256 MB of 1280x720 class maps, about fifteen seconds.

The same number of messages may wait for the first /clock.
"""

NODE_NAME = re.compile(r"(?=.{1,150}$)(/[A-Za-z_][A-Za-z0-9_]*)+")
"""Full name of a node. Its length leaves room for camera and topic: a topic has at most 255 characters."""


@dataclass(frozen=True)
class RecordedTopic:
    """One topic to record.

    Attributes:
        topic: Full name of the topic.
        kind: Its name in the traffic log.
        camera: Name of its camera, empty if it has none.
        task: The task that it belongs to, empty if it belongs to none.
        type_name: Full name of its message type.
        latched: Whether a late reader of the bag gets its last message, too.
    """

    topic: str
    kind: str
    camera: str
    task: str
    type_name: str
    latched: bool = False


def topics_of(perception: str, cameras: Sequence[str]) -> list[RecordedTopic]:
    """Return the topics of a perception node that are recorded.

    Args:
        perception: Full name of the node, such as `/perception`.
        cameras: Names of its cameras.

    Raises:
        ValueError: A name cannot be part of a topic.
    """
    if not NODE_NAME.fullmatch(perception):
        raise ValueError(f"expected --perception to be a node's full name like /perception, got {perception[:80]!r}")
    for camera in cameras:
        if not CAMERA_NAME.fullmatch(camera) or len(camera) > MAX_CAMERA_CHARACTERS:
            raise ValueError(
                f"expected --cameras to be names of up to {MAX_CAMERA_CHARACTERS} letters, digits and underscores, "
                f"got {camera[:80]!r}"
            )
    topics = [RecordedTopic("/diagnostics", "diagnostics", "", "", "diagnostic_msgs/msg/DiagnosticArray")]
    recorded = [topic for topic in FRAME_TOPICS if topic.recorded]
    for camera in cameras:
        base = f"{perception.rstrip('/')}/{camera}"
        for rows, latched in ((recorded, False), (LABEL_TOPICS, True)):
            for row in rows:
                names = (f"{base}/{row.name}", row.name, camera, row.task, row.type_name)
                topics.append(RecordedTopic(*names, latched))
    return topics


class NothingRecorded(RuntimeError):
    """No message arrived, or no time arrived for the messages."""


class PerceptionRecorder:
    """Subscribes to the topics and writes their messages. Callbacks never wait for the disk.

    Args:
        node: The node that subscribes. Its clock gives the times of the bag; under `use_sim_time` that is /clock.
        writer: The open bag.
        topics: The topics to record.
        traffic: Log of the messages as they arrive, or None.

    Attributes:
        failure: The error after which nothing more is written, or None.
        lost: Number of messages that were lost because the disk was too slow.
        untimed: Number of messages that have no time yet because /clock has not been received.
        unreadable: Number of messages without a header.
    """

    def __init__(
        self, node: Node, writer: BagWriter, topics: Sequence[RecordedTopic], traffic: TrafficLog | None
    ) -> None:
        self._node = node
        self._writer = writer
        self._topics = list(topics)
        self._traffic = traffic
        self._waiting: queue.Queue[tuple[RecordedTopic, int, bytes] | None] = queue.Queue(QUEUE_MESSAGES)
        self._thread = threading.Thread(target=self._write, name="bag writer", daemon=True)
        self.failure: Exception | None = None
        self.lost = self.untimed = self.unreadable = 0
        for topic in self._topics:
            qos = QoSProfile(
                depth=20,
                reliability=ReliabilityPolicy.RELIABLE,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE,
            )
            writer.add_topic(topic.topic, topic.type_name, latched=topic.latched)
            node.create_subscription(
                message_class(topic.type_name), topic.topic, self._receiver_of(topic), qos, raw=True
            )
        self._thread.start()

    def publishers_missing(self) -> list[str]:
        """Return the topics without a publisher, without those of tasks that the model does not do.

        The node makes the label topics of a camera after all others. Once one of them is there, a task without any
        publisher is one that the model does not do.
        """
        found = [topic for topic in self._topics if self._node.count_publishers(topic.topic)]
        labelled = {topic.camera for topic in found if topic.latched}
        done = {(topic.camera, topic.task) for topic in found}
        missing = [topic for topic in self._topics if topic not in found]
        return [t.topic for t in missing if t.camera not in labelled or (t.camera, t.task) in done]

    @property
    def recorded(self) -> int:
        """Number of messages in the bag."""
        return self._writer.messages

    def finish(self) -> None:
        """Write the messages that still wait. A second call does nothing."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _receiver_of(self, topic: RecordedTopic) -> Callable[[bytes], None]:
        def receive(serialized: bytes) -> None:
            steady_ns = time.monotonic_ns()
            try:
                stamp_ns = stamp_ns_of(serialized)
            except ValueError:
                # Raw messages are not checked, so a short one may arrive.
                self.unreadable += 1
                return
            try:
                self._waiting.put_nowait((topic, self._node.get_clock().now().nanoseconds, serialized))
            except queue.Full:
                self.lost += 1
            if self._traffic:
                self._traffic.write(TrafficEntry(steady_ns, topic.kind, topic.camera, stamp_ns))

        return receive

    def _write(self) -> None:
        early: list[tuple[RecordedTopic, bytes]] = []
        while (item := self._waiting.get()) is not None:
            topic, log_time_ns, serialized = item
            if self.failure:
                continue
            if log_time_ns == 0:  # use_sim_time before the first /clock: these messages get its first time
                self.untimed += 1
                if len(early) < QUEUE_MESSAGES:
                    early.append((topic, serialized))
                continue
            try:
                self.untimed -= len(early)
                for early_topic, early_serialized in early:
                    self._writer.write_raw(early_topic.topic, log_time_ns, early_serialized)
                early.clear()
                self._writer.write_raw(topic.topic, log_time_ns, serialized)
            except Exception as error:
                # The thread goes on after any error, so that the main thread can report it.
                self.failure = error


def spin_until(stop: StopRequest, node: Node, recorder: PerceptionRecorder) -> None:
    """Receive until stopped or the bag cannot be written. Print one line when every topic has a publisher."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    throttle = WarningThrottle(node.get_logger().error)
    complete = False
    while not stop.is_set() and recorder.failure is None:
        try:
            executor.spin_once(timeout_sec=0.1)
        except Exception as error:
            # For example a /clock before 1970. One callback is lost and the recording goes on.
            throttle.warn(type(error).__name__, f"a callback failed: {traceback.format_exc()}")
            stop.wait(0.01)
        if not complete and not recorder.publishers_missing():
            complete = True
            print("recording: every topic has a publisher", flush=True)
    executor.shutdown()


def record(
    parsed: argparse.Namespace, arguments: Sequence[str], topics: Sequence[RecordedTopic], stop: StopRequest
) -> PerceptionRecorder:
    """Record until stopped or the bag cannot be written any more.

    Returns:
        The recorder. The bag is complete and has at least one message.

    Raises:
        NothingRecorded: There is nothing to record, and so no bag.
        ValueError, OSError: Nothing can be written.
    """
    with ExitStack() as stack:
        traffic = stack.enter_context(TrafficLog(parsed.traffic_log)) if parsed.traffic_log else None
        writer = stack.enter_context(BagWriter(parsed.output, irreplaceable=True))
        # The recorder sends no images, but with the settings for large images it finds the player's /clock sooner.
        node = start_node(lambda: Node("record_perception", start_parameter_services=False), arguments)
        stack.callback(rclpy.try_shutdown)
        recorder = PerceptionRecorder(node, writer, topics, traffic)
        stack.callback(recorder.finish)  # runs before the bag is completed, also after an error
        spin_until(stop, node, recorder)
        recorder.finish()
        if not recorder.recorded:
            if recorder.failure:
                raise recorder.failure
            if recorder.untimed:
                raise NothingRecorded(
                    f"expected times on /clock, as use_sim_time says, but none came and {recorder.untimed} messages "
                    "were lost; play the bag with /clock or leave use_sim_time out"
                )
            raise NothingRecorded(f"expected messages of {parsed.perception}, but none came: is the node active?")
    return recorder


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line, without its ROS arguments."""
    parser = argparse.ArgumentParser(
        prog="record_perception", description="Record what the perception node publishes, until SIGINT or SIGTERM."
    )
    parser.add_argument("-o", "--output", type=path_argument, required=True, metavar="MCAP", help="bag to write")
    parser.add_argument("--cameras", nargs="+", required=True, metavar="NAME", help="cameras of the node")
    parser.add_argument("--perception", default="/perception", metavar="NODE", help="fully qualified name of the node")
    parser.add_argument("--traffic-log", type=path_argument, metavar="CSV", help="write down when each message arrived")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Record until interrupted.

    Returns:
        Exit status: 0 after a signal, 1 if no message arrived, 2 if the bag cannot be written.
    """
    arguments = sys.argv if arguments is None else ["record_perception", *arguments]
    stop = stop_at_signals()
    try:
        parsed = parse_arguments(own_arguments(arguments)[1:])
        recorder = record(parsed, arguments, topics_of(parsed.perception, parsed.cameras), stop)
    except NothingRecorded as error:
        print(f"record_perception: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:  # BagError and StartError are ValueErrors
        print(f"record_perception: {error}", file=sys.stderr)
        return 2
    print(summary(recorder, parsed.output), flush=True)
    if recorder.failure:
        print(
            f"record_perception: the recording ended early, with what came before in {parsed.output}: "
            f"{recorder.failure}",
            file=sys.stderr,
        )
        return 2
    return 0


def summary(recorder: PerceptionRecorder, output: Path) -> str:
    """Return one line with the numbers of recorded and lost messages."""
    parts = [f"recorded {recorder.recorded} messages in {output}"]
    if recorder.lost:
        parts.append(f"{recorder.lost} lost because the disk is too slow")
    if recorder.untimed:
        parts.append(f"{recorder.untimed} lost because no time had come on /clock")
    if recorder.unreadable:
        parts.append(f"{recorder.unreadable} left out because they have no header")
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
