"""TfMounting: where a camera is, asked of TF. tf2_ros is imported here alone, and only where a parameter wants it."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.time import Time

from ros_kd_perception.free_space.ground_scan import CameraPose


class TfMounting:
    """Listens to /tf and /tf_static.

    Args:
        node: whose executor hears them.

    Raises:
        ImportError: tf2_ros is not installed.
    """

    def __init__(self, node: Node) -> None:
        try:
            # Not at the start: a vehicle whose mountings are parameters does without.
            import tf2_ros
        except ImportError as error:
            raise ImportError(
                f"expected the ROS 2 package tf2_ros for scan.mounting: tf, got: {error}; install "
                "ros-$ROS_DISTRO-tf2-ros-py or set scan.mounting: parameters"
            ) from None
        self._errors: tuple[type[Exception], ...] = (tf2_ros.TransformException,)
        # Without the node: with it, it would offer a service that nobody takes down again.
        self._buffer: Any = tf2_ros.Buffer()
        self._listener: Any = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def pose(self, frame_id: str, optical_frame_id: str) -> CameraPose:
        """The newest pose of a camera in a frame whose z = 0 is the ground.

        Raises:
            ValueError: TF does not know it, or not above the ground; one sentence.
        """
        try:
            found = self._buffer.lookup_transform(frame_id, optical_frame_id, Time()).transform
        except self._errors as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"expected a transform from {optical_frame_id!r} to {frame_id}, got: {reason}; publish it, or set "
                "scan.mounting: parameters"
            ) from None
        move, turn = found.translation, found.rotation
        return CameraPose.from_transform((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()
