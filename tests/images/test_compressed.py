"""Test the JPEG and PNG decoders: pixels equal to OpenCV's, many threads, and harmless errors that drop no frame."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ros_kd_perception.images.compressed import check_whole, decode_file
from ros_kd_perception.images.jpeg_decoder import decode_jpeg
from ros_kd_perception.images.jpeg_header import with_tidy_header
from ros_kd_perception.structures import BadFrame

TIMEOUT_S = 60.0
SAMPLINGS = {name: getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}") for name in ("411", "420", "422", "440", "444")}
FORMS = {
    "baseline": (),
    "optimized": (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    return cv2.GaussianBlur(noise(height, width, 3, seed=seed), (5, 5), 0)


def jpeg(seed: int, *parameters: int) -> bytes:
    return bytes(cv2.imencode(".jpg", picture(seed), parameters)[1].tobytes())


def without_middle(content: bytes) -> bytes:
    return content[: len(content) // 2] + content[len(content) // 2 + 200 :]


def by_pillow(image: np.ndarray, codec: str, mode: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, codec, **options)
    return file.getvalue()


def by_opencv(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


def decoded(content: bytes) -> np.ndarray:
    check_whole(content)
    return decode_file(content)


def refusal(content: bytes) -> str | None:
    try:
        decoded(content)
    except BadFrame as error:
        return f"{error.reason}: {error}"
    return None


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (33, 17), (120, 161)])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_jpegs_decode_to_the_pixels_of_opencv(sampling: str, form: str, size: tuple[int, int]) -> None:
    for quality in (40, 90, 100):
        parameters = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling], cv2.IMWRITE_JPEG_QUALITY, quality)
        content = bytes(cv2.imencode(".jpg", noise(*size, 3), [*parameters, *FORMS[form]])[1])
        np.testing.assert_array_equal(decoded(content), by_opencv(content))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
def test_jpegs_of_every_colour_space_decode_to_the_pixels_of_opencv(mode: str, progressive: bool) -> None:
    options = {"keep_rgb": True} if mode == "RGB" else {}
    content = by_pillow(picture(0), "JPEG", mode, progressive=progressive, **options)
    np.testing.assert_array_equal(decoded(content), by_opencv(content))


def interlaced_png(image: np.ndarray) -> bytes:
    """Encode an RGB picture in the seven passes of Adam7, without row filters."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in image[y::dy, x::dx])
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(content: bytes, name: bytes, body: bytes) -> bytes:
    """Insert a chunk after the header."""
    return content[:33] + chunk(name, body) + content[33:]


def png_of(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", image)[1].tobytes())


def deep(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 1 << 16, shape).astype(np.uint16)


@pytest.mark.parametrize(
    "content",
    [
        *(pytest.param(png_of(noise(37, 53, *depth)), id=f"8 bit {depth}") for depth in ((), (3,), (4,))),
        *(pytest.param(png_of(deep(37, 53, *depth)), id=f"16 bit {depth}") for depth in ((), (3,), (4,))),
        *(pytest.param(by_pillow(noise(37, 53, 3), "PNG", mode), id=mode) for mode in ("1", "LA", "P")),
        pytest.param(by_pillow(noise(37, 53, 3), "PNG", "P", bits=2), id="palette of 2 bits"),
        pytest.param(by_pillow(noise(37, 53, 3), "PNG", "P", transparency=bytes(range(200))), id="clear palette"),
        pytest.param(interlaced_png(noise(37, 53, 3)), id="interlaced"),
    ],
)
def test_pngs_decode_to_the_pixels_of_opencv(content: bytes) -> None:
    np.testing.assert_array_equal(decoded(content), by_opencv(content))


def test_an_interlaced_png_decodes_to_its_picture() -> None:
    image = noise(37, 53, 3)
    np.testing.assert_array_equal(decoded(interlaced_png(image)), image[:, :, ::-1])


@pytest.mark.parametrize(
    ("name", "body"),
    [
        (b"iCCP", b""),
        (b"gAMA", b"\0"),
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 22))),
        (b"acTL", bytes(3)),
        (b"eXIf", b"MM"),
        (b"tRNS", bytes(1)),
    ],
)
def test_errors_in_metadata_of_a_png_drop_no_frame_and_print_nothing(
    name: bytes, body: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    np.testing.assert_array_equal(decoded(with_chunk(png_of(picture(1)), name, body)), picture(1))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", [b"gAMA", b"pHYs"])
def test_metadata_of_a_png_changes_no_pixel(name: bytes) -> None:
    body = {b"gAMA": struct.pack(">I", 220_000), b"pHYs": struct.pack(">IIB", 1, 9, 1)}[name]
    content = with_chunk(png_of(picture(1)), name, body)
    np.testing.assert_array_equal(decoded(content), by_opencv(content))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        (b"ABCD", b"1"),
        (b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)),
        (b"IHDR", b""),
        (b"IDAT", b"no deflated data"),
        (b"IDAT", zlib.compress(bytes(30 * (1 + 3 * 80)))),  # only half of the rows
    ],
)
def test_chunks_that_change_the_picture_of_a_png_are_refused(name: bytes, body: bytes) -> None:
    assert str(refusal(with_chunk(png_of(picture(1)), name, body))).startswith("bad_data: expected a PNG that decodes")


def jpeg_of_many_segments(before: bytes) -> bytes:
    content, empty = jpeg(0), b"\xff\xfe\x00\x02"
    place = content.index(before)
    return content[:place] + empty * 400_000 + content[place:]


@pytest.mark.parametrize(
    "content",
    [
        jpeg_of_many_segments(b"\xff\xdb"),
        jpeg_of_many_segments(b"\xff\xda").replace(b"\xff\xfe", b"\xff\x00\xfe", 1),
        (plain_png := png_of(noise(4, 4)))[:33] + chunk(b"tEXt", b"") * 400_000 + plain_png[33:],
    ],
    ids=["before the frame header of a JPEG", "before the scan of a JPEG", "chunks of a PNG"],
)
def test_millions_of_small_parts_do_not_hold_the_interpreter(content: bytes) -> None:
    started = time.thread_time()
    assert (refusal(content) or "").startswith("bad_data")
    assert time.thread_time() - started < 1


def test_four_threads_decode_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [jpeg(seed) for seed in range(4)]
    expected = [decoded(content) for content in contents]
    barrier, decode = threading.Barrier(4, timeout=TIMEOUT_S), simplejpeg.decode_jpeg

    def meet(*arguments: Any, **options: Any) -> Any:
        barrier.wait()
        try:
            return decode(*arguments, **options)
        finally:
            barrier.wait()

    monkeypatch.setattr(simplejpeg, "decode_jpeg", meet)
    with ThreadPoolExecutor(4) as pool:
        for image, result in zip(expected, pool.map(decoded, contents), strict=True):
            np.testing.assert_array_equal(image, result)


@pytest.mark.parametrize("codec", [".jpg", ".png"])
def test_other_threads_run_while_a_picture_is_decoded(codec: str) -> None:
    """The switch interval is so long that a thread keeps the interpreter until it releases it itself."""
    content = bytes(cv2.imencode(codec, picture(0, 1500, 2000))[1].tobytes())
    begun, done, interval_s = threading.Event(), threading.Event(), sys.getswitchinterval()

    def decode() -> None:
        begun.set()
        for _ in range(5):
            decoded(content)
        done.set()

    sys.setswitchinterval(TIMEOUT_S)
    try:
        thread = threading.Thread(target=decode)
        thread.start()
        assert begun.wait(TIMEOUT_S)
        assert not done.is_set()
        thread.join(TIMEOUT_S)
    finally:
        sys.setswitchinterval(interval_s)
    assert done.is_set()


def test_damage_is_reported_for_its_own_frame_while_other_threads_decode(capfd: pytest.CaptureFixture[str]) -> None:
    contents = [jpeg(0), jpeg(1), without_middle(jpeg(9)), jpeg(2), png_of(picture(3))] * 60
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(refusal, contents))
    assert [outcome is not None for outcome in outcomes] == [False, False, True, False, False] * 60
    assert "expected an undamaged JPEG, the decoder reports: Corrupt JPEG data" in str(outcomes[2])
    assert capfd.readouterr().err == ""


def untidy_jfif(content: bytes) -> bytes:
    version = content.index(b"JFIF\0") + 5
    return content[:version] + b"\x02" + content[version + 1 :]


def untidy_adobe(content: bytes) -> bytes:
    end_of_jfif = 4 + int.from_bytes(content[4:6], "big")
    return content[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x07" + content[end_of_jfif:]


def untidy_spectrum(content: bytes) -> bytes:
    scan = content.index(b"\xff\xda")
    spectrum = scan + 2 + int.from_bytes(content[scan + 2 : scan + 4], "big") - 3
    return content[:spectrum] + b"\x00\x00\x00" + content[spectrum + 3 :]


def untidy_gap(content: bytes) -> bytes:
    table = content.index(b"\xff\xdb")
    return content[:table] + bytes(range(1, 200)) + content[table:]


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("untidy", [untidy_jfif, untidy_adobe, untidy_spectrum, untidy_gap])
def test_an_invalid_header_drops_no_frame_and_hides_no_damage(untidy: Any, grey: bool) -> None:
    content = bytes(cv2.imencode(".jpg", picture(5)[:, :, 1] if grey else picture(5))[1].tobytes())
    changed = untidy(content)
    assert (decode_jpeg(changed)[1] == "") == (grey and untidy is untidy_adobe)
    np.testing.assert_array_equal(decoded(changed), decoded(content))
    assert refusal(without_middle(changed)) is not None


def test_an_unknown_adobe_transform_is_read_as_the_usual_one_for_cmyk() -> None:
    content = by_pillow(picture(6), "JPEG", "CMYK")
    transform = content.index(b"Adobe") + 11
    changed = content[:transform] + b"\x09" + content[transform + 1 :]
    np.testing.assert_array_equal(decoded(changed), decoded(content[:transform] + b"\x02" + content[transform + 1 :]))


def test_unusual_sampling_factors_are_refused() -> None:
    content = jpeg(7, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    luma = content.index(b"\xff\xc0") + 11
    assert content[luma : luma + 7 : 3] == b"\x11\x11\x11"
    assert "subsampling" in str(refusal(content[:luma] + b"\x31" + content[luma + 1 :]))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_tidying_a_header_twice_changes_nothing_more(data: st.DataObject) -> None:
    content = bytearray(untidy_gap(untidy_jfif(jpeg(8))))
    for position, value in data.draw(st.lists(st.tuples(st.integers(2, 900), st.integers(0, 255)), max_size=6)):
        content[position] = value
    with suppress(BadFrame):
        tidy = with_tidy_header(bytes(content[: data.draw(st.integers(2, len(content)) | st.just(len(content)))]))
        assert with_tidy_header(tidy) == tidy


WITHOUT_SIMPLEJPEG = """
import sys, warnings
sys.modules["simplejpeg"] = None
import cv2, numpy as np
from ros_kd_perception.images.compressed import check_whole, decode_file
from ros_kd_perception.structures import BadFrame
content = open(sys.argv[1], "rb").read()
for _ in range(2):
    check_whole(content)
    image = decode_file(content)
assert (image == cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)).all()
try:
    check_whole(content[: len(content) // 2])
except BadFrame as error:
    print(error)
"""


def test_without_simplejpeg_opencv_decodes_and_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "frame.jpg").write_bytes(jpeg(3))
    command = [sys.executable, "-c", WITHOUT_SIMPLEJPEG, str(tmp_path / "frame.jpg")]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert "expected a JPEG with an end marker" in outcome.stdout
    assert outcome.stderr.count("expected the Python package simplejpeg, found none") == 1
    assert "python -m pip install simplejpeg" in outcome.stderr
