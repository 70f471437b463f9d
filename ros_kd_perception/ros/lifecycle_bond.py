"""LifecycleBond: the heartbeat by which a lifecycle manager, nav2's for one, sees that an active node is alive.

The protocol is that of bond_core: each side publishes bond/msg/Status on one topic, under an id that both know and an
instance id of its own. The manager breaks off when it hears no heartbeat for its `bond_timeout`, or hears that the bond
ended. Nodes of nav2 do not time out in turn, so this side only publishes: /bond carries the heartbeats of all managed
nodes, and to receive them would cost the thread that receives camera images. `bond` is imported here alone.
"""

from __future__ import annotations

import traceback
import uuid
from typing import Any

from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # not in clock_type before Iron
from rclpy.node import Node

HEARTBEAT_PERIOD_S = 0.1
"""As nodes of nav2 have it; a manager waits half of its `bond_timeout` for the first one."""

HEARTBEAT_TIMEOUT_S = 4.0
"""For people who read the topic; the manager goes by its own `bond_timeout`."""


class LifecycleBond:
    """Heartbeats on the topic `bond` of the node's namespace, under the node's name, from `form` to `end`.

    Args:
        node: its executor sends the heartbeats, so that they stop where it hangs.

    Raises:
        ImportError: the ROS 2 package bond is not installed.
    """

    def __init__(self, node: Node) -> None:
        from bond.msg import Status

        self._node = node
        self._status_type = Status
        self._instance_id = ""
        self._publisher = node.create_publisher(Status, "bond", 5)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(HEARTBEAT_PERIOD_S, self._beat, clock=steady)
        self._timer.cancel()  # rclpy of Humble starts every timer

    def form(self) -> None:
        """Send heartbeats from now on, as a new instance."""
        self._instance_id = str(uuid.uuid4())
        self._beat()
        self._timer.reset()

    def end(self) -> None:
        """Tell that the bond has ended, once; the publisher stays, so that the message gets through."""
        if not self._timer.is_canceled():
            self._timer.cancel()
            self._publisher.publish(self._status(active=False))

    def _beat(self) -> None:
        self._publisher.publish(self._status(active=True))

    def _status(self, *, active: bool) -> Any:
        status = self._status_type(
            id=self._node.get_name(),
            instance_id=self._instance_id,
            active=active,
            heartbeat_timeout=HEARTBEAT_TIMEOUT_S,
            heartbeat_period=HEARTBEAT_PERIOD_S,
        )
        status.header.stamp = self._node.get_clock().now().to_msg()
        return status


def lifecycle_bond(node: Node, *, is_managed: bool) -> LifecycleBond | None:
    """Make the bond of a node where the package bond is installed.

    Args:
        node: that a lifecycle manager may activate.
        is_managed: say in the log if the package is missing: the manager may have to know.
    """
    try:
        return LifecycleBond(node)
    except ImportError as error:
        if is_managed:
            node.get_logger().info(
                f"no bond with a lifecycle manager ({error}): install ros-$ROS_DISTRO-bond, or set bond_timeout: 0.0 "
                "in nav2's lifecycle_manager"
            )
    except Exception:
        # Without a bond a manager may refuse the node; without the node nothing is perceived.
        node.get_logger().error(f"no bond with a lifecycle manager: {traceback.format_exc()}")
    return None
