"""TrackedCameras: a tracker for each camera, and perceptions with the ids of their objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.structures import Perception
from ros_kd_perception.tracking.byte_tracker import ByteTracker, TrackingSettings

TAKEOVER_IDS = 1 << 40
"""Ids that a process may give to the objects of a camera before they could meet those of the process after it: a
thousand new objects a second for 34 years."""


class TrackedCameras:
    """Follows the objects of some cameras. Use it from one thread.

    Args:
        settings: How objects are followed.
        cameras: Names of the cameras. Each has ids of its own.
        classes: Classes of the boxes.
        takeovers: How many processes served the cameras before in this run. Their ids are not used again.
    """

    def __init__(
        self, settings: TrackingSettings, cameras: Sequence[str], classes: Sequence[ClassInfo], takeovers: int = 0
    ) -> None:
        first_id = takeovers * TAKEOVER_IDS + 1
        self._trackers = {camera: ByteTracker(settings, first_id) for camera in cameras}
        self._classes = _named(classes)

    def track(self, perception: Perception) -> Perception:
        """Return a perception with the ids of its boxes. Without detection it stays as it is."""
        found = perception.detections
        if found is None:
            return perception
        ids = self._trackers[perception.camera].update(perception.stamp_ns, found)
        return replace(perception, detections=replace(found, track_ids=ids))

    def change_model(self, classes: Sequence[ClassInfo]) -> None:
        """Note the classes of a new model. Objects are followed on if the classes are the same, else forgotten."""
        if _named(classes) != self._classes:
            self._classes = _named(classes)
            for tracker in self._trackers.values():
                tracker.reset()


def _named(classes: Sequence[ClassInfo]) -> dict[int, str]:
    return {info.id: info.name for info in classes}
