"""Entry points that take any bytes, one for each kind of input that the vehicle does not trust.

Each function may end with the refusals that its part of the package documents. Any other exception is a fault, and so
are a crash, a hang and memory without a limit. `tests/fuzz/fuzz.py` feeds them for as long as you like, guided by
coverage; `tests/fuzz/test_fuzz_targets.py` feeds them sound inputs, damaged ones and those that once found a fault.
"""

from __future__ import annotations

import contextlib
import math
import struct
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tiny_student import CONTRACT

from ros_kd_perception.bags.reader import BagError, BagReader, decode_message
from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.free_space.inverse_lens import InverseLens
from ros_kd_perception.images.message import decode_compressed_image, frame_from_message
from ros_kd_perception.images.serialized_message import read_compressed_image, read_image
from ros_kd_perception.model.contract import ContractError, ModelContract
from ros_kd_perception.model.contract_file import ContractFile
from ros_kd_perception.model.golden import golden_from_text
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.model.signature_bundle import BundleError, SignatureBundle, signed_sha256
from ros_kd_perception.parameters.camera_names import IMAGE
from ros_kd_perception.parameters.file import read_parameter_file
from ros_kd_perception.parameters.rules import ParameterError
from ros_kd_perception.structures import BadFrame

MAX_MESSAGES = 200
"""Messages that are read of one bag; a small file may hold very many."""
FORMATS = (
    "jpeg",
    "png",
    "bgr8; jpeg compressed bgr8",
    "rgb8; png compressed ",
    "bayer_rggb8; jpeg compressed",
    "mono8",
)
LENSES = ("plumb_bob", "rational_polynomial", "equidistant", "", "fisheye")
CAMERA_INFO_LAYOUT = "<3I4I3B25d"
"""Sides and binning, region, then lens, number of coefficients and rectification; then K, P and coefficients."""


def image(data: bytes) -> None:
    """Decode a serialised sensor_msgs/Image."""
    with contextlib.suppress(BadFrame):
        frame = frame_from_message("front", read_image(data))
        assert frame.image_bgr.dtype == np.uint8
        assert frame.image_bgr.shape[2] == 3


def compressed_image(data: bytes) -> None:
    """Decode a serialised sensor_msgs/CompressedImage."""
    with contextlib.suppress(BadFrame):
        frame_from_message("front", read_compressed_image(data))


def picture_file(data: bytes) -> None:
    """Decode a JPEG or PNG; the first byte chooses the format that the message claims."""
    message = SimpleNamespace(format=FORMATS[data[0] % len(FORMATS)] if data else "", data=data[1:])
    with contextlib.suppress(BadFrame):
        assert decode_compressed_image(message).shape[2] == 3


def camera_info(data: bytes) -> None:
    """Make a calibration of a CameraInfo with any numbers, project a few rays with it, and pass the CameraInfo on."""
    size = struct.calcsize(CAMERA_INFO_LAYOUT)
    values = struct.unpack(CAMERA_INFO_LAYOUT, data[:size].ljust(size, b"\0"))
    width, height, binning, x, y, region_width, region_height, lens, coefficients, rectified = values[:10]
    numbers = values[10:]
    message = SimpleNamespace(
        width=width, height=height, distortion_model=LENSES[lens % len(LENSES)],
        k=numbers[:9], p=(*numbers[:3], 0.0, *numbers[3:6], 0.0, *numbers[6:9], 0.0),
        r=numbers[:9], d=numbers[9 : 9 + coefficients % 17], binning_x=binning, binning_y=binning,
        roi=SimpleNamespace(x_offset=x, y_offset=y, width=region_width, height=region_height, do_rectify=False),
    )  # fmt: skip
    with contextlib.suppress(ValueError):
        fields = CameraInfoFields.from_message(message)
        assert min(fields.of_cells(4).image_size) >= 1
    try:
        calibration = Calibration.from_message(message, rectified=bool(rectified & 1))
    except ValueError:
        return
    assert math.isfinite(calibration.focal_x)
    assert math.isfinite(calibration.ray_limit)
    calibration.ray_bounds(calibration.height)
    calibration.project(np.array([[0.0, 0.0], [0.3, 0.1]]))
    InverseLens(calibration).rays(np.array([[0.0, 0.0], [calibration.width - 1.0, calibration.height - 1.0]]))


def mcap_bag(data: bytes) -> None:
    """Read an MCAP file as a replay does."""
    _read_bag(data, "bag.mcap")


def sqlite_bag(data: bytes) -> None:
    """Read an SQLite file as a replay does."""
    _read_bag(data, "bag.db3")


def _read_bag(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        file = Path(folder, name)
        file.write_bytes(data)
        with contextlib.suppress(BagError), BagReader(file) as bag:
            for _, message in islice(bag.frames_and_camera_infos(), MAX_MESSAGES):
                with contextlib.suppress(BadFrame):
                    decoded = decode_message(message)
                    if message.message_type == IMAGE:
                        frame_from_message("front", decoded)


def model_file(data: bytes) -> None:
    """Read a model file with its contract and golden frames, as before ONNX Runtime sees it."""
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        file = Path(folder, "model.onnx")
        file.write_bytes(data)
        with contextlib.suppress(ModelFileError, ContractError):
            ContractFile.read(file).golden_frames()


def contract(data: bytes) -> None:
    """Read the JSON of a contract; what was read must survive being written."""
    with contextlib.suppress(ContractError):
        read = ModelContract.from_json(data.decode("utf-8", "replace"))
        assert ModelContract.from_json(read.to_json()) == read


def golden_frames(data: bytes) -> None:
    """Read the JSON of golden frames."""
    with contextlib.suppress(ContractError):
        golden_from_text(data.decode("utf-8", "replace"), CONTRACT)


def signature(data: bytes) -> None:
    """Read a signature file, and its statement as if its signature fitted."""
    with contextlib.suppress(BundleError):
        bundle = SignatureBundle.from_bytes(data)
        assert SignatureBundle.from_bytes(bundle.to_bytes()) == bundle
        assert len(signed_sha256(bundle.payload)) == 64


def parameter_file(data: bytes) -> None:
    """Read a ROS parameter file."""
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        file = Path(folder, "parameters.yaml")
        file.write_bytes(data)
        with contextlib.suppress(ParameterError):
            read_parameter_file(file)


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        image, compressed_image, picture_file, camera_info, mcap_bag, sqlite_bag, model_file, contract, golden_frames,
        signature, parameter_file,
    )
}  # fmt: skip
