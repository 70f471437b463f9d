"""The data types of the pipeline: a Frame goes in, a Perception comes out.

They are frozen dataclasses that check their values on construction, so later stages need no checks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

DROP_REASONS = (
    "lost",  # lost before the node received it, or replaced by a newer one in the middleware
    "replaced",  # a newer frame of the same camera arrived while this one waited
    "over_rate",  # left out because its camera has a limit on its rate
    "too_old",  # waited longer than the age limit
    "stale",  # its header stamp is older than the age limit on stamps
    "inactive",  # the node was deactivated, or its camera disabled, while it waited
    "unknown_encoding",
    "bad_size",
    "bad_step",
    "bad_data",
    "too_large",
    "zero_stamp",
    "stamp_backwards",
    "stamp_ahead",  # its header stamp is in the future
    "duplicate",  # the previous frame again, with the same stamp
    "failed",  # inference raised an error
    "worker_lost",  # the process that was to take it or to publish its results has ended, or does not answer
)


class BadFrame(ValueError):
    """A camera message cannot be processed. `reason` is one of `DROP_REASONS`, the text is one sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        if reason not in DROP_REASONS:
            raise ValueError(f"expected one of the drop reasons {DROP_REASONS}, got {reason!r}")
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class RegionOfInterest:
    """A rectangle of an image, in pixels. All zeros stand for the whole image.

    Attributes:
        x: Number of columns to the left of it.
        y: Number of rows above it.
        width: Number of its columns.
        height: Number of its rows.
    """

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0

    def __post_init__(self) -> None:
        numbers = [self.x, self.y, self.width, self.height]
        if min(numbers) < 0 or (any(numbers) and not (self.width and self.height)):
            raise ValueError(
                "expected a region of interest [x, y, width, height] inside the image with at least one pixel, or "
                f"[0, 0, 0, 0] for the whole image, got {numbers}"
            )

    @property
    def is_whole_image(self) -> bool:
        """Whether it stands for the whole image."""
        return self.width == 0

    @property
    def rows(self) -> slice:
        """Its rows in the image."""
        return slice(self.y, self.y + self.height)

    @property
    def columns(self) -> slice:
        """Its columns in the image."""
        return slice(self.x, self.x + self.width)

    def within(self, camera: str, image_height: int, image_width: int) -> RegionOfInterest:
        """Return the rectangle in an image of a camera, with an extent.

        Raises:
            BadFrame: `bad_size`: it reaches beyond the image.
        """
        if self.is_whole_image:
            return RegionOfInterest(0, 0, image_width, image_height)
        if self.x + self.width > image_width or self.y + self.height > image_height:
            raise BadFrame(
                "bad_size",
                f"expected images of {camera} that hold its region of interest, columns {self.x} to "
                f"{self.x + self.width} and rows {self.y} to {self.y + self.height}, got {image_width}x{image_height}; "
                f"change {camera}.region_of_interest",
            )
        return self


WHOLE_IMAGE = RegionOfInterest()


@dataclass(frozen=True)
class Frame:
    """One decoded camera image.

    Attributes:
        camera: Name of the camera, as in the topic names.
        stamp_ns: Header stamp of the message in nanoseconds.
        frame_id: Frame id of the message's header, unchanged.
        image_bgr: uint8 `[height, width, 3]`. Rows may be padded (any strides).
    """

    camera: str
    stamp_ns: int
    frame_id: str
    image_bgr: UInt8Array

    def __post_init__(self) -> None:
        image = self.image_bgr
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"expected a non-empty uint8 image [height, width, 3], got {image.dtype} {image.shape}")

    @property
    def height(self) -> int:
        """Height of the image in pixels."""
        return int(self.image_bgr.shape[0])

    @property
    def width(self) -> int:
        """Width of the image in pixels."""
        return int(self.image_bgr.shape[1])

    @classmethod
    def from_image(cls, image_bgr: UInt8Array, camera: str = "camera", stamp_ns: int = 0, frame_id: str = "") -> Frame:
        """Make a frame of a picture that comes from a file instead of a camera.

        Args:
            image_bgr: uint8 `[height, width, 3]`, for example from `cv2.imread`.
            camera: Name of the camera.
            stamp_ns: When the picture was taken, nanoseconds.
            frame_id: Coordinate frame of the camera.

        Raises:
            ValueError: `image_bgr` is not a colour picture, or is the None that `cv2.imread` returns for a file that it
                cannot read.
        """
        if not isinstance(image_bgr, np.ndarray):
            raise ValueError(
                f"expected an image as a NumPy array, got {type(image_bgr).__name__}; cv2.imread returns None where a "
                "file is missing or is not a picture, so check the path"
            )
        return cls(camera, stamp_ns, frame_id, image_bgr)

    def cropped(self, region: RegionOfInterest) -> Frame:
        """Return the part of the frame in a region that lies within it. The pixels are shared."""
        return replace(self, image_bgr=self.image_bgr[region.rows, region.columns])


@dataclass(frozen=True)
class FrameFacts:
    """What is known of a frame whose image is in another process.

    Attributes:
        camera: Name of the camera, as in the topic names.
        stamp_ns: Header stamp of the message in nanoseconds.
        frame_id: Frame id of the message's header, unchanged.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    height: int
    width: int


@dataclass(frozen=True)
class Detections:
    """Boxes of one frame, best score first.

    Attributes:
        boxes_xyxy: float32 `[n, 4]`, left, top, right and bottom in source-image pixels, inside the image.
        scores: float32 `[n]`, 0..1.
        labels: int32 `[n]`, detection class ids of the contract.
        track_ids: int64 `[n]`, which object each box is, the same in every frame; 0 for boxes without a track. None if
            objects are not tracked.
    """

    boxes_xyxy: Float32Array
    scores: Float32Array
    labels: Int32Array
    track_ids: Int64Array | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes_xyxy.shape != (count, 4) or self.labels.shape != (count,):
            raise ValueError(
                f"expected boxes [{count}, 4] and labels [{count}] for {count} scores, "
                f"got boxes {self.boxes_xyxy.shape} and labels {self.labels.shape}"
            )
        if self.track_ids is not None and self.track_ids.shape != (count,):
            raise ValueError(f"expected track ids [{count}] for {count} scores, got {self.track_ids.shape}")

    def __len__(self) -> int:
        return len(self.scores)

    def rows(self, chosen: npt.NDArray[Any]) -> Detections:
        """Return chosen rows: a bool for each row, or their indices."""
        ids = None if self.track_ids is None else self.track_ids[chosen]
        return Detections(self.boxes_xyxy[chosen], self.scores[chosen], self.labels[chosen], ids)

    def at_least(self, score: float) -> Detections:
        """Return the rows with at least this score."""
        return self.rows(self.scores >= score)


@dataclass(frozen=True)
class Timing:
    """The times of the stages of one perception, in milliseconds of the steady clock."""

    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        """Sum of the three stages."""
        return self.preprocess_ms + self.inference_ms + self.postprocess_ms


@dataclass(frozen=True)
class UncertaintyCells:
    """Where the cells of an uncertainty lie in the source image. The first one begins at the corner of the region.

    Attributes:
        region: The part of the image that the network saw, with its extent.
        height_px: Height of a cell in pixels of the source image. The lowest cells may reach beyond the region.
        width_px: Width of a cell in pixels of the source image.
    """

    region: RegionOfInterest
    height_px: float
    width_px: float


@dataclass(frozen=True)
class Perception:
    """The model's results for one frame, in pixels of the source image.

    The results of a task that the model does not do are None, never empty: no boxes would mean that nothing is there.

    Attributes:
        camera: Camera of the frame.
        stamp_ns: Header stamp of the frame in nanoseconds.
        frame_id: Frame id of the frame.
        class_map: uint8 `[height, width]` of the source image, segmentation class ids, 255 = unlabeled, as all pixels
            outside the region of interest are. None without segmentation.
        detections: Boxes at or above the score threshold. None without detection.
        uncertainty: float32 `[rows, columns]`, one cell for each 32x32 block of the network input with a part of the
            image or of its region of interest, from 0 (certain) to 1. None without segmentation.
        timing: Times of the stages.
        uncertainty_cells: Where the cells of the uncertainty lie in the source image. None if it is not known.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    class_map: UInt8Array | None
    detections: Detections | None
    uncertainty: Float32Array | None
    timing: Timing
    uncertainty_cells: UncertaintyCells | None = None

    def __post_init__(self) -> None:
        if self.class_map is not None and (self.class_map.dtype != np.uint8 or self.class_map.ndim != 2):
            raise ValueError(
                f"expected a uint8 class map [height, width], got {self.class_map.dtype} {self.class_map.shape}"
            )

    def cropped(self, region: RegionOfInterest) -> Perception:
        """Return the results for the frame that is cropped to the region in which it was perceived.

        The pixels of the class map are shared.
        """
        class_map, found, cells = self.class_map, self.detections, self.uncertainty_cells
        if class_map is not None:
            class_map = class_map[region.rows, region.columns]
        if cells is not None:
            cells = replace(cells, region=replace(region, x=0, y=0))
        if found is not None:
            origin = np.array([region.x, region.y] * 2, np.float32)
            found = replace(found, boxes_xyxy=found.boxes_xyxy - origin)
        return replace(self, class_map=class_map, detections=found, uncertainty_cells=cells)

    def require_class_map(self) -> UInt8Array:
        """Return the class map.

        Raises:
            ValueError: The model does not do segmentation.
        """
        if self.class_map is None:
            raise ValueError("expected a model that does segmentation, got one without a class map; use another model")
        return self.class_map

    def require_detections(self) -> Detections:
        """Return the boxes.

        Raises:
            ValueError: The model does not do detection.
        """
        if self.detections is None:
            raise ValueError("expected a model that does detection, got one without boxes; use another model")
        return self.detections


@dataclass(frozen=True)
class FrameCounts:
    """Counts of one camera's messages since the mailbox was created.

    Attributes:
        received: Messages that the camera sent: put into the mailbox, or known to be lost before.
        published: Messages whose results were published.
        dropped: Reason -> dropped messages, only for reasons that occurred.
        waiting: Messages in the mailbox, 0 or 1.
        in_progress: Messages that were taken and are neither published nor dropped yet.
        latest_arrival_ns: Steady clock at the latest arrival. 0 before the first.
    """

    received: int
    published: int
    dropped: dict[str, int]
    waiting: int
    in_progress: int
    latest_arrival_ns: int

    def since(self, before: FrameCounts) -> FrameCounts:
        """Return what was received, published and dropped since an earlier snapshot of the same camera."""
        return FrameCounts(
            self.received - before.received,
            self.published - before.published,
            {reason: count - before.dropped.get(reason, 0) for reason, count in self.dropped.items()},
            self.waiting,
            self.in_progress,
            self.latest_arrival_ns,
        )
