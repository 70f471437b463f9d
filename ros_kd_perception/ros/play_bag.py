"""Play the camera topics of a bag on the ROS 2 graph in real time: `play_bag BAG`.

It replaces `ros2 bag play` on machines without a ROS install, for camera topics only. Messages are published on their
own topics as they are in the bag, without decoding, together with /clock. The steady clock sets the pace. Playing
starts with the first image of any camera and skips long gaps without images (`playback_timeline`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ros_kd_perception.bags.reader import BagError, BagReader, RawMessage
from ros_kd_perception.bags.traffic_log import TrafficEntry, TrafficLog
from ros_kd_perception.images.serialized_message import stamp_ns_of
from ros_kd_perception.parameters.camera_names import COMPRESSED_IMAGE, IMAGE, parse_camera_topics
from ros_kd_perception.playback_timeline import MAX_TOLD_JUMPS, Jump, PlaybackTimeline
from ros_kd_perception.ros.node_startup import own_arguments, start_node, stop_at_signals
from ros_kd_perception.ros.play_options import PlayOptions, parse_arguments
from ros_kd_perception.system.interruption import StopRequest, one_interrupt

CLOCK_PERIOD_NS = 25_000_000
MAX_CLOCK_NS = (1 << 31) * 1_000_000_000 - 1
"""Latest time that a message can hold, in 2038."""
LINGER_S = 0.5
"""How long the publishers stay after the last message: in shared memory, the sender owns the messages it has sent."""

_TYPES = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
}


class NobodySubscribes(RuntimeError):
    """The expected subscribers did not appear in time."""


class BagPlayer:
    """Publishes the camera messages of a bag when they are due.

    Args:
        node: The node that publishes.
        bag: The open bag.
        options: How to play it.
        traffic: Log of the published images, or None.
        stop: Ends the playing when it is set, for example by a signal handler.

    Attributes:
        sent: Number of published images.
        jumped: Number of gaps that were skipped.
        latest_ns: Largest delay of an image after its due time, nanoseconds.
    """

    def __init__(
        self, node: Node, bag: BagReader, options: PlayOptions, traffic: TrafficLog | None, stop: StopRequest
    ) -> None:
        self._bag = bag
        self._options = options
        self._traffic = traffic
        self._stop = stop
        self._cameras = {topic: camera for camera, topic in bag.cameras.items()}
        qos = QoSProfile(depth=options.depth, reliability=ReliabilityPolicy[options.reliability.upper()])
        self._publishers: dict[str, Publisher[Any]] = {
            topic: node.create_publisher(_TYPES[kind], topic, qos) for topic, kind in bag.camera_topics.items()
        }
        clock_qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
        self._clock = node.create_publisher(Clock, "/clock", clock_qos) if options.clock else None
        self._next_tick_ns = 0
        self.sent = 0
        self.jumped = 0
        self.latest_ns = 0

    def play(self) -> None:
        """Play until the end of the bag, or until stopped.

        Raises:
            NobodySubscribes: A camera topic has no subscriber within the limit.
            BagError: The bag cannot be read any further, or the part to play has no images.
        """
        self._await_subscribers()
        self._play_once()
        while self._options.loop and not self._stop.is_set():
            self._play_once()
        self._stop.wait(LINGER_S)

    def _await_subscribers(self) -> None:
        limit_s = self._options.wait_for_subscribers_s
        give_up_ns = time.monotonic_ns() + round(limit_s * 1e9)
        images = {topic: self._publishers[topic] for topic in self._cameras}
        while limit_s and not self._stop.is_set():
            missing = [topic for topic, publisher in images.items() if not publisher.get_subscription_count()]
            if not missing:
                return
            if time.monotonic_ns() > give_up_ns:
                raise NobodySubscribes(
                    f"expected a subscriber of {', '.join(missing)} within {limit_s:g} s, but none came: start the "
                    "node first, on the same ROS_DOMAIN_ID, and remap its camera topics to these"
                )
            self._stop.wait(0.02)

    def _play_once(self) -> None:
        timeline = PlaybackTimeline(self._options.keep_gaps)
        started_ns: int | None = None
        sent_before, left_out, jumps_before = self.sent, 0, -1
        for position_ns, message in self._placed_messages(timeline):
            started_ns = started_ns or time.monotonic_ns()
            due_ns = started_ns + round(position_ns / self._options.rate)
            self._tell_jumps(timeline.jumps)
            self._wait_until(due_ns, started_ns, timeline)
            if self._stop.is_set():
                return
            if message.topic in self._cameras and len(timeline.jumps) > jumps_before:
                # Publish the time before the first image and after each jump, also if the clock's next tick is later.
                jumps_before = len(timeline.jumps)
                self._tick(position_ns, timeline)
            if message.damage:
                left_out += 1
                print(f"play_bag: left out a message: {message.damage}", file=sys.stderr)
                continue
            self._send(message, due_ns)
        if self.sent == sent_before:
            raise self._nothing_sent(left_out)

    def _nothing_sent(self, left_out: int) -> BagError:
        if left_out:
            return BagError(f"expected images that can be sent, all {left_out} messages are damaged; record them again")
        rest_s = (self._bag.last_image_ns - self._bag.first_image_ns) / 1e9
        return BagError(
            f"expected images later than {self._options.start_offset_s:g} s after the first one, there are none: the "
            f"last one is {rest_s:.1f} s after it; choose a smaller --start-offset"
        )

    def _placed_messages(self, timeline: PlaybackTimeline) -> Iterator[tuple[int, RawMessage]]:
        """Yield each message to play with its position on the timeline, nanoseconds."""
        offset_ns, duration_ns = round(self._options.start_offset_s * 1e9), round(self._options.duration_s * 1e9)
        first_ns = self._bag.first_image_ns + offset_ns if offset_ns else None
        if first_ns is not None:
            yield from ((0, info) for info in self._camera_infos_before(first_ns))
        for message in self._bag.raw_messages(self._publishers, first_ns):
            place = timeline.place if message.topic in self._cameras else timeline.place_beside
            position_ns = place(message.log_time_ns)
            if duration_ns and position_ns >= duration_ns:
                return
            yield position_ns, message

    def _camera_infos_before(self, first_ns: int) -> Iterator[RawMessage]:
        """Yield the first CameraInfo of each camera, because some are recorded only once, at the start."""
        for topic in self._publishers.keys() - self._cameras.keys():
            for info in self._bag.raw_messages([topic]):
                if info.log_time_ns < first_ns:
                    yield info
                break

    def _tell_jumps(self, jumps: Sequence[Jump]) -> None:
        for number, jump in enumerate(jumps[self.jumped :], self.jumped + 1):
            if number <= MAX_TOLD_JUMPS:
                print(jump, flush=True)
        self.jumped = max(self.jumped, len(jumps))  # a second round skips the same gaps

    def _wait_until(self, due_ns: int, started_ns: int, timeline: PlaybackTimeline) -> None:
        now_ns = time.monotonic_ns()
        while now_ns < due_ns and not self._stop.is_set():
            if now_ns >= self._next_tick_ns:
                self._tick(round((now_ns - started_ns) * self._options.rate), timeline)
                self._next_tick_ns = now_ns + CLOCK_PERIOD_NS
            wake_ns = min(due_ns, self._next_tick_ns) if self._clock else due_ns
            self._stop.wait(max(0, wake_ns - now_ns) / 1e9)
            now_ns = time.monotonic_ns()

    def _tick(self, position_ns: int, timeline: PlaybackTimeline) -> None:
        if self._clock:
            clock_ns, message = timeline.log_time_ns(position_ns), Clock()
            message.clock.sec, message.clock.nanosec = divmod(max(0, min(clock_ns, MAX_CLOCK_NS)), 1_000_000_000)
            self._clock.publish(message)

    def _send(self, message: RawMessage, due_ns: int) -> None:
        now_ns = time.monotonic_ns()
        self._publishers[message.topic].publish(bytes(message.data))
        self.latest_ns = max(self.latest_ns, now_ns - due_ns)
        camera = self._cameras.get(message.topic)
        if camera is None:
            return
        self.sent += 1
        if self._traffic:
            stamp_ns = 0
            with suppress(ValueError):  # a message too short for a stamp is sent as it is
                stamp_ns = stamp_ns_of(message.data)
            self._traffic.write(TrafficEntry(now_ns, "image", camera, stamp_ns))


def cameras_of(bag: BagReader) -> dict[str, dict[str, str]]:
    """Return topic and image transport of each camera, for the launch file, whose Python may not have rosbags."""
    transports = {IMAGE: "raw", COMPRESSED_IMAGE: "compressed"}
    return {
        camera: {"topic": topic, "transport": transports[bag.camera_topics[topic]]}
        for camera, topic in bag.cameras.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a bag.

    Returns:
        Exit status: 0 at the end, 1 without subscribers, 2 if the bag or an option cannot be used, 130 after Ctrl-C.
    """
    arguments = sys.argv if arguments is None else ["play_bag", *arguments]
    stop = stop_at_signals()
    try:
        parsed = parse_arguments(own_arguments(arguments)[1:])
        options = PlayOptions(
            parsed.rate, parsed.loop, parsed.start_offset, parsed.duration, parsed.reliability, parsed.depth,
            parsed.wait_for_subscribers, not parsed.no_clock, parsed.keep_gaps,
        )  # fmt: skip
        with ExitStack() as stack:
            with one_interrupt():  # unpacking a large bag does not check the event
                bag = stack.enter_context(BagReader(parsed.bag, parse_camera_topics(parsed.camera)))
            for note in bag.notes:
                print(f"play_bag: {note}", file=sys.stderr)
            if parsed.list_cameras:
                print(json.dumps(cameras_of(bag), allow_nan=False))
                return 0
            traffic = stack.enter_context(TrafficLog(parsed.traffic_log)) if parsed.traffic_log else None
            node = start_node(lambda: Node("play_bag", start_parameter_services=False), arguments)
            stack.callback(rclpy.try_shutdown)
            player = BagPlayer(node, bag, options, traffic, stop)
            print(f"playing {', '.join(bag.cameras)} of {parsed.bag}", flush=True)
            player.play()
    except KeyboardInterrupt:
        print("play_bag: interrupted, nothing played", file=sys.stderr)
        return 130
    except (BagError, ValueError, OSError) as error:
        print(f"play_bag: {error}", file=sys.stderr)
        return 2
    except NobodySubscribes as error:
        print(f"play_bag: {error}", file=sys.stderr)
        return 1
    jumps = f"jumped {player.jumped} gap{'s' * (player.jumped > 1)}, " if player.jumped else ""
    print(f"played {player.sent} images, {jumps}{player.latest_ns / 1e6:.1f} ms late at most", flush=True)
    return 130 if stop.is_set() and not options.loop else 0


if __name__ == "__main__":
    sys.exit(main())
