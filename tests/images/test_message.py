"""Test the decoding of camera messages against a plain per-pixel reference, and the refusal of malformed messages."""

import array
import struct
import sys
import types
import zlib
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ros_kd_perception.images.message import (
    MAX_FRAME_ID_CHARACTERS,
    MAX_PIXELS,
    decode_compressed_image,
    decode_image,
    frame_from_message,
)
from ros_kd_perception.images.pixel_formats import PIXEL_FORMATS
from ros_kd_perception.structures import BadFrame, Frame

# The encodings of each kind, with the order of their channels, colours or samples in memory.
CHANNELS = {"bgr8": "bgr", "8UC3": "bgr", "rgb8": "rgb", "bgra8": "bgra", "8UC4": "bgra", "rgba8": "rgba"}
MOSAICS = {"bayer_rggb8": "rggb", "bayer_bggr8": "bggr", "bayer_gbrg8": "gbrg", "bayer_grbg8": "grbg"}
CHROMA_PAIRS = {"yuv422": "uyvy", "uyvy": "uyvy", "yuv422_yuy2": "yuyv", "yuyv": "yuyv"}
GREY, GREY_16, TWO_PLANES = ("mono8", "8UC1"), ("mono16",), {"nv12": "uv", "nv21": "vu"}
MOSAICS_16 = tuple(encoding.replace("8", "16") for encoding in MOSAICS)


def image(encoding: str, rows: np.ndarray, width: int, *, padding: int = 0, **changes: Any) -> SimpleNamespace:
    """Make an Image message of `[height, bytes]` rows, each followed by padding that must not affect the result."""
    padded = np.full((rows.shape[0], rows.shape[1] + padding), 0xEE, np.uint8)
    padded[:, : rows.shape[1]] = rows
    fields = {
        "height": rows.shape[0], "width": width, "encoding": encoding, "is_bigendian": 0, "step": padded.shape[1],
        "data": padded.reshape(-1),
        "header": SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=7), frame_id="optical"),
    }  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def compressed(data: bytes, declared: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(format=declared, data=np.frombuffer(data, np.uint8))


def reason_of(decode: Any, message: Any) -> str:
    with pytest.raises(BadFrame) as caught:
        decode(message)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Return a BGR picture of slow colour gradients."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return np.stack([255 * x / width, 255 * y / height, 255 - 120 * x / width - 100 * y / height], axis=2).astype(
        np.uint8
    )


def bgr_from_yuv(y: int, u: int, v: int) -> list[float]:
    """Convert by ITU-R BT.601 in limited range; luma below 16 is black."""
    luma, blue, red = 1.164383 * max(0, y - 16), u - 128, v - 128
    bgr = [luma + 2.017232 * blue, luma - 0.391762 * blue - 0.812968 * red, luma + 1.596027 * red]
    return [min(255.0, max(0.0, value)) for value in bgr]


def test_every_encoding_is_compared_with_a_reference() -> None:
    assert {*CHANNELS, *GREY, *GREY_16, *MOSAICS, *MOSAICS_16, *CHROMA_PAIRS, *TWO_PLANES} == set(PIXEL_FORMATS)


def test_every_encoding_is_documented() -> None:
    page = (ROOT / "docs" / "images_and_bags.md").read_text(encoding="utf-8")
    table = page.partition("## Raw images")[2].partition("\nPadded rows")[0]
    missing = [encoding for encoding in PIXEL_FORMATS if f"`{encoding}`" not in table]
    assert not missing, f"add {missing} to the table of raw images in docs/images_and_bags.md"


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", sorted(CHANNELS))
def test_packed_channels_become_bgr(encoding: str, padding: int) -> None:
    order = CHANNELS[encoding]
    pixels = noise(7, 5, len(order))
    decoded = decode_image(image(encoding, pixels.reshape(7, -1), 5, padding=padding))
    np.testing.assert_array_equal(decoded, pixels[:, :, [order.index(channel) for channel in "bgr"]])


@pytest.mark.parametrize("encoding", GREY)
def test_grey_is_the_same_in_every_channel(encoding: str) -> None:
    pixels = noise(6, 9)
    decoded = decode_image(image(encoding, pixels, 9, padding=3))
    np.testing.assert_array_equal(decoded, np.repeat(pixels[:, :, None], 3, axis=2))


@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("encoding", GREY_16)
def test_grey_of_sixteen_bits_keeps_the_high_byte_in_either_byte_order(encoding: str, big: int) -> None:
    values = np.random.default_rng(1).integers(0, 1 << 16, (4, 6)).astype(">u2" if big else "<u2")
    decoded = decode_image(image(encoding, values.view(np.uint8), 6, padding=2, is_bigendian=big))
    np.testing.assert_array_equal(decoded[:, :, 1], values.astype(np.uint16) >> 8)


def mosaic_of(picture: np.ndarray, pattern: str) -> np.ndarray:
    """Return the samples of a sensor with this pattern for a BGR picture, uint8 `[height, width]`."""
    mosaic = np.zeros(picture.shape[:2], np.uint8)
    for index, color in enumerate(pattern):
        row, column = divmod(index, 2)
        mosaic[row::2, column::2] = picture[row::2, column::2, "bgr".index(color)]
    return mosaic


@pytest.mark.parametrize("size", [(32, 48), (31, 47)])
@pytest.mark.parametrize("encoding", sorted(MOSAICS))
def test_bayer_names_are_those_of_ros(encoding: str, size: tuple[int, int]) -> None:
    picture = smooth(*size)
    mosaic = mosaic_of(picture, MOSAICS[encoding])
    decoded = decode_image(image(encoding, mosaic, size[1], padding=1)).astype(int)
    # Slow gradients survive interpolation; with red and blue or the rows swapped they are off by tens.
    assert np.abs(decoded - picture)[2:-2, 2:-2].max() <= 12


@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("encoding", sorted(MOSAICS))
def test_bayer_of_sixteen_bits_keeps_the_high_byte(encoding: str, big: int) -> None:
    values = np.random.default_rng(2).integers(0, 1 << 16, (12, 14)).astype(">u2" if big else "<u2")
    message = image(f"{encoding[:-1]}16", values.view(np.uint8), 14, padding=2, is_bigendian=big)
    high_bytes = (values >> 8).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(message), decode_image(image(encoding, high_bytes, 14)))


@pytest.mark.parametrize("encoding", sorted(CHROMA_PAIRS))
def test_422_shares_chroma_between_two_pixels(encoding: str) -> None:
    order, pairs = CHROMA_PAIRS[encoding], noise(4, 3, 4, seed=2)
    decoded = decode_image(image(encoding, pairs.reshape(4, 12), 6, padding=4)).astype(float)
    first_luma = order.index("y")
    second_luma = order.index("y", first_luma + 1)
    for row in range(4):
        for pair in range(3):
            u, v = (int(pairs[row, pair, order.index(c)]) for c in "uv")
            for column, luma in ((2 * pair, first_luma), (2 * pair + 1, second_luma)):
                np.testing.assert_allclose(
                    decoded[row, column], bgr_from_yuv(int(pairs[row, pair, luma]), u, v), atol=2
                )


@pytest.mark.parametrize("height_counts_chroma", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", sorted(TWO_PLANES))
def test_420_shares_chroma_between_four_pixels(encoding: str, padding: int, height_counts_chroma: bool) -> None:
    rows = noise(9, 8, seed=3)  # six of luma, three of chroma
    height = 9 if height_counts_chroma else 6
    decoded = decode_image(image(encoding, rows, 8, padding=padding, height=height)).astype(float)
    assert decoded.shape == (6, 8, 3)
    for row in range(6):
        for column in range(8):
            chroma = rows[6 + row // 2, column // 2 * 2 : column // 2 * 2 + 2]
            u, v = (int(chroma[TWO_PLANES[encoding].index(c)]) for c in "uv")
            np.testing.assert_allclose(decoded[row, column], bgr_from_yuv(int(rows[row, column]), u, v), atol=2)


@pytest.mark.parametrize("kind", ["numpy", "array", "bytes", "bytearray", "memoryview"])
def test_any_kind_of_data_is_read_and_bgr_is_not_copied(kind: str) -> None:
    pixels = noise(3, 4, 3)
    message = image("bgr8", pixels.reshape(3, 12), 4, padding=4)
    raw = message.data.tobytes()
    data: Any = {
        "numpy": message.data, "array": array.array("B", raw), "bytes": raw, "bytearray": bytearray(raw),
        "memoryview": memoryview(raw),
    }[kind]  # fmt: skip
    message.data = data
    decoded = decode_image(message)
    np.testing.assert_array_equal(decoded, pixels)
    assert np.shares_memory(decoded, np.frombuffer(data, np.uint8))
    shrunk = cv2.resize(decoded, (2, 2), interpolation=cv2.INTER_AREA)  # later code accepts padded rows
    np.testing.assert_array_equal(shrunk, cv2.resize(pixels, (2, 2), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"height": 0}, "bad_size"),
        ({"width": 0}, "bad_size"),
        ({"width": 1 << 31}, "too_large"),
        ({"height": 16385}, "too_large"),
        ({"height": 16384, "width": 16384, "step": 3 * 16384}, "too_large"),
        ({"step": 0}, "bad_step"),
        ({"step": 11}, "bad_step"),
        ({"step": (1 << 32) - 1}, "bad_data"),
        ({"height": 4}, "bad_data"),
        ({"data": b""}, "bad_data"),
        ({"data": bytes(35)}, "bad_data"),
        ({"data": bytes(37)}, "bad_data"),
        ({"data": None}, "bad_data"),
        ({"encoding": "rgba8"}, "bad_step"),
        ({"encoding": "mono16"}, None),
        ({"encoding": "nv12", "width": 11}, "bad_size"),
        ({"encoding": "nv12", "width": 12, "height": 5}, "bad_size"),
        ({"encoding": "nv24"}, "unknown_encoding"),
        ({"encoding": "16UC1"}, "unknown_encoding"),
        ({"encoding": ""}, "unknown_encoding"),
        ({"encoding": "x" * 100_000}, "unknown_encoding"),
        ({"encoding": "yuyv", "width": 3}, "bad_size"),
    ],
)
def test_an_inconsistent_message_is_refused_with_its_reason(changes: dict[str, Any], reason: str | None) -> None:
    message = image("bgr8", noise(3, 12), 4)
    vars(message).update(changes)
    if reason is None:
        assert decode_image(message).shape == (3, 4, 3)
    else:
        assert reason_of(decode_image, message) == reason


def test_a_mosaic_too_small_to_interpolate_is_refused() -> None:
    assert reason_of(decode_image, image("bayer_rggb8", noise(2, 8), 8)) == "bad_size"


@settings(max_examples=400, deadline=None)
@given(
    encoding=st.sampled_from([*PIXEL_FORMATS, "bgr16", "rgb8 ", "BGR8", "\x00"]) | st.text(max_size=8),
    height=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    width=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    extra_step=st.integers(-4, 8) | st.integers(0, 2**32 - 1),
    size_off_by=st.sampled_from([0, 0, 0, 1, -1, 12]),
    big=st.integers(0, 255),
)
def test_every_image_message_is_decoded_or_raises_bad_frame(
    encoding: str, height: int, width: int, extra_step: int, size_off_by: int, big: int
) -> None:
    pixel_format = PIXEL_FORMATS.get(encoding)
    step = max(0, width * (pixel_format.bytes_per_pixel if pixel_format else 1) + extra_step)
    rows = height * 3 // 2 if pixel_format and pixel_format.half_size_chroma else height
    size = max(0, min(step * rows, 20_000) + size_off_by)
    message = SimpleNamespace(
        height=height, width=width, encoding=encoding, step=step, is_bigendian=big, data=np.zeros(size, np.uint8)
    )
    try:
        decoded = decode_image(message)
    except BadFrame:
        return
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 3
    assert decoded.shape[1:] == (width, 3)
    assert decoded.shape[0] in (height, height * 2 // 3)


def test_other_encodings_are_decoded_by_cv_bridge_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    # cv_bridge comes only with a ROS installation, so this replaces the one method that we call.
    answer: list[Any] = [np.full((3, 4, 3), 9, np.uint8)]

    class CvBridge:
        def imgmsg_to_cv2(self, message: Any, desired_encoding: str) -> Any:
            assert desired_encoding == "bgr8"
            if isinstance(answer[0], BaseException):
                raise answer[0]
            return answer[0]

    monkeypatch.setitem(sys.modules, "cv_bridge", types.SimpleNamespace(CvBridge=CvBridge))
    message = image("bgr16", noise(3, 24), 4)
    np.testing.assert_array_equal(decode_image(message), answer[0])
    for refused in (
        KeyError("16UC3"),
        SystemExit(1),
        GeneratorExit(),
        np.zeros((3, 4), np.uint8),
        np.zeros((3, 4, 3), np.uint16),
        None,
    ):
        answer[0] = refused
        assert reason_of(decode_image, message) == "unknown_encoding"


def test_cv_bridge_is_not_asked_about_known_encodings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    for encoding, pixel_format in PIXEL_FORMATS.items():
        rows = noise(6 * 3 // 2 if pixel_format.half_size_chroma else 6, 8 * pixel_format.bytes_per_pixel)
        assert decode_image(image(encoding, rows, 8, height=6)).shape == (6, 8, 3)


# --- compressed ---


def jpeg_of(picture: np.ndarray, *parameters: int) -> bytes:
    return bytes(cv2.imencode(".jpg", picture, parameters)[1].tobytes())


def png_of(picture: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1].tobytes())


def refuse_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the test fail if anything is decoded from now on."""
    for module, function in ((simplejpeg, "decode_jpeg"), (cv2, "imdecode")):
        monkeypatch.setattr(module, function, lambda *_, **__: pytest.fail("decoded"))


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_png_size(data: bytes, width: int, height: int) -> bytes:
    header = struct.pack(">II", width, height) + data[24:29]
    return data[:8] + png_chunk(b"IHDR", header) + data[33:]


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


@pytest.mark.parametrize("declared", ["jpeg", "jpg", "bgr8; jpeg compressed bgr8", "rgb8; jpeg compressed bgr8"])
@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg(declared: str, progressive: int) -> None:
    picture = smooth(40, 56)
    data = jpeg_of(picture, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_QUALITY, 95)
    decoded = decode_compressed_image(compressed(data, declared))
    assert np.abs(decoded.astype(int) - picture).max() <= 10


@pytest.mark.parametrize("kind", ["bgr", "grey", "alpha", "deep", "deep grey"])
def test_png_of_any_kind_becomes_eight_bit_bgr(kind: str) -> None:
    picture = noise(13, 17, 3)
    grey = np.repeat(picture[:, :, :1], 3, axis=2)
    source, expected = {
        "bgr": (picture, picture),
        "grey": (picture[:, :, 0], grey),
        "alpha": (np.dstack([picture, noise(13, 17, seed=5)]), picture),
        "deep": (picture.astype(np.uint16) * 257, picture),
        "deep grey": (picture[:, :, 0].astype(np.uint16) * 257, grey),
    }[kind]
    decoded = decode_compressed_image(compressed(png_of(source), "rgb8; png compressed "))
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(
    "declared", ["{}; {} compressed ", "{};{}", "  {} ;  {}   compressed {}", "{}; {} compressed {}"]
)
@pytest.mark.parametrize("encoding", sorted(MOSAICS))
def test_a_mosaic_in_a_file_is_interpolated_like_a_raw_one(encoding: str, declared: str) -> None:
    mosaic = mosaic_of(smooth(64, 80), MOSAICS[encoding])
    raw = decode_image(image(encoding, mosaic, 80)).astype(int)
    for shout in (str, str.upper):
        png = compressed(png_of(mosaic), shout(declared.format(encoding, "png", encoding)))
        np.testing.assert_array_equal(decode_compressed_image(png), raw)
        data = jpeg_of(mosaic, cv2.IMWRITE_JPEG_QUALITY, 100)
        from_jpeg = decode_compressed_image(compressed(data, shout(declared.format(encoding, "jpeg", encoding))))
        assert np.abs(from_jpeg - raw).max() <= 4


@pytest.mark.parametrize("encoding", sorted(MOSAICS))
def test_a_mosaic_of_sixteen_bits_in_a_png_is_interpolated_like_a_raw_one(encoding: str) -> None:
    values = np.random.default_rng(3).integers(0, 1 << 16, (24, 32)).astype(np.uint16)
    deep = f"{encoding[:-1]}16"
    np.testing.assert_array_equal(
        decode_compressed_image(compressed(png_of(values), f"{deep}; png compressed ")),
        decode_image(image(deep, values.astype("<u2").view(np.uint8), 32)),
    )


@pytest.mark.parametrize(
    "declared",
    [
        "bayer_rggb8; jpeg compressed bgr8",  # the sender has interpolated it
        "bayer_rggb8; jpeg compressed ",  # not a mosaic, because the file has colour
        "bayer_rggb16; jpeg compressed bgr8",
        "yuv422; jpeg compressed bgr8",
        "yuv422_yuy2; jpeg compressed ",
        "nv12; jpeg compressed bgr8",
        "RGB8; JPEG compressed BGR8",
        "rgb16; jpeg compressed bgr8",
        "JPEG",
        "image/jpeg",
    ],
)
def test_colour_in_a_file_is_not_interpolated(declared: str) -> None:
    data = jpeg_of(smooth(40, 56))
    np.testing.assert_array_equal(
        decode_compressed_image(compressed(data, declared)), decode_compressed_image(compressed(data))
    )


@pytest.mark.parametrize(
    "declared", ["png", "mono8; png compressed ", "mono16; png compressed ", "bayer_rggb8; png compressed mono8"]
)
def test_grey_that_is_not_a_mosaic_stays_grey(declared: str) -> None:
    grey = noise(40, 56)
    pixels = grey.astype(np.uint16) * 257 if "16" in declared else grey
    decoded = decode_compressed_image(compressed(png_of(pixels), declared))
    np.testing.assert_array_equal(decoded, np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("alpha", [False, True])
def test_colour_in_a_png_that_is_called_a_mosaic_is_not_interpolated(alpha: bool) -> None:
    picture = noise(13, 17, 3)
    content = png_of(np.dstack([picture, noise(13, 17, seed=5)]) if alpha else picture)
    decoded = decode_compressed_image(compressed(content, "bayer_rggb8; png compressed "))
    np.testing.assert_array_equal(decoded, picture)


def test_a_mosaic_too_small_to_interpolate_is_refused_in_a_file_too() -> None:
    message = compressed(png_of(noise(2, 8)), "bayer_rggb8; png compressed ")
    assert reason_of(decode_compressed_image, message) == "bad_size"


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "16SC1", "64FC1"])
def test_depth_is_refused_in_a_file_like_in_a_raw_image(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_decode(monkeypatch)
    depth = png_of(np.full((24, 40), 1500, np.uint16))
    with pytest.raises(BadFrame) as raw:
        decode_image(image(encoding, noise(3, 64), 4))
    for declared in (
        "{}; png compressed ",
        "{}; compressedDepth png",
        "{};compressedDepth rvl",
        "{}; jpeg compressed {}",
    ):
        with pytest.raises(BadFrame) as packed:
            decode_compressed_image(compressed(depth, declared.format(encoding, encoding)))
        assert (packed.value.reason, str(packed.value)) == ("unknown_encoding", str(raw.value))


def test_exif_orientation_is_not_applied() -> None:
    picture = smooth(24, 40)
    tiff = b"II*\x00" + struct.pack("<I", 8) + struct.pack("<HHHIHH", 1, 0x0112, 3, 1, 6, 0) + struct.pack("<I", 0)
    exif = b"Exif\x00\x00" + tiff
    data = jpeg_of(picture)
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (40, 24, 3)  # the tag is valid
    np.testing.assert_array_equal(
        decode_compressed_image(compressed(turned)), decode_compressed_image(compressed(data))
    )


def test_the_end_of_an_exif_thumbnail_is_not_the_end_of_the_picture() -> None:
    data, thumbnail = jpeg_of(smooth(24, 40)), jpeg_of(smooth(8, 8))
    app1 = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert decode_compressed_image(compressed(data[:2] + app1 + data[2:])).shape == (24, 40, 3)
    assert reason_of(decode_compressed_image, compressed(data[:2] + app1 + data[2:-40])) == "bad_data"


@pytest.mark.parametrize("claim", [(60000, 60000), (16385, 1), (8192, 8193)])
def test_a_huge_declared_size_is_refused_before_decoding(
    claim: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_decode(monkeypatch)
    assert claim[0] * claim[1] > MAX_PIXELS or max(claim) > 16384
    picture = smooth(24, 40)
    png, jpeg = png_of(picture), jpeg_of(picture)
    assert reason_of(decode_compressed_image, compressed(with_png_size(png, *claim), "png")) == "too_large"
    assert reason_of(decode_compressed_image, compressed(with_jpeg_size(jpeg, *claim))) == "too_large"
    # A wrong checksum, or nothing after the header, does not change the reason: too large.
    header_only = png[:16] + struct.pack(">II", *claim)
    assert reason_of(decode_compressed_image, compressed(header_only, "png")) == "too_large"


def test_a_size_of_zero_is_refused() -> None:
    assert reason_of(decode_compressed_image, compressed(with_jpeg_size(jpeg_of(smooth(24, 40)), 40, 0))) == "bad_size"


@pytest.mark.parametrize("declared", ["jpeg", "png"])
def test_a_file_cut_off_anywhere_is_bad_data(declared: str) -> None:
    data = (jpeg_of if declared == "jpeg" else png_of)(smooth(24, 40))
    for length in [*range(40), *range(40, len(data) - 2, 7), len(data) - 2, len(data) - 1]:
        assert reason_of(decode_compressed_image, compressed(data[:length], declared)) == "bad_data", length


def test_damage_inside_a_jpeg_is_found_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(jpeg_of(smooth(120, 160) // 2 + noise(120, 160, 3) // 4))
    del data[len(data) // 2 : len(data) // 2 + 200]
    assert reason_of(decode_compressed_image, compressed(bytes(data))) == "bad_data"
    assert "Corrupt JPEG" not in capfd.readouterr().err


def test_damage_inside_a_png_is_found() -> None:
    data = bytearray(png_of(smooth(24, 40)))
    data[len(data) // 2] ^= 1
    assert reason_of(decode_compressed_image, compressed(bytes(data), "png")) == "bad_data"


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("png", "bad_data"),
        ("16UC1; compressedDepth png", "unknown_encoding"),
        ("", "unknown_encoding"),
        ("h264", "unknown_encoding"),
        ("x" * 100_000, "unknown_encoding"),
    ],
)
def test_a_wrong_or_unsupported_format_is_refused(declared: str, reason: str) -> None:
    assert reason_of(decode_compressed_image, compressed(jpeg_of(smooth(24, 40)), declared)) == reason


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = jpeg_of(smooth(24, 40), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    scan = data.rindex(b"\xff\xda")
    assert reason_of(decode_compressed_image, compressed(data[:-2] + data[scan:-2] * 100 + data[-2:])) == "bad_data"


def test_many_scans_of_many_pixels_are_refused_before_they_take_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jpeg_of(smooth(24, 40), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert data.count(b"\xff\xda") > 4
    frame = data.index(b"\xff\xc2")
    huge = data[: frame + 5] + struct.pack(">HH", 8192, 8192) + data[frame + 9 :]
    assert decode_compressed_image(compressed(data)).shape == (24, 40, 3)
    refuse_to_decode(monkeypatch)
    assert reason_of(decode_compressed_image, compressed(huge)) == "too_large"


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_every_compressed_message_is_decoded_or_raises_bad_frame(data: st.DataObject) -> None:
    declared = data.draw(st.sampled_from(["jpeg", "png"]))
    content = bytearray((jpeg_of if declared == "jpeg" else png_of)(smooth(24, 40)))
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)
    ):
        content[position] = value
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    try:
        decoded = decode_compressed_image(compressed(bytes(content), declared))
    except BadFrame:
        return
    assert decoded.dtype == np.uint8
    assert decoded.shape[2] == 3
    assert decoded.size <= 3 * MAX_PIXELS


def test_a_frame_has_the_header_of_its_message() -> None:
    frame = frame_from_message("front", image("bgr8", noise(3, 12), 4))
    assert isinstance(frame, Frame)
    assert (frame.camera, frame.stamp_ns, frame.frame_id) == ("front", 3_000_000_007, "optical")
    message = compressed(jpeg_of(smooth(24, 40)))
    message.header = SimpleNamespace(stamp=SimpleNamespace(sec=-1, nanosec=5), frame_id="")
    assert frame_from_message("front", message).stamp_ns == -999_999_995


@pytest.mark.parametrize("nanoseconds", [10**9, 2**32 - 1])
@pytest.mark.parametrize("seconds", [3, 2**31 - 1])
def test_an_invalid_stamp_is_refused(seconds: int, nanoseconds: int) -> None:
    # A corrected stamp would differ from the received one. Near the largest second it would not fit into a message.
    message = image("bgr8", noise(3, 12), 4)
    message.header.stamp = SimpleNamespace(sec=seconds, nanosec=nanoseconds)
    assert reason_of(lambda m: frame_from_message("front", m), message) == "bad_data"


def test_a_frame_id_of_any_length_is_not_copied_into_every_box() -> None:
    message = image("bgr8", noise(3, 12), 4)
    message.header.frame_id = "x" * MAX_FRAME_ID_CHARACTERS
    assert frame_from_message("front", message).frame_id == message.header.frame_id
    message.header.frame_id += "x"
    assert reason_of(lambda m: frame_from_message("front", m), message) == "bad_data"


def test_a_png_with_wrongly_filtered_rows_is_refused() -> None:
    data = png_of(smooth(24, 40))
    broken = png_chunk(b"IDAT", zlib.compress(b"\x09" * 24 * 121))  # no row filter has this number
    spoiled = data[:33] + broken + png_chunk(b"IEND", b"")
    assert reason_of(decode_compressed_image, compressed(spoiled, "png")) == "bad_data"
