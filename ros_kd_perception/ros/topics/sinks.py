"""All outputs of the node, in one table. A new output topic is a new sink in this table."""

from __future__ import annotations

from contextlib import ExitStack

from ros_kd_perception.ros.topics.annotations import AnnotationTopics
from ros_kd_perception.ros.topics.camera_info import CameraInfoTopics
from ros_kd_perception.ros.topics.confidence import ConfidenceTopics
from ros_kd_perception.ros.topics.frame_times import FrameTimesTopics
from ros_kd_perception.ros.topics.free_space import FreeSpaceTopics
from ros_kd_perception.ros.topics.ground_positions import GroundTopics
from ros_kd_perception.ros.topics.pictures import PictureTopics
from ros_kd_perception.ros.topics.results import ResultTopics
from ros_kd_perception.ros.topics.shadow import ShadowTopic
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink

# The order in which the sinks get a frame. The first decides whether it counts as published.
SINKS: tuple[type[TopicSink], ...] = (
    ResultTopics,
    ConfidenceTopics,
    CameraInfoTopics,
    FreeSpaceTopics,
    GroundTopics,
    FrameTimesTopics,
    PictureTopics,
    AnnotationTopics,
    ShadowTopic,
)


def make_sinks(context: SinkContext) -> list[TopicSink]:
    """Make a sink of every row of the table.

    Args:
        context: What the node gives to every sink.

    Raises:
        ValueError: The parameters do not fit the model. No topic is left on the graph.
        ImportError: A package is missing.
    """
    sinks: list[TopicSink] = []
    with ExitStack() as undo:
        for sink_type in SINKS:
            sinks.append(sink := sink_type(context))
            undo.callback(sink.destroy)
        undo.pop_all()
    return sinks
