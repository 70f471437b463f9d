"""The table of a camera's result topics. It decides what a replay writes and what `record_perception` records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.free_space.ground_grid import GroundCut, GroundGrid
from ros_kd_perception.ground_positions.ground_camera import GroundPositions
from ros_kd_perception.ground_positions.locator import GroundLocator
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.ground_objects import markers_as_bytes
from ros_kd_perception.messages.optional_outputs import NO_OPTIONAL_OUTPUTS, OptionalOutputs
from ros_kd_perception.model.confidence import confidence_at, confidence_mask
from ros_kd_perception.model.contract import DETECTION, SEGMENTATION
from ros_kd_perception.model.letterbox import InputGeometry
from ros_kd_perception.structures import Int32Array, Perception, UInt8Array

IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


class NoMessage(ValueError):
    """A frame cannot have a message on a topic. The text is one sentence and says why."""


@dataclass(frozen=True)
class PerceivedFrame:
    """The data from which the messages of one frame are built.

    Attributes:
        perception: The model's results for the frame.
        builder: Builds messages with the classes of the model.
        finder: Finds the free space. None without parameters for it.
        locator: Finds where objects stand on the ground. None without parameters for it.
        geometry: How the frame was fitted into the network's input. Needed with a locator.
        optional: Which of the optional outputs there are.
        camera_info: The newest CameraInfo of the camera. None before the first, or without an output that needs it.
    """

    perception: Perception
    builder: MessageBuilder
    finder: FreeSpaceFinder | None = None
    locator: GroundLocator | None = None
    geometry: InputGeometry | None = None
    optional: OptionalOutputs = NO_OPTIONAL_OUTPUTS
    camera_info: CameraInfoFields | None = None

    @cached_property
    def positions(self) -> GroundPositions | None:
        """Where its objects stand on the ground. None without a locator or before its camera is calibrated.

        Raises:
            NoMessage: The frame does not fit the calibration.
        """
        if self.locator is None or self.geometry is None:
            return None
        try:
            return self.locator.positions(self.perception, self.geometry)
        except ValueError as error:
            raise NoMessage(str(error)) from None

    @cached_property
    def ground_cut(self) -> GroundCut | None:
        """The ground that the frame shows. None without a finder, or before the camera is calibrated.

        Raises:
            NoMessage: The image has another size than the CameraInfo.
        """
        if self.finder is None or self.boundary is None or self.ground is None:
            return None
        return self.ground.cut(self.perception.require_class_map(), self.boundary, self.finder.unlabeled_id)

    @cached_property
    def ground(self) -> GroundGrid | None:
        """The points of the camera. None without a finder, or before the camera is calibrated.

        Raises:
            NoMessage: The points cannot be made of the CameraInfo, or the image has another size.
        """
        ground = None if self.finder is None else self.finder.ground(self.perception.camera)
        if self.finder is not None and (problem := self.finder.ground_problem(self.perception.camera)):
            raise NoMessage(problem)
        if ground is not None and (misfit := ground.misfit(self.perception.require_class_map())):
            raise NoMessage(misfit)
        return ground

    @cached_property
    def boundary(self) -> Int32Array | None:
        """The boundary of the free space, one row for each column of the image. None without a finder."""
        return None if self.finder is None else self.finder.boundary(self.perception)


@dataclass(frozen=True)
class FrameTopic:
    """A topic of a camera with one message for each frame.

    Attributes:
        name: Name of the topic below `~/<camera>/`.
        task: The task that it belongs to. A model that does not do it has no such topic.
        type_name: Full name of its message type.
        build: Builds the message of a frame, or writes it as bytes, uint8 `[n]`. Returns None if the topic has no
            message for it, raises `NoMessage` if something is wrong that the user can fix.
        recorded: Whether `record_perception` records it.
    """

    name: str
    task: str
    type_name: str
    build: Callable[[PerceivedFrame], Any | None]
    recorded: bool = False


@dataclass(frozen=True)
class LabelTopic:
    """A latched topic of a camera that names the classes, with one message for each model.

    Attributes:
        name: Name of the topic below `~/<camera>/`.
        task: The task whose classes it names.
        build: Builds the message for a score threshold.
    """

    name: str
    task: str
    build: Callable[[MessageBuilder, float], Any]
    type_name: str = "vision_msgs/msg/LabelInfo"


def _free_space(frame: PerceivedFrame) -> Any | None:
    return None if frame.boundary is None else frame.builder.free_space(frame.perception, frame.boundary)


def _scan(frame: PerceivedFrame) -> Any | None:
    camera, finder = frame.perception.camera, frame.finder
    scan = None if finder is None else finder.scan(camera)
    if finder is None or scan is None:
        return None
    try:
        ranges = finder.ranges(frame.perception)
    except ValueError as error:
        raise NoMessage(str(error)) from None
    if ranges is None:
        return None
    return frame.builder.scan(frame.perception, finder.parameters.scans[camera].frame_id, scan, ranges)


def _ground_detections(frame: PerceivedFrame) -> UInt8Array | None:
    perception, positions = frame.perception, frame.positions
    if positions is None or frame.locator is None:
        return None
    frame_id = frame.locator.parameters[perception.camera].frame_id
    return frame.builder.serialized.ground_detections(perception, frame_id, positions)


def _markers(frame: PerceivedFrame) -> UInt8Array | None:
    perception, positions = frame.perception, frame.positions
    if positions is None or frame.locator is None:
        return None
    frame_id = frame.locator.parameters[perception.camera].frame_id
    return markers_as_bytes(perception.stamp_ns, frame_id, positions, frame.builder.classes)


def _confidence(frame: PerceivedFrame) -> Any | None:
    if not frame.optional.confidence:
        return None
    mask = confidence_mask(frame.perception)
    return None if mask is None else frame.builder.gray_image(frame.perception, mask)


def _camera_info(frame: PerceivedFrame) -> Any | None:
    fields, class_map = frame.camera_info, frame.perception.class_map
    if not frame.optional.camera_info or fields is None or class_map is None:
        return None
    if misfit := fields.misfit(*class_map.shape):
        raise NoMessage(misfit)
    return frame.builder.camera_info(frame.perception, fields)


def _ground_points(frame: PerceivedFrame) -> Any | None:
    cut = frame.ground_cut
    return None if cut is None else frame.builder.ground_points(frame.perception, cut.points)


def _ground_segmentation(frame: PerceivedFrame) -> Any | None:
    cut = frame.ground_cut
    return None if cut is None else frame.builder.gray_image(frame.perception, cut.class_map)


def _ground_confidence(frame: PerceivedFrame) -> Any | None:
    if frame.ground is None:
        return None
    mask = confidence_at(frame.perception, frame.ground.rows_px, frame.ground.columns_px)
    return None if mask is None else frame.builder.gray_image(frame.perception, mask)


def _ground_camera_info(frame: PerceivedFrame) -> Any | None:
    if frame.ground is None or frame.ground.camera_info is None:
        return None
    return frame.builder.camera_info(frame.perception, frame.ground.camera_info)


FRAME_TOPICS = (
    FrameTopic(
        "segmentation",
        SEGMENTATION,
        IMAGE,
        lambda frame: frame.builder.segmentation(frame.perception),
        recorded=True,
    ),
    FrameTopic(
        "detections",
        DETECTION,
        "vision_msgs/msg/Detection2DArray",
        lambda frame: frame.builder.detections(frame.perception),
        recorded=True,
    ),
    FrameTopic("free_space", SEGMENTATION, IMAGE, _free_space),
    FrameTopic("scan", SEGMENTATION, "sensor_msgs/msg/LaserScan", _scan),
    FrameTopic("ground_detections", DETECTION, "vision_msgs/msg/Detection3DArray", _ground_detections),
    FrameTopic("markers", DETECTION, "visualization_msgs/msg/MarkerArray", _markers),
    FrameTopic("confidence", SEGMENTATION, IMAGE, _confidence),
    FrameTopic("camera_info", SEGMENTATION, CAMERA_INFO, _camera_info),
    FrameTopic("ground/points", SEGMENTATION, "sensor_msgs/msg/PointCloud2", _ground_points),
    FrameTopic("ground/segmentation", SEGMENTATION, IMAGE, _ground_segmentation),
    FrameTopic("ground/confidence", SEGMENTATION, IMAGE, _ground_confidence),
    FrameTopic("ground/camera_info", SEGMENTATION, CAMERA_INFO, _ground_camera_info),
)
LABEL_TOPICS = (
    LabelTopic("segmentation/label_info", SEGMENTATION, lambda builder, _: builder.segmentation_labels()),
    LabelTopic(
        "detections/label_info",
        DETECTION,
        lambda builder, score_threshold: builder.detection_labels(score_threshold),
    ),
)
