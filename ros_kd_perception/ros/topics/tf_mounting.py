"""TfMounting: reads the mounting of a camera from TF. Only this module imports tf2_ros, and only if it is used."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.time import Time

from ros_kd_perception.free_space.ground_scan import CameraPose


class TfMounting:
    """Subscribes to /tf and /tf_static.

    Args:
        node: The node that subscribes; its executor runs the callbacks.

    Raises:
        ImportError: tf2_ros is not installed.
    """

    def __init__(self, node: Node) -> None:
        try:
            # Not at the top of the file: vehicles with mountings in parameters do not need the package.
            import tf2_ros
        except ImportError as error:
            raise ImportError(
                f"expected the ROS 2 package tf2_ros for scan.mounting: tf, got: {error}; install "
                "ros-$ROS_DISTRO-tf2-ros-py or set scan.mounting: parameters"
            ) from None
        self._errors: tuple[type[Exception], ...] = (tf2_ros.TransformException,)
        # Without the node, because a buffer with a node offers a service that is never removed.
        self._buffer: Any = tf2_ros.Buffer()
        self._listener: Any = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def pose(self, frame_id: str, optical_frame_id: str) -> CameraPose:
        """Return the newest pose of a camera.

        Args:
            frame_id: Frame of the pose; its z = 0 is the ground.
            optical_frame_id: Optical frame of the camera.

        Raises:
            ValueError: TF does not know the transform, or the camera is not above the ground. One sentence.
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
        """Unsubscribe."""
        self._listener.unregister()
