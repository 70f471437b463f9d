"""GroundTopics: where the objects of every camera stand on the ground, for controllers and for RViz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vision_msgs.msg import Detection3DArray

from ros_kd_perception.ground_positions.ground_camera import GroundPositions, LeftOut
from ros_kd_perception.ground_positions.locator import GroundLocator
from ros_kd_perception.ground_positions.parameters import (
    GROUND_PARAMETERS,
    ground_camera_declarations,
    read_ground_parameters,
)
from ros_kd_perception.health.status import Level, Status
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.ground_objects import markers_as_bytes
from ros_kd_perception.model.contract import ClassInfo, ModelContract
from ros_kd_perception.parameters.rules import Declaration
from ros_kd_perception.ros.installed_messages import message_class
from ros_kd_perception.ros.topics.camera_calibrations import CameraCalibrations
from ros_kd_perception.ros.topics.serialized_publish import publish_serialized
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.scheduling.side_thread import SideThread
from ros_kd_perception.system.warning_throttle import WarningThrottle

_WHAT = "positions on the ground"


@dataclass(frozen=True)
class _MarkerRequest:
    """The objects of a frame, to be shown with the classes of the model that found them."""

    stamp_ns: int
    positions: GroundPositions
    classes: Mapping[int, ClassInfo]


class GroundTopics(TopicSink):
    """Publishes `~/<camera>/ground_detections` and `~/<camera>/markers` of cameras with `ground_detections.enabled`.

    Positions are found while one of the two topics has a subscriber. The network thread publishes them; markers are for
    people and written in a side thread. Cameras are calibrated from `<camera>/camera_info` while the node is active.

    Raises:
        ValueError: The model does no detection, or a camera has no mounting.
        ImportError: visualization_msgs is not installed, or mountings come from TF, which is not installed.
    """

    name = _WHAT
    parameters = GROUND_PARAMETERS

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        parameters = read_ground_parameters(context.values.get, context.cameras)
        self._locator = GroundLocator(parameters, context.contract)
        self._throttle = WarningThrottle(context.warn)
        self._misfits = dict.fromkeys(parameters, "")  # why the newest frame does not fit the calibration
        self._left_out: dict[str, LeftOut] = {}
        self._enabled: dict[str, bool] = {c: context.values[f"{c}.enabled"] for c in parameters}
        # Not imported above: a vehicle without positions needs no visualization_msgs. What can be missing comes first,
        # so that no topic stays if it is.
        marker_types = {camera: message_class("visualization_msgs/msg/MarkerArray") for camera in parameters}
        self._calibrations = CameraCalibrations(
            context.node,
            {camera: own.frame_id if own.pose is None else None for camera, own in parameters.items()},
            use=self._locator.calibrate,
            forget=self._locator.forget,
            warn=context.warn,
            resolve=context.resolve,
            what=dict.fromkeys(parameters, _WHAT),
        )
        self._objects = {c: self.publisher(Detection3DArray, f"~/{c}/ground_detections") for c in parameters}
        self._markers = {c: self.publisher(kind, f"~/{c}/markers") for c, kind in marker_types.items()}
        self._showing: SideThread[_MarkerRequest] = SideThread("markers", list(parameters), self._show, context.warn)

    @classmethod
    def camera_parameters(cls, camera: str) -> Mapping[str, Declaration]:
        """Return the parameters of positions that may be set for one camera. Free space declares the mounting."""
        return ground_camera_declarations(camera)

    @classmethod
    def check_parameters(cls, values: Mapping[str, Any], cameras: Sequence[str]) -> None:
        """Check that every camera with positions has a mounting."""
        read_ground_parameters(values.get, cameras)

    def start(self) -> None:
        """Subscribe to camera_info and start the thread of the markers."""
        self._calibrations.start()
        self._showing.start()

    def stop(self, timeout_s: float) -> None:
        """Unsubscribe from camera_info and end the thread. The calibrations stay."""
        self._calibrations.stop(timeout_s)
        self._showing.stop(timeout_s)

    def destroy(self) -> None:
        """Remove the publishers and the TF listener."""
        super().destroy()
        self._calibrations.close()

    def change(self, values: Mapping[str, Any]) -> None:
        """Note which cameras are disabled: their missing positions are no error."""
        self._enabled = {c: values.get(f"{c}.enabled", enabled) for c, enabled in self._enabled.items()}

    def check_model(self, contract: ModelContract) -> str:
        """Check that a model does detection, if positions were asked for."""
        GroundLocator(self._locator.parameters, contract)
        return ""

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Use the classes of the new model."""
        super().change_model(contract, builder)
        self._locator.take_model(contract)

    def publish(self, result: FrameResult) -> None:
        """Publish the positions of a frame, and request its markers, each only if it has a subscriber."""
        perception = result.perception
        camera = perception.camera
        ground_camera = self._locator.camera(camera)
        if ground_camera is None:
            return
        geometry = result.ready.prepared.geometry
        # Without a subscriber, too: the status shows the newest frame.
        self._misfits[camera] = misfit = ground_camera.misfit(geometry)
        if misfit:
            self._throttle.warn(camera, f"no {_WHAT} of {camera}: {misfit}")
            return
        objects, markers = self._objects[camera], self._markers[camera]
        wants_objects, wants_markers = objects.get_subscription_count(), markers.get_subscription_count()
        if not (wants_objects or wants_markers):
            self._left_out.pop(camera, None)
            return
        positions = self._locator.positions(perception, geometry)
        if positions is None:
            return
        self._left_out[camera] = positions.left_out
        if wants_objects:
            frame_id = self._locator.parameters[camera].frame_id
            publish_serialized(objects, self.builder.serialized.ground_detections(perception, frame_id, positions))
        if wants_markers:
            self._showing.offer(camera, _MarkerRequest(perception.stamp_ns, positions, self.builder.classes))

    def statuses(self) -> list[Status]:
        """Return a status for each camera: whether it has positions, and how many boxes of the newest frame do not."""
        return [self._status(camera) for camera in self._locator.parameters]

    def _show(self, camera: str, request: _MarkerRequest) -> None:
        frame_id = self._locator.parameters[camera].frame_id
        written = markers_as_bytes(request.stamp_ns, frame_id, request.positions, request.classes)
        publish_serialized(self._markers[camera], written)

    def _status(self, camera: str) -> Status:
        name, found = f"{camera} ground positions", self._locator.camera(camera)
        problem = self._calibrations.problems[camera] or self._misfits[camera]
        if not self._enabled[camera]:
            return Status(Level.OK, name, f"disabled with {camera}")
        if problem or found is None:
            level = Level.ERROR if self._calibrations.is_subscribed else Level.OK
            return Status(level, name, problem or "not calibrated yet")
        values = tuple((f"boxes_{reason}", str(n)) for reason, n in vars(self._left_out.get(camera, LeftOut())).items())
        values = (*values, ("camera_info_age_s", f"{self._calibrations.age_s(camera):.1f}"))
        if found.calibration.doubt:
            return Status(Level.WARN, name, found.calibration.doubt, values=values)
        shown = "gives positions" if camera in self._left_out else "calibrated, without a subscriber"
        return Status(Level.OK, name, shown, values=values)
