"""A drive through a sample street: render the picture of a camera at a time, with its exact masks and boxes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import CameraModel, CameraPose, camera_named, default_cameras
from ros_kd_perception.sample_drive.canvas.canvas import Canvas, box_of_id
from ros_kd_perception.sample_drive.classes import BOX_CLASSES, SKY
from ros_kd_perception.sample_drive.frame.scene import ScenePainter
from ros_kd_perception.sample_drive.frame.sensor import Sensor, through_air
from ros_kd_perception.sample_drive.street.build import build_world
from ros_kd_perception.sample_drive.street.weather import WeatherChange
from ros_kd_perception.sample_drive.street.world import FIRST_INSTANCE, World

MIN_VISIBLE_SHARE = 0.2
MIN_BOX_HEIGHT_SHARE = 0.012
MIN_BOX_WIDTH_PX = 3
MAX_DURATION_S = 600


def check_seed(seed: int) -> None:
    """Refuse a seed that the generators of random numbers do not take.

    Raises:
        ValueError: It is negative.
    """
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, got {seed}")


@dataclass(frozen=True)
class RenderedView:
    """A rendered frame and its exact labels.

    Attributes:
        image_bgr: uint8 (h, w, 3).
        class_map: Segmentation class ids, uint8 (h, w); 255 is unlabeled.
        boxes_xyxy: float32 (n, 4), pixels; the right and lower edges are exclusive.
        labels: Detection class ids, int32 (n,).
        instance_ids: int32 (n,); one object has the same id in every camera and at every time.
        identities: The id buffer from which class map and boxes were read, int32 (h, w).
        surface: 1 / depth of what each pixel shows, float32 (h, w), 1/m, see `Canvas.surface`; None unless asked for.
    """

    image_bgr: NDArray[np.uint8]
    class_map: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int32]
    instance_ids: NDArray[np.int32]
    identities: NDArray[np.int32]
    surface: NDArray[np.float32] | None = None


class SampleDrive:
    """A car with cameras that drives through a street. The seed determines the whole street.

    Args:
        seed: Not negative. The same seed, weather and cameras give the same bytes, in any process and order.
        weather: One of WEATHERS.
        duration_s: Duration of the drive that the street must be long enough for.
        cameras: Default: front, left and right at 1280x720.
        changed: Changes the weather that the seed has drawn. Street and objects stay the same.

    Raises:
        ValueError: The weather is unknown, the seed is negative, or the duration is outside 0..600 s.
    """

    def __init__(
        self,
        seed: int,
        weather: str = "day",
        duration_s: float = 20.0,
        cameras: Sequence[CameraModel] | None = None,
        changed: WeatherChange | None = None,
    ) -> None:
        check_seed(seed)
        if not 0.0 < duration_s <= MAX_DURATION_S:
            raise ValueError(f"expected a duration above 0 and up to {MAX_DURATION_S} s, got {duration_s} s")
        self.seed, self.duration_s = seed, duration_s
        self.cameras: tuple[CameraModel, ...] = tuple(default_cameras() if cameras is None else cameras)
        self.world: World = build_world(seed, weather, duration_s, changed)
        self._painter = ScenePainter(self.world, np.random.default_rng([seed, 0x9A1]))
        self._class_of_identity = self.world.class_of_identity()
        self._sensors: dict[str, Sensor] = {}

    def camera_pose(self, camera_name: str, time_s: float) -> CameraPose:
        """Return the optical frame of a camera in the world."""
        return camera_named(self.cameras, camera_name).pose(self.world.car_pose(time_s))

    def render(self, camera_name: str, time_s: float, keeps_surface: bool = False) -> RenderedView:
        """Render the view of a camera at a time from 0 to `duration_s`.

        A box is the extent of an object's visible pixels. It is left out if it is lower than 1.2 % of the image (at
        least 6 px) or narrower than 3 px, or if less than 20 % of the object's pixels inside the image are visible. The
        class map keeps those pixels.

        Args:
            camera_name: Name of the camera.
            time_s: Time in the drive.
            keeps_surface: Whether the view has the depth of each pixel, from which `sample_drive.flow` computes motion.

        Raises:
            KeyError: There is no camera with that name.
            ValueError: The time is outside the drive.
        """
        if not 0.0 <= time_s <= self.duration_s:
            raise ValueError(f"expected a time of 0..{self.duration_s:g} s in this drive, got {time_s:g} s")
        camera = camera_named(self.cameras, camera_name)
        canvas = Canvas(camera, self.camera_pose(camera_name, time_s), keeps_surface)
        nearness = self._painter.paint(canvas, time_s)
        hazy = through_air(canvas.image_bgr, nearness, canvas.ids == SKY + 1, self.world.weather)
        velocity = (self.world.seen_from(time_s + 0.01) - self.world.seen_from(time_s - 0.01)) / 0.02
        frame_rng = np.random.default_rng([self.seed, zlib.crc32(camera_name.encode()), round(time_s * 1e6) + 1])
        image = self._sensor(camera).expose(hazy, canvas.pose, velocity, frame_rng)
        boxes, labels, instances = self._boxes(canvas)
        classes = self._class_of_identity[canvas.ids]
        return RenderedView(image, classes, boxes, labels, instances, canvas.ids, canvas.surface)

    def _sensor(self, camera: CameraModel) -> Sensor:
        if camera.name not in self._sensors:
            rng = np.random.default_rng([self.seed, zlib.crc32(camera.name.encode())])
            self._sensors[camera.name] = Sensor(camera, self.world.weather, rng)
        return self._sensors[camera.name]

    def _boxes(self, canvas: Canvas) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
        boxes, labels, instances = [], [], []
        least_height = max(MIN_BOX_HEIGHT_SHARE * canvas.camera.height_px, 6.0)
        for identity in sorted(canvas.painted_px):
            if identity < FIRST_INSTANCE:
                continue
            found = box_of_id(canvas.ids, identity)
            if found is None:
                continue
            x0, y0, x1, y1, visible_px = found
            if y1 - y0 < least_height or x1 - x0 < MIN_BOX_WIDTH_PX:
                continue
            if visible_px < MIN_VISIBLE_SHARE * canvas.painted_px[identity]:
                continue
            boxes.append((x0, y0, x1, y1))
            labels.append(BOX_CLASSES.index(int(self._class_of_identity[identity])))
            instances.append(identity)
        return (
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int32),
            np.array(instances, np.int32),
        )
