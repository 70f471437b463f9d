"""Another node of the same name: both publish on the same topics, and nobody can tell their results apart."""

from __future__ import annotations

from rclpy.node import Node

from ros_kd_perception.health.status import Level, Status


def namesake_status(node: Node) -> Status:
    """What to say of nodes on the graph that are called as this one is."""
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
