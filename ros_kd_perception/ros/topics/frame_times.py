"""FrameTimesTopics: processing time and age of every published frame, for plots."""

from __future__ import annotations

from rclpy.lifecycle import LifecyclePublisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64

from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult

_QOS = QoSProfile(depth=10)
PROCESSING = "processing_time_ms"
LATENCY = "pipeline_latency_ms"


class FrameTimesTopics(TopicSink):
    """Publishes the times of every frame on `~/debug/...` and `~/debug/<camera>/...`, to topics with a subscriber.

    Names and meanings are those of Autoware: processing time is the time spent on a frame, pipeline latency is the age
    of its header stamp when its results were published. The type is std_msgs/Float64, which every ROS installation has,
    rather than autoware_internal_debug_msgs/Float64Stamped, which few have. The figure is `data` in both.
    """

    name = "times"

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        of_all = self._pair("~/debug")
        self._pairs = {camera: (of_all, self._pair(f"~/debug/{camera}")) for camera in context.cameras}

    def publish(self, result: FrameResult) -> None:
        """Publish the times of a frame. There is no latency if stamps and clock are not comparable."""
        for processing, latency in self._pairs[result.frame.camera]:
            if processing.get_subscription_count():
                processing.publish(Float64(data=result.times.processing_ms))
            if latency.get_subscription_count() and (age_ms := result.times.stamp_age_ms) is not None:
                latency.publish(Float64(data=age_ms))

    def _pair(self, base: str) -> tuple[LifecyclePublisher[Float64], LifecyclePublisher[Float64]]:
        return self.publisher(Float64, f"{base}/{PROCESSING}", _QOS), self.publisher(Float64, f"{base}/{LATENCY}", _QOS)
