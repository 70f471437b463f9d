"""FreeSpaceFinder: computes free space from perceptions, for all cameras. The node and the replay use it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ros_kd_perception.free_space.boundary import blocked_classes, free_space_boundary
from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.ground_scan import CameraPose, GroundScan
from ros_kd_perception.free_space.parameters import FreeSpaceParameters
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.structures import Float32Array, Int32Array, Perception


class FreeSpaceFinder:
    """Holds the drivable classes of a model and the scan of each camera.

    One thread may perceive while another calibrates, because a new scan replaces the old one in one step.

    Args:
        parameters: Settings of free space and scans.
        contract: Contract of the model.

    Raises:
        ValueError: The model does not do segmentation or does not have a drivable class.
    """

    def __init__(self, parameters: FreeSpaceParameters, contract: ModelContract) -> None:
        self.parameters = parameters
        self._blocked = blocked_classes(contract, parameters.drivable_classes)
        self._scans: dict[str, GroundScan] = {}
        self._made_of: dict[str, tuple[Calibration, CameraPose]] = {}
        self._lock = threading.Lock()

    @classmethod
    def if_possible(
        cls, parameters: FreeSpaceParameters, contract: ModelContract, tell: Callable[[str], object]
    ) -> FreeSpaceFinder | None:
        """Return a finder, or None for a model without free space where no parameter asks for free space.

        Args:
            parameters: Settings of free space and scans.
            contract: Contract of the model.
            tell: Called with one sentence if the model has no free space.

        Raises:
            ValueError: Free space was asked for, and the model has none.
        """
        try:
            return cls(parameters, contract)
        except ValueError as error:
            if parameters.asked_for:
                raise
            tell(f"no free space: {error}")
            return None

    def take_model(self, contract: ModelContract) -> None:
        """Switch to the perceptions of another model.

        Raises:
            ValueError: The model has no free space. The previous model's classes stay in use.
        """
        self._blocked = blocked_classes(contract, self.parameters.drivable_classes)

    def calibrate(self, camera: str, camera_info: Any, pose: CameraPose | None = None) -> None:
        """Compute the scan of a camera from its CameraInfo. A changed CameraInfo takes some milliseconds.

        Args:
            camera: A camera with a scan.
            camera_info: The sensor_msgs/CameraInfo.
            pose: Pose of the camera in the scan's frame. None uses the pose from the parameters.

        Raises:
            ValueError: The CameraInfo or the pose is invalid. The camera then has no ranges.
        """
        scan = self.parameters.scans[camera]
        pose = pose or scan.pose
        try:
            if pose is None:
                raise ValueError(f"expected a mounting of {camera}, there is none")
            made_of = (Calibration.from_message(camera_info, scan.rectified), pose)
            with self._lock:
                if self._made_of.get(camera) == made_of:
                    return
                self._scans[camera] = GroundScan(
                    *made_of, scan.beams, self.parameters.max_gap_px, self.parameters.ignore_bottom_px.get(camera, 0)
                )
                self._made_of[camera] = made_of
        except Exception as error:
            # Forget the old calibration: it no longer applies, and its ranges would be wrong without a warning.
            self.forget(camera)
            if isinstance(error, ValueError):
                raise
            # Unusual numbers can raise other errors in the arithmetic.
            raise ValueError(
                f"expected a CameraInfo that gives a scan, got {type(error).__name__}: {error}; calibrate the camera "
                "again"
            ) from error

    def forget(self, camera: str) -> None:
        """Drop the scan of a camera. It has no ranges until it is calibrated again."""
        with self._lock:
            self._scans.pop(camera, None)
            self._made_of.pop(camera, None)

    def scan(self, camera: str) -> GroundScan | None:
        """Return the scan of a camera, or None before it is calibrated."""
        return self._scans.get(camera)

    def boundary(self, perception: Perception) -> Int32Array:
        """Return the free-space boundary in the image, see `free_space_boundary`."""
        return free_space_boundary(
            perception.require_class_map(),
            self._blocked,
            self.parameters.max_gap_px,
            self.parameters.ignore_bottom_px.get(perception.camera, 0),
        )

    def ranges(self, perception: Perception) -> Float32Array | None:
        """Return the ranges of a camera's scan, see `GroundScan.ranges`. Return None before it is calibrated.

        Raises:
            ValueError: The class map has another size than the CameraInfo.
        """
        scan = self._scans.get(perception.camera)
        return None if scan is None else scan.ranges(perception.require_class_map(), self._blocked)
