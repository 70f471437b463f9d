"""Camera messages of a broken or hostile publisher: valid messages that are damaged in one to three places.

A `random.Random` decides everything: one with a seed gives the same messages every time, and hypothesis's `randoms()`
gives a search that shrinks what it finds. Fields keep to the range of their types on the wire, because other values
cannot arrive.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable
from random import Random
from types import SimpleNamespace

import cv2
import numpy as np

from ros_kd_perception.images.pixel_formats import PIXEL_FORMATS

T0_S = 1_700_000_000
INT32, UINT32 = (-(1 << 31), (1 << 31) - 1), (0, (1 << 32) - 1)
ODD_NUMBERS = (0, 1, 2, 3, 7, 255, 4096, 8193, 16384, 16385, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
ODD_TEXTS = (
    "",
    "\x00",
    "\n\r\t",
    "bgr8 ",
    "BGR8",
    "rgb9",
    "16UC1",
    "32FC1",
    "8UC",
    "%s%n",
    "../../etc/passwd",
    "\u202e" * 9,
)
FORMATS = (
    "jpeg",
    "png",
    "jpg",
    "bgr8; jpeg compressed bgr8",
    "rgb8; png compressed ",
    "16UC1; compressedDepth png",
    "h264",
)
MAX_SIDE_PX = 24
Spoiler = Callable[[Random, SimpleNamespace], None]


def malformed_image(random: Random, number: int = 0) -> SimpleNamespace:
    """Return the fields of a sensor_msgs/Image. `number` makes its stamp rise, unless the damage changes it."""
    encoding = random.choice(list(PIXEL_FORMATS))
    pixel_format = PIXEL_FORMATS[encoding]
    height, width = random.randint(1, MAX_SIDE_PX // 2) * 2, random.randint(1, MAX_SIDE_PX // 2) * 2
    step = width * pixel_format.bytes_per_pixel + random.choice((0, 0, 3))
    rows = height * 3 // 2 if pixel_format.half_size_chroma else height
    message = SimpleNamespace(
        header=_header(number),
        height=height, width=width, encoding=encoding, is_bigendian=random.randint(0, 1), step=step,
        data=random.randbytes(step * rows),
    )  # fmt: skip
    return _spoil(random, message, (*_HEADER_SPOILERS, *_IMAGE_SPOILERS))


def malformed_compressed_image(random: Random, number: int = 0) -> SimpleNamespace:
    """Return the fields of a sensor_msgs/CompressedImage, like `malformed_image`."""
    content, codec = random.choice(_sound_files())
    message = SimpleNamespace(header=_header(number), format=codec, data=content)
    return _spoil(random, message, (*_HEADER_SPOILERS, *_FILE_SPOILERS))


def _header(number: int) -> SimpleNamespace:
    return SimpleNamespace(stamp=SimpleNamespace(sec=T0_S + number, nanosec=number % 10**9), frame_id="camera_optical")


def _spoil(random: Random, message: SimpleNamespace, spoilers: tuple[Spoiler, ...]) -> SimpleNamespace:
    for _ in range(random.randint(1, 3)):
        random.choice(spoilers)(random, message)
    return message


def _odd_number(random: Random, near: int, limits: tuple[int, int]) -> int:
    number = random.choice((near - 1, near + 1, near * 2, -near, random.choice(ODD_NUMBERS), random.randint(*limits)))
    return min(max(number, limits[0]), limits[1])


def _seconds(random: Random, message: SimpleNamespace) -> None:
    message.header.stamp.sec = _odd_number(random, message.header.stamp.sec, INT32)


def _nanoseconds(random: Random, message: SimpleNamespace) -> None:
    message.header.stamp.nanosec = _odd_number(random, random.choice((10**9, message.header.stamp.nanosec)), UINT32)


def _frame_id(random: Random, message: SimpleNamespace) -> None:
    message.header.frame_id = random.choice((*ODD_TEXTS, "x" * random.choice((255, 256, 257, 100_000))))


def _height(random: Random, message: SimpleNamespace) -> None:
    message.height = _odd_number(random, message.height, UINT32)


def _width(random: Random, message: SimpleNamespace) -> None:
    message.width = _odd_number(random, message.width, UINT32)


def _step(random: Random, message: SimpleNamespace) -> None:
    message.step = _odd_number(random, message.step, UINT32)


def _encoding(random: Random, message: SimpleNamespace) -> None:
    message.encoding = random.choice((*ODD_TEXTS, *PIXEL_FORMATS, "y" * random.choice((40, 100_000))))


def _byte_order(random: Random, message: SimpleNamespace) -> None:
    message.is_bigendian = random.randint(0, 255)


def _format(random: Random, message: SimpleNamespace) -> None:
    message.format = random.choice((*FORMATS, *ODD_TEXTS, "jpeg" * random.choice((1, 20_000))))


def _cut(random: Random, message: SimpleNamespace) -> None:
    message.data = message.data[: random.randint(0, len(message.data))]


def _extend(random: Random, message: SimpleNamespace) -> None:
    message.data += random.randbytes(random.choice((1, 2, 100)))


def _flip(random: Random, message: SimpleNamespace) -> None:
    content = bytearray(message.data)
    for _ in range(random.randint(1, 8) if content else 0):
        content[random.randrange(len(content))] = random.choice((0, 0xFF, random.randint(0, 255)))
    message.data = bytes(content)


def _repeat(random: Random, message: SimpleNamespace) -> None:
    start, end = sorted(random.randint(0, len(message.data)) for _ in range(2))
    times = random.choice((0, 2, 3, 50))  # 0 removes the part
    message.data = message.data[:start] + message.data[start:end] * times + message.data[end:]


def _noise(random: Random, message: SimpleNamespace) -> None:
    message.data = random.randbytes(random.choice((1, 8, 500)))


def _claim(random: Random, message: SimpleNamespace) -> None:
    """Write another size into the header of the file; a PNG also gets the right checksum."""
    content, (height, width) = message.data, (_odd_number(random, 16, UINT32) for _ in range(2))
    frame = content.find(b"\xff\xc0")
    if content.startswith(b"\x89PNG") and len(content) > 33:
        header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        message.data = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    elif frame >= 0:
        message.data = content[: frame + 5] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + content[frame + 9 :]


def _chunk(random: Random, message: SimpleNamespace) -> None:
    """Insert a PNG chunk of any name before the pixels, with a valid checksum: palettes, profiles, animations."""
    if message.data.startswith(b"\x89PNG"):
        name = random.choice((b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"acTL", b"fcTL", b"IHDR", b"IDAT", b"IEND", b"eXIf"))
        body = random.choice((b"", random.randbytes(12), b"name\0\0" + zlib.compress(bytes(1 << 16))))
        chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        message.data = message.data[:33] + chunk + message.data[33:]


_HEADER_SPOILERS: tuple[Spoiler, ...] = (_seconds, _nanoseconds, _frame_id)
_IMAGE_SPOILERS: tuple[Spoiler, ...] = (_height, _width, _step, _encoding, _byte_order, _cut, _extend, _noise)
_FILE_SPOILERS: tuple[Spoiler, ...] = (_format, _cut, _extend, _flip, _flip, _repeat, _noise, _claim, _chunk)


@functools.cache
def _sound_files() -> tuple[tuple[bytes, str], ...]:
    """Return valid files with their formats: every kind of JPEG and PNG that OpenCV writes, and false formats."""
    y, x = np.mgrid[0:20, 0:28]
    picture = np.stack([x * 9, y * 12, 255 - x * 4 - y * 5], axis=2).astype(np.uint8)
    deep = picture.astype(np.uint16) * 257
    jpeg = {
        "baseline": (picture, []), "progressive": (picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        "restarts": (picture, [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]), "grey": (picture[:, :, 0], []),
    }  # fmt: skip
    png = {"bgr": picture, "grey": picture[:, :, 0], "alpha": np.dstack([picture, picture[:, :, 0]]), "deep": deep}
    files = [(cv2.imencode(".jpg", image, options)[1].tobytes(), "jpeg") for image, options in jpeg.values()]
    files += [(cv2.imencode(".png", image)[1].tobytes(), "png") for image in png.values()]
    files += [(cv2.imencode(suffix, picture)[1].tobytes(), "jpeg") for suffix in (".bmp", ".tiff")]
    return tuple(files)
