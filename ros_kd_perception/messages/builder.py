"""MessageBuilder: builds ROS messages from a Perception, with the message classes of rclpy or rosbags.

The node uses the classes of rclpy, the replay those of rosbags. Both are filled by the same code, so the bag of a
replay holds the messages that the node would have published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from ros_kd_perception.drawing.jpeg import jpeg_of
from ros_kd_perception.free_space.calibration import Float64Array
from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.free_space.ground_scan import GroundScan
from ros_kd_perception.messages.class_ids import class_names
from ros_kd_perception.messages.mask_memory import MaskMessages
from ros_kd_perception.messages.serialized_results import (
    FLOAT32,
    FLOAT32_BYTES,
    POINT_BYTES,
    SerializedResults,
    ids_as_text,
)
from ros_kd_perception.model.boxes import centers_and_sizes
from ros_kd_perception.model.contract import ClassInfo, ModelContract
from ros_kd_perception.structures import Float32Array, Int32Array, Perception, UInt8Array

UNLABELED_NAME = "unlabeled"

# The format text that image_transport's `compressed` plug-in writes for a mono8 image and expects when it reads one.
_PNG_FORMAT = "mono8; png compressed "
# The same for a bgr8 image.
_JPEG_FORMAT = "bgr8; jpeg compressed bgr8"
# A class map has large flat areas. Run-length encoding alone shrinks it to a hundredth, in a fraction of the default's
# time.
_PNG_SETTINGS = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)


@dataclass(frozen=True)
class MessageTypes:
    """The message classes of one library, rclpy or rosbags. Their constructors get all fields as keywords.

    Attributes:
        image_data: Turns a C-contiguous uint8 array into the type of `Image.data`.
        range_data: Turns a float32 array into the type of `LaserScan.ranges`.
        number_data: Turns a float64 array into the type of `CameraInfo.d`.
    """

    time: Callable[..., Any]
    header: Callable[..., Any]
    image: Callable[..., Any]
    compressed_image: Callable[..., Any]
    point: Callable[..., Any]
    quaternion: Callable[..., Any]
    pose: Callable[..., Any]
    pose_with_covariance: Callable[..., Any]
    point_2d: Callable[..., Any]
    pose_2d: Callable[..., Any]
    bounding_box: Callable[..., Any]
    hypothesis: Callable[..., Any]
    hypothesis_with_pose: Callable[..., Any]
    detection: Callable[..., Any]
    detection_array: Callable[..., Any]
    vision_class: Callable[..., Any]
    label_info: Callable[..., Any]
    laser_scan: Callable[..., Any]
    point_cloud: Callable[..., Any]
    point_field: Callable[..., Any]
    camera_info: Callable[..., Any]
    region_of_interest: Callable[..., Any]
    image_data: Callable[[UInt8Array], Any]
    range_data: Callable[[Float32Array], Any]
    number_data: Callable[[Float64Array], Any]

    @classmethod
    def from_lookup(
        cls,
        lookup: Callable[[str], Any],
        image_data: Callable[[UInt8Array], Any],
        range_data: Callable[[Float32Array], Any],
        number_data: Callable[[Float64Array], Any] = lambda numbers: numbers,
    ) -> MessageTypes:
        """Collect the classes from a lookup by full name, such as `sensor_msgs/msg/Image`."""
        return cls(
            time=lookup("builtin_interfaces/msg/Time"),
            header=lookup("std_msgs/msg/Header"),
            image=lookup("sensor_msgs/msg/Image"),
            compressed_image=lookup("sensor_msgs/msg/CompressedImage"),
            point=lookup("geometry_msgs/msg/Point"),
            quaternion=lookup("geometry_msgs/msg/Quaternion"),
            pose=lookup("geometry_msgs/msg/Pose"),
            pose_with_covariance=lookup("geometry_msgs/msg/PoseWithCovariance"),
            point_2d=lookup("vision_msgs/msg/Point2D"),
            pose_2d=lookup("vision_msgs/msg/Pose2D"),
            bounding_box=lookup("vision_msgs/msg/BoundingBox2D"),
            hypothesis=lookup("vision_msgs/msg/ObjectHypothesis"),
            hypothesis_with_pose=lookup("vision_msgs/msg/ObjectHypothesisWithPose"),
            detection=lookup("vision_msgs/msg/Detection2D"),
            detection_array=lookup("vision_msgs/msg/Detection2DArray"),
            vision_class=lookup("vision_msgs/msg/VisionClass"),
            label_info=lookup("vision_msgs/msg/LabelInfo"),
            laser_scan=lookup("sensor_msgs/msg/LaserScan"),
            point_cloud=lookup("sensor_msgs/msg/PointCloud2"),
            point_field=lookup("sensor_msgs/msg/PointField"),
            camera_info=lookup("sensor_msgs/msg/CameraInfo"),
            region_of_interest=lookup("sensor_msgs/msg/RegionOfInterest"),
            image_data=image_data,
            range_data=range_data,
            number_data=number_data,
        )


class _DetectionParts(NamedTuple):
    """One Detection2D and its parts that differ between boxes."""

    detection: Any
    hypothesis: Any
    center: Any
    box: Any


class MessageBuilder:
    """Builds messages for perceptions of one model.

    Publish or write the messages, but do not modify them: they share parts that never change (an all-zero pose) and,
    within one array, the header. Building a message of a task that the model does not do raises a ValueError.

    Args:
        types: The message classes to use.
        contract: Contract of the model that the perceptions come from.
        reuse_parts: Refill old messages instead of creating new ones. The results of `segmentation` and `detections`
            are then valid only until the next call. A hundred boxes take 0.1 ms instead of 1.7 ms, because rclpy's
            constructors create all default values first. If the class map was created by `masks.new_class_map`,
            `segmentation` returns the message that contains it, else it copies the class map.
        with_names: Class ids of boxes are names instead of numbers.

    Attributes:
        masks: Creates class maps in the memory of messages.
        serialized: Writes masks and boxes as bytes, and creates class maps in their memory.
        classes: Classes of the boxes by id.
    """

    def __init__(
        self, types: MessageTypes, contract: ModelContract, *, reuse_parts: bool = False, with_names: bool = False
    ) -> None:
        self._types = types
        self._contract = contract
        self._reuse_parts = reuse_parts
        self.masks = MaskMessages(lambda height, width: self._image("mono8", np.zeros((height, width), np.uint8)))
        names = class_names(contract.detection_classes) if with_names else None
        self.serialized = SerializedResults(names)
        self.classes = {info.id: info for info in contract.detection_classes}
        self._no_data = np.empty(0, np.uint8)
        self._no_ranges = np.empty(0, np.float32)
        self._class_ids = names or {c.id: str(c.id) for c in contract.detection_classes}
        origin = types.point(x=0.0, y=0.0, z=0.0)
        no_turn = types.quaternion(x=0.0, y=0.0, z=0.0, w=1.0)
        self._no_pose = types.pose_with_covariance(
            pose=types.pose(position=origin, orientation=no_turn), covariance=np.zeros(36, np.float64)
        )
        self._parts: list[_DetectionParts] = []
        self._shared_header = self._header(0, "")
        self._shared_array = types.detection_array(header=self._shared_header, detections=[])

    def segmentation(self, perception: Perception) -> Any:
        """Return the class map as sensor_msgs/Image: mono8, a class id for each pixel, size of the source image."""
        class_map = perception.require_class_map()
        mask = self.masks.message_of(class_map) if self._reuse_parts else None
        if mask is None:
            mask = self._image("mono8", class_map)
        mask.header = self._header_of(perception)
        return mask

    def segmentation_png(self, perception: Perception) -> Any:
        """Return the class map as sensor_msgs/CompressedImage: PNG, mono8, the same pixels as `segmentation`."""
        class_map = perception.require_class_map()
        done, png = cv2.imencode(".png", class_map, _PNG_SETTINGS)
        if not done:
            raise OSError(f"expected OpenCV to encode a class map of {class_map.shape} as PNG, it failed")
        return self._compressed(perception, _PNG_FORMAT, np.asarray(png, np.uint8).reshape(-1))

    def picture(self, perception: Perception, image_bgr: UInt8Array) -> Any:
        """Return a picture, uint8 `[h, w, 3]`, as sensor_msgs/Image bgr8 with the perception's header."""
        message = self._image("bgr8", image_bgr)
        message.header = self._header(perception.stamp_ns, perception.frame_id)
        return message

    def picture_jpeg(self, perception: Perception, image_bgr: UInt8Array) -> Any:
        """Return a picture, uint8 `[h, w, 3]`, as sensor_msgs/CompressedImage: JPEG, with the perception's header."""
        return self._compressed(perception, _JPEG_FORMAT, jpeg_of(image_bgr))

    def detections(self, perception: Perception) -> Any:
        """Return the boxes as vision_msgs/Detection2DArray in source-image pixels, best first. May be empty."""
        header = self._header_of(perception)
        found, class_ids = perception.require_detections(), self._class_ids
        parts = self._take_parts(len(found), header)
        # Computed on whole arrays, because a loop over a hundred boxes takes a millisecond.
        centers, sizes = centers_and_sizes(found.boxes_xyxy)
        ids = ids_as_text(found)
        rows = zip(
            parts, centers.tolist(), sizes.tolist(), found.scores.tolist(), found.labels.tolist(), ids, strict=True
        )
        for part, (center_x, center_y), (size_x, size_y), score, label, track_id in rows:
            part.detection.id = track_id
            part.hypothesis.class_id = class_ids.get(label) or str(label)
            part.hypothesis.score = score
            part.center.x, part.center.y = center_x, center_y
            part.box.size_x, part.box.size_y = size_x, size_y
        array = self._shared_array if self._reuse_parts else self._types.detection_array(header=header, detections=[])
        array.detections = [part.detection for part in parts]
        return array

    def free_space(self, perception: Perception, boundary: Int32Array) -> Any:
        """Return the free-space boundary as sensor_msgs/Image: one row of 32SC1, a value for each image column."""
        rows = np.ascontiguousarray(boundary, "<i4").view(np.uint8)
        message = self._image("32SC1", rows[None], pixel_bytes=4)
        message.header = self._header(perception.stamp_ns, perception.frame_id)
        return message

    def scan(self, perception: Perception, frame_id: str, scan: GroundScan, ranges: Float32Array) -> Any:
        """Return the ranges on the ground as sensor_msgs/LaserScan. All beams have the time of the frame."""
        angles, beams = scan.beams.angles_rad, scan.beams
        nearest_m = float(scan.nearest_m.min())
        message = self._types.laser_scan(
            header=self._header(perception.stamp_ns, frame_id),
            angle_min=float(angles[0]),
            angle_max=float(angles[-1]),
            angle_increment=beams.increment_rad,
            time_increment=0.0,
            scan_time=0.0,
            # Slightly less, so that rounding to float32 cannot move it above the nearest possible range.
            range_min=nearest_m * (1 - 1e-6) if np.isfinite(nearest_m) else 0.0,
            range_max=beams.range_max_m,
            ranges=self._types.range_data(self._no_ranges),
            intensities=self._types.range_data(self._no_ranges),
        )
        message.ranges = self._types.range_data(ranges)
        return message

    def gray_image(self, perception: Perception, pixels: UInt8Array) -> Any:
        """Return pixels, uint8 `[h, w]`, as sensor_msgs/Image mono8 with the perception's header."""
        message = self._image("mono8", pixels)
        message.header = self._header(perception.stamp_ns, perception.frame_id)
        return message

    def ground_points(self, perception: Perception, points: Float32Array) -> Any:
        """Return points, float32 `[h, w, 3]`, as organised sensor_msgs/PointCloud2 in the frame of the perception."""
        types, (height, width, _) = self._types, points.shape
        pixels = np.ascontiguousarray(points, "<f4").view(np.uint8).reshape(-1)
        message = types.point_cloud(
            header=self._header(perception.stamp_ns, perception.frame_id),
            height=height,
            width=width,
            fields=[
                types.point_field(name=name, offset=FLOAT32_BYTES * index, datatype=FLOAT32, count=1)
                for index, name in enumerate("xyz")
            ],
            is_bigendian=False,
            point_step=POINT_BYTES,
            row_step=POINT_BYTES * width,
            data=types.image_data(self._no_data),
            is_dense=False,  # there may be NaN
        )
        # Set the data afterwards, as in `_image`.
        message.data = types.image_data(pixels)
        return message

    def camera_info(self, perception: Perception, fields: CameraInfoFields) -> Any:
        """Return the fields as sensor_msgs/CameraInfo with the perception's header."""
        types = self._types
        x_offset, y_offset, height, width = fields.region
        return types.camera_info(
            header=self._header(perception.stamp_ns, perception.frame_id),
            height=fields.height,
            width=fields.width,
            distortion_model=fields.distortion_model,
            d=types.number_data(np.array(fields.d, np.float64)),
            k=np.array(fields.k, np.float64),
            r=np.array(fields.r, np.float64),
            p=np.array(fields.p, np.float64),
            binning_x=fields.binning_x,
            binning_y=fields.binning_y,
            roi=types.region_of_interest(
                x_offset=x_offset, y_offset=y_offset, height=height, width=width, do_rectify=fields.do_rectify
            ),
        )

    def segmentation_labels(self) -> Any:
        """Return the vision_msgs/LabelInfo of the class map, with all classes and the id of unlabeled pixels.

        Without segmentation it has no classes.
        """
        if self._contract.class_map is None:
            return self._label_info((), threshold=0.0)
        unlabeled = ClassInfo(self._contract.unlabeled_id, UNLABELED_NAME, (0, 0, 0))
        return self._label_info((*self._contract.segmentation_classes, unlabeled), threshold=0.0)

    def detection_labels(self, score_threshold: float | None = None) -> Any:
        """Return the vision_msgs/LabelInfo of the boxes. Without detection it has no classes.

        Args:
            score_threshold: The score threshold in use. None means the contract's.
        """
        threshold = self._contract.score_threshold if score_threshold is None else score_threshold
        return self._label_info(self._contract.detection_classes, threshold)

    def _label_info(self, classes: tuple[ClassInfo, ...], threshold: float) -> Any:
        types = self._types
        return types.label_info(
            header=self._header(0, ""),
            class_map=[types.vision_class(class_id=c.id, class_name=c.name) for c in classes],
            threshold=float(threshold),
        )

    def _take_parts(self, count: int, header: Any) -> list[_DetectionParts]:
        if not self._reuse_parts:
            return [self._make_parts(header) for _ in range(count)]
        while len(self._parts) < count:
            self._parts.append(self._make_parts(header))
        return self._parts[:count]

    def _make_parts(self, header: Any) -> _DetectionParts:
        types = self._types
        position = types.point_2d(x=0.0, y=0.0)
        box = types.bounding_box(center=types.pose_2d(position=position, theta=0.0), size_x=0.0, size_y=0.0)
        hypothesis = types.hypothesis(class_id="", score=0.0)
        result = types.hypothesis_with_pose(hypothesis=hypothesis, pose=self._no_pose)
        detection = types.detection(header=header, results=[result], bbox=box, id="")
        return _DetectionParts(detection, hypothesis, position, box)

    def _image(self, encoding: str, pixels: UInt8Array, pixel_bytes: int = 1) -> Any:
        height, width = pixels.shape[0], pixels.shape[1] // pixel_bytes
        message = self._types.image(
            header=self._header(0, ""),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=pixels.nbytes // height,
            data=self._types.image_data(self._no_data),
        )
        # Set the data afterwards: rclpy's constructor copies it byte by byte, which takes a millisecond at 720p.
        message.data = self._types.image_data(np.ascontiguousarray(pixels))
        return message

    def _compressed(self, perception: Perception, image_format: str, encoded: UInt8Array) -> Any:
        message = self._types.compressed_image(
            header=self._header(perception.stamp_ns, perception.frame_id),
            format=image_format,
            data=self._types.image_data(self._no_data),
        )
        # Set the data afterwards, as in `_image`.
        message.data = self._types.image_data(encoded)
        return message

    def _header_of(self, perception: Perception) -> Any:
        if not self._reuse_parts:
            return self._header(perception.stamp_ns, perception.frame_id)
        header = self._shared_header
        header.stamp.sec, header.stamp.nanosec = divmod(perception.stamp_ns, 1_000_000_000)
        header.frame_id = perception.frame_id
        return header

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        return self._types.header(stamp=self._types.time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)
