"""GroundPointTopics: the free ground of every camera as points, with mask, confidence and CameraInfo of their size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from rclpy.lifecycle import LifecyclePublisher
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.health.status import Level, Status
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.confidence import confidence_at
from ros_kd_perception.ros.topics.serialized_publish import publish_serialized
from ros_kd_perception.structures import Int32Array, Perception
from ros_kd_perception.system.warning_throttle import WarningThrottle


class MakePublisher(Protocol):
    """Makes a publisher of a sink."""

    def __call__(self, message_type: type[Any], topic: str) -> LifecyclePublisher[Any]:
        """Make it."""


class _Publishers(NamedTuple):
    points: LifecyclePublisher[PointCloud2]
    class_map: LifecyclePublisher[Image]
    confidence: LifecyclePublisher[Image]
    camera_info: LifecyclePublisher[CameraInfo]


class GroundPointTopics:
    """Publishes `~/<camera>/ground/points`, `segmentation`, `confidence` and `camera_info` beside it.

    All four have the header of the mask and one size, pixel by pixel. Each is made only while it has a subscriber.
    `FreeSpaceTopics` owns this and calibrates the cameras.

    Args:
        cameras: Names of the cameras that have these topics.
        publisher: Makes a publisher.
        throttle: Logs sentences, each not too often.
    """

    def __init__(self, cameras: Iterable[str], publisher: MakePublisher, throttle: WarningThrottle) -> None:
        self._publishers = {
            camera: _Publishers(
                publisher(PointCloud2, f"~/{camera}/ground/points"),
                publisher(Image, f"~/{camera}/ground/segmentation"),
                publisher(Image, f"~/{camera}/ground/confidence"),
                publisher(CameraInfo, f"~/{camera}/ground/camera_info"),
            )
            for camera in cameras
        }
        self._throttle = throttle
        self._misfits = dict.fromkeys(self._publishers, "")  # why the newest frame does not fit the calibration

    def publish(
        self,
        finder: FreeSpaceFinder,
        builder: MessageBuilder,
        perception: Perception,
        boundary_of: Callable[[], Int32Array],
    ) -> None:
        """Publish what has a subscriber.

        Args:
            finder: Has the ground of the cameras.
            builder: Builds messages.
            perception: The perception of the frame.
            boundary_of: Returns the boundary of the free space, computed once for all who need it.
        """
        camera = perception.camera
        publishers, ground = self._publishers.get(camera), finder.ground(camera)
        if publishers is None or ground is None:
            return
        # Without a subscriber, too: the status shows the newest frame.
        self._misfits[camera] = misfit = ground.misfit(perception.require_class_map())
        if misfit:
            self._throttle.warn((camera, "ground"), f"no points on the ground of {camera}: {misfit}")
            return
        written = builder.serialized
        if (wants_points := _is_wanted(publishers.points)) | (wants_mask := _is_wanted(publishers.class_map)):
            cut = ground.cut(perception.require_class_map(), boundary_of(), finder.unlabeled_id)
            if wants_points:
                publish_serialized(publishers.points, written.ground_points(perception, cut.points))
            if wants_mask:
                publish_serialized(publishers.class_map, written.gray_image(perception, cut.class_map))
        if _is_wanted(publishers.confidence):
            mask = confidence_at(perception, ground.rows_px, ground.columns_px)
            if mask is not None:
                publish_serialized(publishers.confidence, written.gray_image(perception, mask))
        if _is_wanted(publishers.camera_info) and ground.camera_info is not None:
            publishers.camera_info.publish(builder.camera_info(perception, ground.camera_info))

    def status(self, camera: str, finder: FreeSpaceFinder | None, problem: str, *, is_started: bool) -> Status:
        """Return the status of a camera's ground.

        Args:
            camera: A camera with these topics.
            finder: Has the ground of the cameras.
            problem: Why the camera is not calibrated, empty if it is.
            is_started: Whether the node is active.
        """
        name = f"{camera} ground points"
        ground = None if finder is None else finder.ground(camera)
        problem = problem or ("" if finder is None else finder.ground_problem(camera)) or self._misfits[camera]
        if problem or ground is None:
            return Status(Level.ERROR if is_started else Level.OK, name, problem or "not calibrated yet")
        count, cells = ground.count, ground.cells
        values = (("points", str(count)), ("size", f"{cells.columns}x{cells.rows}"))
        if not count:
            return Status(
                Level.ERROR, name, "no pixel shows the ground; check the mounting of the camera", values=values
            )
        if cells.calibration.doubt:
            return Status(Level.WARN, name, cells.calibration.doubt, values=values)
        return Status(
            Level.OK, name, f"{count} of {cells.columns * cells.rows} points can see the ground", values=values
        )


def _is_wanted(publisher: LifecyclePublisher[Any]) -> bool:
    return publisher.get_subscription_count() > 0
