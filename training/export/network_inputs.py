"""Network inputs for the checks of an export: rendered golden frames, and real frames of the recipe's validation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ros_kd_perception.model.contract import InputSpec
from ros_kd_perception.model.letterbox import letterbox
from ros_kd_perception.sample_drive import SampleDrive
from ros_kd_perception.structures import UInt8Array
from training.data.image_files import read_image
from training.data.image_listing import list_images
from training.export.input_size import noted_validation

if TYPE_CHECKING:
    from training.checkpoint import CheckpointInfo

# Rendered, because a file must not contain licensed frames. Three kinds, so that they use more parts of the network.
# In clear weather, because sensor noise and rain do not compress, and all frames must fit into 2 MiB.
GOLDEN_VIEWS = ((11, "day", "front", 4.0), (23, "dusk", "left", 9.0), (37, "fog", "right", 2.0))
LARGEST_RENDERED_PX = 1 << 20
PARITY_FRAMES = 16


def validation_images(info: CheckpointInfo) -> Path | None:
    """Return the folder of segmentation validation frames of the checkpoint's recipe, if it is on this machine."""
    validation = noted_validation(info)
    source = validation.segmentation if validation else None
    folder = source.folder / "images" if source else None
    return folder if folder and folder.is_dir() else None


def read_network_inputs(folder: Path, height: int, width: int) -> list[UInt8Array]:
    """Return up to PARITY_FRAMES letterboxed frames, spread evenly over a folder of JPEG and PNG files.

    Raises:
        DataError: There is no image, or one cannot be read.
    """
    paths = list_images(folder)
    chosen = np.unique(np.linspace(0, len(paths) - 1, PARITY_FRAMES).round().astype(int))
    return [_letterboxed(read_image(paths[index]), height, width) for index in chosen]


def render_network_inputs(height: int, width: int) -> list[UInt8Array]:
    """Return rendered frames, letterboxed; the same ones on every call.

    Frames of a large input are rendered at a half, a quarter ... of its size, and their pixels repeated: that takes few
    bytes as PNG.
    """
    repeat = 1
    while height * width > LARGEST_RENDERED_PX * repeat**2:
        repeat *= 2
    rendered = [
        _letterboxed(SampleDrive(seed, weather).render(camera, time_s).image_bgr, height // repeat, width // repeat)
        for seed, weather, camera, time_s in GOLDEN_VIEWS
    ]
    return [np.ascontiguousarray(image.repeat(repeat, axis=0).repeat(repeat, axis=1)) for image in rendered]


def _letterboxed(image_bgr: UInt8Array, height: int, width: int) -> UInt8Array:
    placed = np.empty((height, width, 3), np.uint8)
    letterbox(image_bgr, placed, InputSpec.pad_value)
    return placed
