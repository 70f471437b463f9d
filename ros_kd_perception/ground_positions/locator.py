"""GroundLocator: finds positions on the ground for all cameras. The node and the replay use it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.ground_positions.ground_camera import GroundCamera, GroundPositions
from ros_kd_perception.ground_positions.parameters import GroundParameters
from ros_kd_perception.model.contract import DETECTION, ModelContract
from ros_kd_perception.model.letterbox import InputGeometry
from ros_kd_perception.structures import Perception


class GroundLocator:
    """Holds the calibration of each camera.

    One thread may locate while another calibrates, because a new calibration replaces the old one in one step.

    Args:
        parameters: Camera -> settings of its positions. Cameras without positions are missing.
        contract: Contract of the model.

    Raises:
        ValueError: A camera has positions and the model does no detection. One sentence.
    """

    def __init__(self, parameters: Mapping[str, GroundParameters], contract: ModelContract) -> None:
        self.parameters = parameters
        self.take_model(contract)
        self._cameras: dict[str, GroundCamera] = {}
        self._made_of: dict[str, tuple[Calibration, CameraPose]] = {}
        self._lock = threading.Lock()

    def take_model(self, contract: ModelContract) -> None:
        """Switch to the perceptions of another model.

        Raises:
            ValueError: A camera has positions and the model does no detection. The previous model's classes stay in
                use.
        """
        if self.parameters and DETECTION not in contract.tasks:
            raise ValueError(
                f"expected a model that does detection for ground_detections.enabled, got {contract.name}, which does "
                f"{' and '.join(contract.tasks)}; use another model, or set ground_detections.enabled: false"
            )
        self._off_ground = {
            camera: np.array([c.id for c in contract.detection_classes if c.name in own.off_ground_classes], np.int32)
            for camera, own in self.parameters.items()
        }

    def calibrate(self, camera: str, camera_info: Any, pose: CameraPose | None = None) -> None:
        """Use a CameraInfo and a mounting from now on.

        Args:
            camera: A camera with positions.
            camera_info: The sensor_msgs/CameraInfo.
            pose: Pose of the camera in the ground's frame, from TF. None uses the pose from the parameters.

        Raises:
            ValueError: The CameraInfo or the pose is invalid. The camera then has no positions.
        """
        settings = self.parameters[camera]
        pose = pose or settings.pose
        try:
            if pose is None:
                raise ValueError(f"expected a mounting of {camera}, there is none")
            made_of = (Calibration.from_message(camera_info, settings.rectified), pose)
            if self._made_of.get(camera) == made_of:
                return
            made = GroundCamera(*made_of, settings.errors, settings.range_max_m, settings.ignore_bottom_px)
        except Exception as error:
            # Forget the old calibration: it no longer applies, and its positions would be wrong without a warning.
            self.forget(camera)
            if isinstance(error, ValueError):
                raise
            # Unusual numbers can raise other errors in the arithmetic.
            raise ValueError(
                f"expected a CameraInfo that gives positions on the ground, got {type(error).__name__}: {error}; "
                "calibrate the camera again"
            ) from error
        with self._lock:
            self._cameras[camera], self._made_of[camera] = made, made_of

    def forget(self, camera: str) -> None:
        """Drop the calibration of a camera. It has no positions until it is calibrated again."""
        with self._lock:
            self._cameras.pop(camera, None)
            self._made_of.pop(camera, None)

    def camera(self, camera: str) -> GroundCamera | None:
        """Return a camera, or None before it is calibrated."""
        return self._cameras.get(camera)

    def positions(self, perception: Perception, geometry: InputGeometry) -> GroundPositions | None:
        """Find where the objects of a frame stand.

        Args:
            perception: The results for the frame.
            geometry: How the frame was fitted into the network's input.

        Returns:
            The positions. None if the camera is not calibrated, or if the model does no detection.

        Raises:
            ValueError: The frame has another size than the CameraInfo.
        """
        camera, found = self._cameras.get(perception.camera), perception.detections
        if camera is None or found is None:
            return None
        stands = ~np.isin(found.labels, self._off_ground[perception.camera])
        positions = camera.positions(found.rows(stands), geometry)
        off_ground = len(found) - int(np.count_nonzero(stands))
        return replace(positions, left_out=replace(positions.left_out, off_ground=off_ground))
