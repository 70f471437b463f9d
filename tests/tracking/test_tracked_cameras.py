"""TrackedCameras: each camera has ids of its own, and they outlast a model and a process."""

from dataclasses import replace

import numpy as np
import pytest

from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.structures import Detections, Perception, Timing
from ros_kd_perception.tracking.byte_tracker import TrackingSettings
from ros_kd_perception.tracking.tracked_cameras import TAKEOVER_IDS, TrackedCameras

CLASSES = (ClassInfo(0, "car", (0, 0, 255)), ClassInfo(1, "person", (255, 0, 0)))
FOUND = Detections(
    np.array([[10, 10, 60, 60], [200, 10, 260, 60]], np.float32),
    np.full(2, 0.9, np.float32),
    np.array([0, 1], np.int32),
)


def perception(stamp_ms: int, camera: str = "front", found: Detections | None = FOUND) -> Perception:
    return Perception(camera, stamp_ms * 1_000_000, "frame", None, found, None, Timing(1, 1, 1))


def ids(tracked: Perception) -> list[int]:
    assert tracked.detections is not None
    assert tracked.detections.track_ids is not None
    return tracked.detections.track_ids.tolist()


def cameras(takeovers: int = 0) -> TrackedCameras:
    return TrackedCameras(TrackingSettings(), ("front", "left"), CLASSES, takeovers)


def test_only_the_ids_of_a_perception_change() -> None:
    given = perception(0)
    tracked = cameras().track(given)
    assert given.detections is not None
    assert given.detections.track_ids is None
    assert ids(tracked) == [1, 2]
    assert tracked.detections is not None
    assert tracked.detections.boxes_xyxy is FOUND.boxes_xyxy
    assert tracked.detections.scores is FOUND.scores


def test_chosen_boxes_keep_their_ids() -> None:
    found = cameras().track(perception(0)).require_detections()
    assert found.rows(np.array([1])).track_ids.tolist() == [2]
    assert found.at_least(0.95).track_ids.tolist() == []
    with pytest.raises(ValueError, match=r"expected track ids \[2\] for 2 scores, got \(1,\)"):
        replace(found, track_ids=np.array([1]))


def test_cameras_do_not_share_tracks() -> None:
    tracked = cameras()
    assert [ids(tracked.track(perception(t, camera))) for t in (0, 100) for camera in ("front", "left")] == [[1, 2]] * 4


def test_a_perception_without_detection_stays_as_it_is() -> None:
    given = perception(0, found=None)
    assert cameras().track(given) is given


def test_tracks_outlast_a_model_with_the_same_classes_only() -> None:
    tracked = cameras()
    tracked.track(perception(0))
    tracked.change_model([replace(info, color_rgb=(1, 2, 3)) for info in CLASSES])
    assert ids(tracked.track(perception(100))) == [1, 2]
    tracked.change_model((*CLASSES, ClassInfo(2, "dog", (0, 255, 0))))
    assert ids(tracked.track(perception(200))) == [3, 4]


def test_a_process_that_takes_over_uses_no_id_again() -> None:
    assert ids(cameras(takeovers=2).track(perception(0))) == [2 * TAKEOVER_IDS + 1, 2 * TAKEOVER_IDS + 2]
