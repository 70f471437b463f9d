#!/usr/bin/env python3
"""Brake when something on the scan is nearer than the vehicle needs to stop, and whenever that is not known.

Subscribes to `scan` (sensor_msgs/LaserScan) and `speed` (geometry_msgs/TwistStamped, m/s in linear.x). Publishes
`brake` (std_msgs/Bool) 20 times a second: false only if both are fresh by their stamps and the way is free. A receiver
must take silence for true.
"""

import math

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import LaserScan
from std_msgs.msg import Bool

DEFAULTS = {
    "deceleration_mps2": 4.0,  # what the brakes surely reach
    "reaction_s": 0.5,  # from the picture to the brakes
    "margin_m": 1.0,
    "bumper_x_m": 2.5,  # from the origin of the scan's frame to the bumper
    "half_width_m": 1.1,
    "max_age_s": 0.4,
}
STRAIGHT_AHEAD_RAD = 0.05  # beams that must be there and not be unknown


class EmergencyBrake(Node):
    """Decides from the newest scan and the newest speed."""

    def __init__(self) -> None:
        super().__init__("emergency_brake")
        self.settings = {name: self.declare_parameter(name, value).value for name, value in DEFAULTS.items()}
        self.newest: dict = {}
        self.last_reason = "nothing decided yet"
        self.create_subscription(LaserScan, "scan", lambda m: self.newest.update(scan=m), qos_profile_sensor_data)
        self.create_subscription(TwistStamped, "speed", lambda m: self.newest.update(speed=m), qos_profile_sensor_data)
        self.publisher = self.create_publisher(Bool, "brake", 1)
        # The steady clock goes on when /clock stops.
        self.create_timer(0.05, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Publish the decision, and log it when it changes."""
        reason = self.reason_to_brake()
        self.publisher.publish(Bool(data=bool(reason)))
        if reason.partition(":")[0] != self.last_reason:
            self.last_reason = reason.partition(":")[0]
            self.get_logger().info(f"brake, {reason}" if reason else "free")

    def reason_to_brake(self) -> str:
        """Return why the vehicle must brake, or an empty text if it is known to be free."""
        for name in ("scan", "speed"):
            if name not in self.newest:
                return f"no {name}"
            age = self.get_clock().now() - Time.from_msg(self.newest[name].header.stamp)
            if not -0.1 <= age.nanoseconds / 1e9 <= self.settings["max_age_s"]:
                return f"stale {name}: {age.nanoseconds / 1e9:.2f} s old"
        scan, speed_mps = self.newest["scan"], abs(self.newest["speed"].twist.linear.x)
        stop_m = speed_mps * self.settings["reaction_s"] + speed_mps**2 / (2 * self.settings["deceleration_mps2"])
        stop_m += self.settings["bumper_x_m"] + self.settings["margin_m"]
        if not stop_m < scan.range_max:  # also for a speed that is NaN
            return f"cannot see far enough: {stop_m:.1f} m to stop, {scan.range_max:.1f} m in sight"
        looks_ahead = False
        # Of beams that are farther apart, the one or two that are nearest to straight ahead.
        ahead_rad = max(STRAIGHT_AHEAD_RAD, 0.51 * abs(scan.angle_increment))
        for number, range_m in enumerate(scan.ranges):
            angle = scan.angle_min + number * scan.angle_increment
            if range_m == -math.inf:  # REP 117: something is nearer than range_min
                range_m = scan.range_min
            if abs(angle) <= ahead_rad:
                looks_ahead = True
                if not range_m > 0:  # NaN, or 0 from scanners that write it for no range
                    return f"unknown ahead: at {math.degrees(angle):.1f} degrees"
            ahead_m, aside_m = range_m * math.cos(angle), range_m * math.sin(angle)
            if 0 < ahead_m < stop_m and abs(aside_m) < self.settings["half_width_m"]:
                return f"blocked: {ahead_m:.1f} m ahead, {stop_m:.1f} m to stop"
        return "" if looks_ahead else "unknown ahead: the scan has no beam there"


if __name__ == "__main__":
    rclpy.init()
    try:
        rclpy.spin(EmergencyBrake())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
