"""TopicSink: what all sinks of the node share: their parameters, their publishers, the model that is active."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lifecycle_msgs.msg import State
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.parameters.rules import Declaration
from ros_kd_perception.scheduling.result_sink import ResultSink

RESULT_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_ACTIVE = LifecycleState(label="active", state_id=State.PRIMARY_STATE_ACTIVE)
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class SinkContext:
    """What the node gives to every sink.

    Attributes:
        node: The node, for publishers and subscriptions.
        cameras: Names of the cameras.
        values: All parameters of the node by full name, as they were when it was configured.
        contract: Contract of the active model.
        builder: Builds the messages of the active model.
        warn: Logs one sentence as a warning.
        resolve: Returns the full name of a topic. The node does that itself; in a worker process, whose node has
            another name, the perception node is asked.
        is_active: Whether publishers are active from the start.
        takeovers: How many worker processes served these cameras before, since the node was configured.
    """

    node: LifecycleNode
    cameras: Sequence[str]
    values: Mapping[str, Any]
    contract: ModelContract
    builder: MessageBuilder
    warn: Callable[[str], object]
    resolve: Callable[[str], str] = lambda topic: topic
    is_active: bool = False
    takeovers: int = 0


class TopicSink(ResultSink):
    """A result sink with topics of its own. `ros/topics/sinks.py` lists all of them.

    A subclass makes its publishers in `__init__`, with `publisher` and `latched_publisher`, and overrides `publish` and
    what else of `ResultSink` it needs. If a later model does a task that the first one does not do, it makes the
    publishers of that task in `change_model`. Publishers stay until the node is cleaned up.

    Attributes:
        parameters: Declarations of its parameters by name. The node declares them.

    Args:
        context: What the node gives to every sink.
    """

    parameters: ClassVar[Mapping[str, Declaration]] = {}

    def __init__(self, context: SinkContext) -> None:
        self.node = context.node
        self.contract = context.contract
        self.builder = context.builder
        self._resolve = context.resolve
        self._is_configured = context.is_active
        self._publishers: list[LifecyclePublisher[Any]] = []
        self._latched_publishers: list[Publisher[Any]] = []

    @classmethod
    def camera_parameters(cls, camera: str) -> Mapping[str, Declaration]:
        """Return the parameters that may be set for one camera alone, by full name."""
        return {}

    @classmethod
    def check_parameters(cls, values: Mapping[str, Any], cameras: Sequence[str]) -> None:
        """Check parameters that must fit each other, before the model is opened.

        Args:
            values: All parameters of the node by full name; each has passed its own declaration.
            cameras: Names of the cameras.

        Raises:
            ParameterError: They do not fit. The text is one sentence.
        """

    def publisher(self, message_type: type[Any], topic: str, qos: QoSProfile = RESULT_QOS) -> LifecyclePublisher[Any]:
        """Make a publisher that is silent while the node is inactive. `destroy` removes it."""
        publisher = self.node.create_lifecycle_publisher(message_type, self._resolve(topic), qos)
        if self._is_configured:
            # The transition that enables the others may be over. The worker publishes only while the node is active.
            publisher.on_activate(_ACTIVE)
        self._publishers.append(publisher)
        return publisher

    def latched_publisher(self, message_type: type[Any], topic: str) -> Publisher[Any]:
        """Make a publisher whose last message also reaches subscribers that come later. `destroy` removes it."""
        publisher = self.node.create_publisher(message_type, self._resolve(topic), LATCHED_QOS)
        self._latched_publishers.append(publisher)
        return publisher

    def destroy(self) -> None:
        """Remove the publishers from the graph."""
        for publisher in self._publishers:
            self.node.destroy_lifecycle_publisher(publisher)
        for latched in self._latched_publishers:
            self.node.destroy_publisher(latched)

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Use the contract and the builder of the new model from the next frame on."""
        self._is_configured = True
        self.contract, self.builder = contract, builder
