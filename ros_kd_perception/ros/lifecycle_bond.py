"""LifecycleBond: the heartbeat that shows a lifecycle manager, such as nav2's, that an active node is alive.

The protocol is that of bond_core: both sides publish bond/msg/Status on one topic, under a shared id and an instance id
of their own. The manager breaks the bond if there is no heartbeat for `bond_timeout`, or if the node ends the bond.
Like the nodes of nav2, this side has no timeout, so it only publishes. /bond carries the heartbeats of all managed
nodes, and receiving them would take time from the thread that receives camera images. Only this module imports `bond`.
"""

from __future__ import annotations

import traceback
import uuid
from typing import Any

from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # not in clock_type before Iron
from rclpy.node import Node

HEARTBEAT_PERIOD_S = 0.1
"""The value of nav2's nodes. A manager waits for the first heartbeat for half of its `bond_timeout`."""

HEARTBEAT_TIMEOUT_S = 4.0
"""Information for people who read the topic. The manager uses its own `bond_timeout`."""


class LifecycleBond:
    """Sends heartbeats on the topic `bond` of the node's namespace, under the node's name, from `form` to `end`.

    Args:
        node: The node. Its executor sends the heartbeats, so that they stop if the executor hangs.

    Raises:
        ImportError: The ROS 2 package bond is not installed.
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
        """Start to send heartbeats, under a new instance id."""
        self._instance_id = str(uuid.uuid4())
        self._beat()
        self._timer.reset()

    def end(self) -> None:
        """Publish once that the bond has ended. The publisher stays, so that the message is delivered."""
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
    """Make the bond of a node, or return None if the package bond is not installed.

    Args:
        node: A node that a lifecycle manager may activate.
        is_managed: Log a missing package, because the manager may have to be configured for it.
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
        # The node runs without a bond, although a manager may refuse it.
        node.get_logger().error(f"no bond with a lifecycle manager: {traceback.format_exc()}")
    return None
