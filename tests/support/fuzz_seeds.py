"""Sound inputs for the entry points of `fuzz_targets`, small enough to be changed quickly."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from random import Random

import cv2
from fuzz_targets import CAMERA_INFO_LAYOUT, FORMATS
from malformed_messages import _sound_files
from rosbags.rosbag2 import StoragePlugin, Writer
from small_bag import START_NS, camera_info, compressed_message, image_message, moving_picture, write_small_bag
from tiny_student import CONTRACT, write_tiny_student

from ros_kd_perception.bags.reader import typestore
from ros_kd_perception.model.golden import GOLDEN_KEY
from ros_kd_perception.model.onnx_file import read_model_file
from ros_kd_perception.model.signature_bundle import SignatureBundle, statement_of

SIZE = (8, 12)
PARAMETERS = """/**:
  ros__parameters:
    cameras: [front, left]
    front.region_of_interest: [0, 4, 12, 4]
/car1/perception:
  ros__parameters: {max_age_ms: 100, front: {turn_weight: 2}}
"""


def seeds_of(target: str) -> list[bytes]:
    """Return sound inputs of an entry point, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        return _SEEDS[target](Path(folder))


def _images(folder: Path) -> list[bytes]:
    seeds = []
    for encoding, channels in (("bgr8", 3), ("mono8", 1), ("bayer_rggb8", 1), ("nv12", 1), ("rgb16", 6), ("yuv422", 2)):
        message = image_message("front", START_NS, moving_picture(SIZE, 1))
        message.encoding, message.step = encoding, SIZE[1] * channels
        rows = SIZE[0] * 3 // 2 if encoding == "nv12" else SIZE[0]
        message.data = message.data[:1].repeat(rows * SIZE[1] * channels)
        seeds.append(_serialized(message, "Image"))
    return seeds


def _compressed_images(folder: Path) -> list[bytes]:
    return [_serialized(compressed_message("front", START_NS, moving_picture(SIZE, 1)), "CompressedImage")]


def _serialized(message: object, kind: str) -> bytes:
    return bytes(typestore().serialize_cdr(message, f"sensor_msgs/msg/{kind}"))


def _picture_files(folder: Path) -> list[bytes]:
    small = moving_picture(SIZE, 1)
    files = [cv2.imencode(suffix, small)[1].tobytes() for suffix in (".jpg", ".png")]
    files += [content for content, _ in _sound_files()]
    return [bytes([index % len(FORMATS)]) + content for index, content in enumerate(files)]


def _camera_infos(folder: Path) -> list[bytes]:
    lens = (-0.3, 0.1, 0.001, -0.002, 0.01, 0.0, 0.0, 0.0)
    pinhole = (500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0)
    rest = (*lens, *(0.0,) * 8)
    return [
        struct.pack(CAMERA_INFO_LAYOUT, 640, 480, binning, *region, model, count, rectified, *pinhole, *rest)
        for model, count, rectified, binning, region in (
            (0, 5, 0, 0, (0, 0, 0, 0)), (1, 8, 0, 2, (0, 0, 0, 0)), (2, 4, 0, 1, (100, 50, 400, 300)),
            (0, 0, 1, 0, (0, 0, 0, 0)),
        )
    ]  # fmt: skip


def _mcap_bags(folder: Path) -> list[bytes]:
    files = [
        write_small_bag(folder / f"{compressed}.mcap", ("front",), 2, size=SIZE, compressed=compressed)
        for compressed in (False, True)
    ]
    return [file.read_bytes() for file in files]


def _sqlite_bags(folder: Path) -> list[bytes]:
    store = typestore()
    with Writer(folder / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        for topic, kind, message in (
            ("/front/camera_info", "CameraInfo", camera_info("front", SIZE)),
            ("/front/image_raw", "Image", image_message("front", START_NS, moving_picture(SIZE, 1))),
        ):
            connection = writer.add_connection(topic, f"sensor_msgs/msg/{kind}", typestore=store)
            writer.write(connection, START_NS, _serialized(message, kind))
    return [next((folder / "bag").glob("*.db3")).read_bytes()]


def _model_files(folder: Path) -> list[bytes]:
    return [write_tiny_student(folder / "tiny.onnx").read_bytes()]


def _contracts(folder: Path) -> list[bytes]:
    return [CONTRACT.to_json().encode()]


def _golden_frames(folder: Path) -> list[bytes]:
    return [read_model_file(write_tiny_student(folder / "tiny.onnx")).metadata[GOLDEN_KEY].encode()]


def _signatures(folder: Path) -> list[bytes]:
    return [SignatureBundle("ab" * 32, statement_of("tiny.onnx", "cd" * 32), b"0123").to_bytes()]


def _parameter_files(folder: Path) -> list[bytes]:
    return [PARAMETERS.encode()]


_SEEDS = {
    "image": _images,
    "compressed_image": _compressed_images,
    "picture_file": _picture_files,
    "camera_info": _camera_infos,
    "mcap_bag": _mcap_bags,
    "sqlite_bag": _sqlite_bags,
    "model_file": _model_files,
    "contract": _contracts,
    "golden_frames": _golden_frames,
    "signature": _signatures,
    "parameter_file": _parameter_files,
}


def damaged(random: Random, sound: bytes) -> bytes:
    """Change a few bytes or little-endian numbers of a sound input, cut it, or repeat a part of it."""
    content = bytearray(sound)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(content) + 1)
        what = random.randrange(5)
        if what == 0:
            content[at:] = b""
        elif what == 1:
            content[at:at] = content[at : at + random.randint(1, 64)]
        elif what == 2:
            content[at : at + 4] = struct.pack("<I", random.choice((0, 1, 255, len(sound), 2**31, 2**32 - 1)))
        elif what == 3:
            content[at : at + random.randint(1, 16)] = b""
        else:
            content[at : at + 1] = bytes([random.choice((0, 0xFF, 0x22, random.randrange(256)))])
    return bytes(content)
