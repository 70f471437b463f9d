#!/usr/bin/env python3
"""Follow the largest object of a class, as long as the mask shows free ground between the vehicle and it.

Start it in the namespace of a camera's results: `--ros-args -r __ns:=/perception/front`. It subscribes to
`detections`, `segmentation` and their `label_info`, and publishes `cmd_vel` (geometry_msgs/Twist): forward speed by the
object's height in the image, turn by its place. Without a fresh pair of boxes and mask it publishes zeros.
"""

import numpy as np
import rclpy
from geometry_msgs.msg import Twist
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image
from vision_msgs.msg import BoundingBox2D, Detection2DArray, LabelInfo

DEFAULTS = {
    "target": "pedestrian",
    "drivable": "road",
    "min_score": 0.5,
    "wanted_height": 0.6,  # of the image's height, where the follower stops
    "max_speed_mps": 1.0,
    "turn_gain": 0.8,  # rad/s for an object at the edge of the image
    "max_age_s": 0.4,
}
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PAIRS_TO_KEEP = 10


class Follower(Node):
    """Pairs boxes and mask of one image by their stamps, which are equal."""

    def __init__(self) -> None:
        super().__init__("follower")
        self.settings = {name: self.declare_parameter(name, value).value for name, value in DEFAULTS.items()}
        self.names: dict = {}
        self.waiting: dict = {}  # stamp -> {kind: message}
        self.newest_ns = 0
        self.publisher = self.create_publisher(Twist, "cmd_vel", 1)
        for kind, message_type in (("detections", Detection2DArray), ("segmentation", Image)):
            self.create_subscription(message_type, kind, lambda m, kind=kind: self.pair(kind, m), 5)
            self.create_subscription(
                LabelInfo,
                f"{kind}/label_info",
                lambda m, kind=kind: self.names.update({kind: {str(c.class_id): c.class_name for c in m.class_map}}),
                LATCHED,
            )
        self.create_timer(0.1, self.stop_if_stale, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def pair(self, kind: str, message: Detection2DArray | Image) -> None:
        """Keep a message until its partner of the same stamp comes. message_filters.TimeSynchronizer does the same."""
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        both = self.waiting.setdefault(stamp_ns, {})
        both[kind] = message
        if len(both) == 2:
            del self.waiting[stamp_ns]
            self.newest_ns = stamp_ns
            self.publisher.publish(Twist() if self.is_stale() else self.follow(**both))
        while len(self.waiting) > PAIRS_TO_KEEP:
            del self.waiting[next(iter(self.waiting))]  # the first that came; stamps go back when a bag loops

    def follow(self, detections: Detection2DArray, segmentation: Image) -> Twist:
        """Return the command for one image."""
        names, command = self.names.get("detections", {}), Twist()
        boxes = [
            detection.bbox
            for detection in detections.detections
            for guess in detection.results[:1]
            # With `detection_class_id: name`, the class id is the name.
            if names.get(guess.hypothesis.class_id, guess.hypothesis.class_id) == self.settings["target"]
            and guess.hypothesis.score >= self.settings["min_score"]
        ]
        if not boxes:
            return command
        box = max(boxes, key=lambda one: one.size_x * one.size_y)
        aside = 2 * box.center.position.x / segmentation.width - 1
        command.angular.z = -self.settings["turn_gain"] * aside
        if self.is_free_below(box, segmentation):
            height = box.size_y / segmentation.height
            share = max(0.0, 1 - height / self.settings["wanted_height"])
            command.linear.x = self.settings["max_speed_mps"] * share
        return command

    def is_free_below(self, box: BoundingBox2D, mask: Image) -> bool:
        """Return whether the strip of the mask from the object's feet to the lower edge is drivable."""
        names = self.names.get("segmentation", {})
        drivable = [int(class_id) for class_id, name in names.items() if name == self.settings["drivable"]]
        classes = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.step)[:, : mask.width]
        column, feet = int(box.center.position.x), int(box.center.position.y + box.size_y / 2)
        half = mask.width // 20
        strip = classes[max(feet, 0) :, max(column - half, 0) : column + half]
        return strip.size > 0 and bool(np.isin(strip, drivable).mean() > 0.9)

    def is_stale(self) -> bool:
        """Return whether the newest pair is too old, by its stamp."""
        age_s = (self.get_clock().now().nanoseconds - self.newest_ns) / 1e9
        return not -0.1 <= age_s <= self.settings["max_age_s"]

    def stop_if_stale(self) -> None:
        """Publish zeros while nothing fresh comes."""
        if self.is_stale():
            self.publisher.publish(Twist())


if __name__ == "__main__":
    rclpy.init()
    try:
        rclpy.spin(Follower())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
