"""FreeSpaceFinder: computes free space from perceptions, for all cameras. The node and the replay use it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ros_kd_perception.free_space.boundary import blocked_classes, free_space_boundary
from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.free_space.cell_rays import CellRays
from ros_kd_perception.free_space.ground_grid import GroundGrid
from ros_kd_perception.free_space.ground_scan import CameraPose, GroundScan
from ros_kd_perception.free_space.parameters import FreeSpaceParameters, GroundPointParameters
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.structures import Float32Array, Int32Array, Perception


class FreeSpaceFinder:
    """Holds the drivable classes of a model, and the scan and the ground of each camera.

    One thread may perceive while another calibrates, because a new scan replaces the old one in one step.

    Attributes:
        parameters: Settings of free space, scans and points on the ground.
        unlabeled_id: Value of unlabelled pixels in the class maps of the model.

    Args:
        parameters: Settings of free space, scans and points on the ground.
        contract: Contract of the model.

    Raises:
        ValueError: The model does not do segmentation or does not have a drivable class.
    """

    def __init__(self, parameters: FreeSpaceParameters, contract: ModelContract) -> None:
        self.parameters = parameters
        self._blocked = blocked_classes(contract, parameters.drivable_classes)
        self.unlabeled_id = contract.unlabeled_id
        self._scans: dict[str, GroundScan] = {}
        self._grounds: dict[str, GroundGrid] = {}
        self._ground_problems: dict[str, str] = {}
        self._made_of: dict[str, tuple[Calibration, CameraPose, CameraInfoFields | str]] = {}
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
        self.unlabeled_id = contract.unlabeled_id

    def calibrate(self, camera: str, camera_info: Any, pose: CameraPose | None = None) -> None:
        """Compute the scan and the ground of a camera from its CameraInfo. A changed one takes up to 0.2 s.

        Args:
            camera: A camera with a scan or with points on the ground.
            camera_info: The sensor_msgs/CameraInfo.
            pose: Pose of the camera in the scan's frame. None uses the pose from the parameters.

        Raises:
            ValueError: The CameraInfo or the pose is invalid. The camera then has neither ranges nor points. What is
                wrong for the points alone is a `ground_problem` of a camera that has a scan, too.
        """
        mounted = self.parameters.mounted[camera]
        pose = pose or mounted.pose
        try:
            if pose is None:
                raise ValueError(f"expected a mounting of {camera}, there is none")
            calibration = Calibration.from_message(camera_info, mounted.rectified)
            info = self._ground_info(camera, camera_info)
            with self._lock:
                if self._made_of.get(camera) == (calibration, pose, info):
                    return
                self._make_scan(camera, calibration, pose)
                self._make_ground(camera, calibration, pose, info)
                self._made_of[camera] = (calibration, pose, info)
        except Exception as error:
            # Forget the old calibration: it no longer applies, and its ranges would be wrong without a warning.
            self.forget(camera)
            if isinstance(error, ValueError):
                raise
            # Unusual numbers can raise other errors in the arithmetic.
            raise ValueError(
                f"expected a CameraInfo of a usable camera, got {type(error).__name__}: {error}; calibrate the camera "
                "again"
            ) from error

    def _make_scan(self, camera: str, calibration: Calibration, pose: CameraPose) -> None:
        if camera in self.parameters.scans:
            beams, ignored = self.parameters.scans[camera].beams, self.parameters.ignore_bottom_px.get(camera, 0)
            self._scans[camera] = GroundScan(calibration, pose, beams, self.parameters.max_gap_px, ignored)

    def _ground_info(self, camera: str, camera_info: Any) -> CameraInfoFields | str:
        """Return what the ground needs of a CameraInfo, or why it cannot be used. Empty without a ground."""
        if camera not in self.parameters.grounds:
            return ""
        try:
            return CameraInfoFields.from_message(camera_info)
        except ValueError as error:
            return str(error)

    def _make_ground(
        self, camera: str, calibration: Calibration, pose: CameraPose, info: CameraInfoFields | str
    ) -> None:
        self._ground_problems.pop(camera, None)
        if (ground := self.parameters.grounds.get(camera)) is None:
            return
        try:
            if isinstance(info, str):
                raise ValueError(info)
            self._grounds[camera] = self._new_ground(camera, ground, calibration, pose, info)
        except Exception as error:
            # A vehicle may brake by the scan, which needs none of this.
            if camera not in self.parameters.scans:
                raise
            self._grounds.pop(camera, None)
            self._ground_problems[camera] = str(error) or type(error).__name__

    def _new_ground(
        self,
        camera: str,
        ground: GroundPointParameters,
        calibration: Calibration,
        pose: CameraPose,
        info: CameraInfoFields,
    ) -> GroundGrid:
        # The rays depend on the calibration alone and take the most time. A mounting from TF may change often.
        old = self._grounds.get(camera)
        if old is not None and old.cells.calibration == calibration:
            cells = old.cells
        else:
            cells = CellRays(calibration, ground.stride_px)
        ignored = self.parameters.ignore_bottom_px.get(camera, 0)
        return GroundGrid(cells, pose, ground.range_max_m, ignored, info.of_cells(ground.stride_px))

    def forget(self, camera: str) -> None:
        """Drop the scan and the ground of a camera. It has none until it is calibrated again."""
        with self._lock:
            for of_camera in (self._scans, self._grounds, self._ground_problems, self._made_of):
                of_camera.pop(camera, None)

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

    def ground(self, camera: str) -> GroundGrid | None:
        """Return the points on the ground of a camera, or None before it is calibrated."""
        return self._grounds.get(camera)

    def ground_problem(self, camera: str) -> str:
        """Return why a calibrated camera has no points on the ground, one sentence. Empty if it has them."""
        return self._ground_problems.get(camera, "")
