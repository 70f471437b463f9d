"""FreeSpaceFinder: from perceptions to free space, for every camera, as the node and a replay need it."""

from __future__ import annotations

import threading
from typing import Any

from ros_kd_perception.free_space.boundary import blocked_classes, free_space_boundary
from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.ground_scan import CameraPose, GroundScan
from ros_kd_perception.free_space.parameters import FreeSpaceParameters
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.structures import Float32Array, Int32Array, Perception


class FreeSpaceFinder:
    """Keeps the drivable classes of a model and the lines of every camera's scan.

    Safe for one thread that perceives and another that calibrates: what one reads the other puts there whole.

    Args:
        parameters: as read.
        contract: of the model.

    Raises:
        ValueError: a drivable class that the model does not have.
    """

    def __init__(self, parameters: FreeSpaceParameters, contract: ModelContract) -> None:
        self.parameters = parameters
        self._blocked = blocked_classes(contract, parameters.drivable_classes)
        self._scans: dict[str, GroundScan] = {}
        self._made_of: dict[str, tuple[Calibration, CameraPose]] = {}
        self._lock = threading.Lock()

    def take_model(self, contract: ModelContract) -> None:
        """Go on with the perceptions of another model.

        Raises:
            ValueError: a drivable class that it does not have; nothing has changed then.
        """
        self._blocked = blocked_classes(contract, self.parameters.drivable_classes)

    def calibrate(self, camera: str, camera_info: Any, pose: CameraPose | None = None) -> None:
        """Take over what a CameraInfo says; costs some milliseconds where it says something new.

        Args:
            camera: one with a scan.
            camera_info: sensor_msgs/CameraInfo.
            pose: of the camera in the scan's frame; None for that of the parameters.

        Raises:
            ValueError: nothing can be made of it; there are no ranges then.
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
            # Ranges by a calibration that no longer holds would be wrong, and nothing would tell.
            self.forget(camera)
            if isinstance(error, ValueError):
                raise
            # What arithmetic makes of numbers that nobody expected.
            raise ValueError(
                f"expected a CameraInfo that the scan can be worked out from, got {type(error).__name__}: {error}; "
                "calibrate the camera again"
            ) from error

    def forget(self, camera: str) -> None:
        """No ranges of a camera until it is calibrated again."""
        with self._lock:
            self._scans.pop(camera, None)
            self._made_of.pop(camera, None)

    def scan(self, camera: str) -> GroundScan | None:
        """The lines of a camera's scan; None before it is calibrated."""
        return self._scans.get(camera)

    def boundary(self, perception: Perception) -> Int32Array:
        """The free-space boundary in the image, as `free_space_boundary` returns it."""
        return free_space_boundary(
            perception.class_map,
            self._blocked,
            self.parameters.max_gap_px,
            self.parameters.ignore_bottom_px.get(perception.camera, 0),
        )

    def ranges(self, perception: Perception) -> Float32Array | None:
        """The ranges of a camera's scan, as `GroundScan.ranges` returns them; None before it is calibrated.

        Raises:
            ValueError: the class map has another size than the CameraInfo.
        """
        scan = self._scans.get(perception.camera)
        return None if scan is None else scan.ranges(perception.class_map, self._blocked)
