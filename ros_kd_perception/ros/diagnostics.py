"""The node's statuses on `/diagnostics`, and a warning when another node has its name."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from ros_kd_perception.health.status import Level, Status


class Diagnostics:
    """Publishes the statuses of a node.

    Args:
        node: The node to publish for.
        statuses: Returns the current statuses of model and cameras.
    """

    def __init__(self, node: Node, statuses: Callable[[], list[Status]]) -> None:
        self._node = node
        self._statuses = statuses
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self) -> None:
        """Publish all statuses once. An error while collecting them becomes a status itself."""
        try:
            statuses = [*self._statuses(), duplicate_nodes_status(self._node)]
        except Exception:
            # Perception goes on without diagnostics; an exception here would end both.
            statuses = [Status(Level.ERROR, "model", f"no diagnostics: {traceback.format_exc(limit=-1)}")]
        array = DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        array.status = [self._to_message(status) for status in statuses]
        self._publisher.publish(array)

    def _to_message(self, status: Status) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=bytes([status.level]),
            name=f"{self._node.get_fully_qualified_name().lstrip('/')}: {status.name}",
            message=status.message,
            hardware_id=status.hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in status.values],
        )


def duplicate_nodes_status(node: Node) -> Status:
    """Warn if several nodes on the graph have this node's name: their results mix on the same topics."""
    name = node.get_fully_qualified_name()
    names = [f"{namespace.rstrip('/')}/{base}" for base, namespace in node.get_node_names_and_namespaces()]
    count = max(1, names.count(name))
    values = (("name", name), ("nodes_of_this_name", str(count)))
    if count == 1:
        return Status(Level.OK, "node", f"the only node called {name}", values=values)
    message = (
        f"{count} nodes are called {name} and their results mix; rename or stop the others (one that was killed is "
        "counted for some 20 s more)"
    )
    return Status(Level.WARN, "node", message, values=values)
