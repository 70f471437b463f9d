"""Test filler bytes in the scan of a JPEG: they cost no frame, and damage is refused if the decoder reports it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros_kd_perception.images.jpeg_decoder import decode_jpeg, extra_bytes
from ros_kd_perception.images.jpeg_filler import FEW_EXTRA_BYTES, extraneous_bytes_are_harmless, without_filler
from ros_kd_perception.images.jpeg_scan import UnreadableScan
from ros_kd_perception.images.message import decode_compressed_image
from ros_kd_perception.structures import BadFrame

RESTART, OPTIMIZE, PROGRESSIVE = (
    cv2.IMWRITE_JPEG_RST_INTERVAL,
    cv2.IMWRITE_JPEG_OPTIMIZE,
    cv2.IMWRITE_JPEG_PROGRESSIVE,
)
COMMENT = b"\xff\xfe\x00\x05abc"


def picture(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST) + random.normal(
        0, 4, (height, width, 3)
    )
    return np.clip(fine, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, *parameters: int) -> bytes:
    return bytes(cv2.imencode(".jpg", image, parameters)[1].tobytes())


def decode(content: bytes) -> np.ndarray:
    return decode_compressed_image(SimpleNamespace(format="jpeg", data=np.frombuffer(content, np.uint8)))


def is_refused(content: bytes) -> bool:
    try:
        decode(content)
    except BadFrame as error:
        return error.reason == "bad_data"
    return False


def scan_start(content: bytes) -> int:
    scan = content.rindex(b"\xff\xda")
    return scan + 2 + int.from_bytes(content[scan + 2 : scan + 4], "big")


def with_filler(content: bytes, filler: bytes, where: str) -> bytes:
    """Put bytes before the end marker, before every restart marker, or before one of them."""
    start = scan_start(content)
    parts = re.split(rb"(\xff[\xd0-\xd7])", content[start:-2])
    places = {"end": [len(parts) - 1], "restart": range(0, len(parts) - 1, 2), "one": [len(parts) // 4 * 2]}[where]
    for place in places:
        parts[place] += filler
    return content[:start] + b"".join(parts) + content[-2:]


def harmful_complaint(content: bytes) -> str:
    """Return the complaint of the decoder, or an empty text if it is only about too few extra bytes to count."""
    complaint = decode_jpeg(content)[1]
    return "" if (extra_bytes(complaint) or (FEW_EXTRA_BYTES + 1, 0))[0] <= FEW_EXTRA_BYTES else complaint


@pytest.mark.parametrize("byte", [0x00, 0x55, 0xAA, 0x80])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 9, 16, 608])
@pytest.mark.parametrize(
    ("where", "parameters"),
    [
        ("end", ()),
        ("end", (OPTIMIZE, 1)),
        ("end", (PROGRESSIVE, 1)),
        ("end", (RESTART, 10)),
        ("one", (RESTART, 10)),
        ("restart", (RESTART, 10)),
        ("restart", (RESTART, 2)),
    ],
)
def test_filler_of_a_camera_drops_no_frame(byte: int, count: int, where: str, parameters: tuple[int, ...]) -> None:
    content = jpeg(picture(1), *parameters)
    changed = with_filler(content, bytes([byte]) * count, where)
    np.testing.assert_array_equal(decode(changed), decode(content))


@pytest.mark.parametrize(("side", "interval"), [(2080, 0), (800, 1)])
def test_filler_of_one_value_drops_no_frame_in_a_picture_of_many_parts(side: int, interval: int) -> None:
    """67600 MCUs in one segment, and 10000 segments."""
    unsubsampled = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    content = jpeg(np.full((side, side, 3), 90, np.uint8), *unsubsampled, RESTART, interval)
    changed = with_filler(content, bytes(9), "end")
    with pytest.raises(UnreadableScan):
        extraneous_bytes_are_harmless(changed)
    np.testing.assert_array_equal(decode(changed), decode(content))


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("count", [5, 9, 608])
def test_filler_of_any_bytes_before_every_marker_drops_no_frame(count: int, grey: bool) -> None:
    random = np.random.default_rng(count)
    image = picture(2)[:, :, 1] if grey else picture(2)
    content = jpeg(image, RESTART, 10)
    changed = with_filler(content, random.integers(1, 255, count, dtype=np.uint8).tobytes(), "restart")
    assert harmful_complaint(changed)
    np.testing.assert_array_equal(decode(changed), decode(content))


def test_most_filler_of_any_bytes_in_one_place_drops_no_frame() -> None:
    random, lost = np.random.default_rng(0), 0
    for seed in range(30):
        for where, parameters in (("end", ()), ("one", (RESTART, 10))):
            filler = random.integers(1, 255, random.choice([16, 40, 608]), dtype=np.uint8).tobytes()
            lost += is_refused(with_filler(jpeg(picture(seed), *parameters), filler, where))
    assert lost <= 9  # of 60: random bytes may look like the end of a picture


def test_bytes_before_a_comment_of_an_ip_camera_drop_no_frame() -> None:
    """Cameras of Dahua are reported to send 608 bytes before marker 0xfe, which may be before or after the picture."""
    content, filler = jpeg(picture(3)), np.random.default_rng(3).integers(1, 255, 608, dtype=np.uint8).tobytes()
    behind_jfif = 4 + int.from_bytes(content[4:6], "big")
    for place in (behind_jfif, len(content) - 2):
        changed = content[:place] + filler + COMMENT + content[place:]
        count, marker = extra_bytes(harmful_complaint(changed)) or (0, 0)
        assert (count > 600, marker) == (True, 0xFE)
        np.testing.assert_array_equal(decode(changed), decode(content))


def test_motion_jpeg_without_huffman_tables_uses_those_of_the_standard() -> None:
    content = jpeg(picture(4))
    start = content.index(b"\xff\xc4")
    bare = content[:start] + content[content.index(b"\xff\xda") :]
    assert content[start:].count(b"\xff\xc4") == 4  # DC and AC of luma and chroma, and nothing else was cut out
    changed = with_filler(bare, bytes(608), "end")
    assert harmful_complaint(changed)
    np.testing.assert_array_equal(decode(changed), decode(content))


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Change one bit, or remove up to 200 bytes."""
    start, spoilt = scan_start(content), bytearray(content)
    place = int(random.integers(start, len(content) - 2))
    if random.random() < 0.7:
        spoilt[place] ^= 1 << int(random.integers(8))
    else:
        del spoilt[place : min(place + int(random.integers(1, 200)), len(content) - 2)]
    return bytes(spoilt)


@pytest.mark.parametrize(
    "parameters", [(), (RESTART, 40), (RESTART, 10), (RESTART, 3), (OPTIMIZE, 1), (PROGRESSIVE, 1)]
)
def test_damage_is_refused_whenever_the_decoder_reports_it(parameters: tuple[int, ...]) -> None:
    random = np.random.default_rng(7)
    complained, refused = 0, 0
    for seed in range(200):
        content = damaged(jpeg(picture(seed % 20), *parameters), random)
        complained += bool(harmful_complaint(content))
        refused += is_refused(content)
    assert complained > 50
    assert refused >= complained - 1


def test_damage_in_a_file_with_filler_is_refused() -> None:
    """The decoder reports only the first fault, which is the filler here."""
    content = with_filler(jpeg(picture(5), RESTART, 10), bytes(9), "restart")
    assert not is_refused(content)
    place = len(content) // 2
    assert is_refused(content[:place] + content[place + 150 :])
    one, another = (content.index(bytes([0xFF, 0xD0 + number])) for number in (2, 5))
    exchanged = bytearray(content)
    exchanged[one + 1], exchanged[another + 1] = exchanged[another + 1], exchanged[one + 1]
    assert is_refused(bytes(exchanged))


def decoding_ms(content: bytes) -> float:
    """Return the least CPU time of this thread in milliseconds, so that other processes do not count."""
    times = []
    for _ in range(5):
        started = time.thread_time()
        decode(content)
        times.append(time.thread_time() - started)
    return min(times) * 1e3


@pytest.mark.parametrize(("where", "count"), [("restart", 5), ("end", 9), ("end", 608)])
def test_filler_in_every_frame_is_removed_fast_enough(where: str, count: int) -> None:
    content = jpeg(picture(8, 720, 1280), *((RESTART, 80) if where == "restart" else ()))
    filler = np.random.default_rng(8).integers(1, 255, count, dtype=np.uint8).tobytes()
    changed = with_filler(content, filler, where)
    assert harmful_complaint(changed)
    assert decoding_ms(changed) < 9 * decoding_ms(content)


def comment(content: bytes) -> bytes:
    return b"\xff\xfe" + (len(content) + 2).to_bytes(2, "big") + content


def with_long_runs_in_the_scan() -> bytes:
    content = with_filler(jpeg(picture(5)), bytes(50), "end")
    place = content.index(b"\xff\x00", scan_start(content))
    return content[:place] + b"\xff" * 60_000 + content[place:]  # decoders read one byte of 0xff there


def with_long_runs_beside_the_scan() -> bytes:
    content = jpeg(picture(5), PROGRESSIVE, 1)
    place = content.index(b"\xff\xc4", content.index(b"\xff\xda"))  # behind the first of its scans
    return content[:2] + comment(bytes(65_000)) + content[2:place] + bytes(3000) + content[place:]


def with_many_tables() -> bytes:
    content = with_filler(jpeg(picture(8, 720, 1280), RESTART, 1), bytes(9), "restart")
    table = content[content.index(b"\xff\xdb") + 4 :][:65]
    tables = b"\xff\xdb" + (2 + 1000 * len(table)).to_bytes(2, "big") + table * 1000
    return content[:2] + tables * 30 + content[2:]


@pytest.mark.parametrize("make", [with_long_runs_in_the_scan, with_long_runs_beside_the_scan, with_many_tables])
def test_a_made_up_file_does_not_hold_the_interpreter_for_long(make: Callable[[], bytes]) -> None:
    content = make()
    assert harmful_complaint(content)
    started = time.thread_time()
    is_refused(content)
    assert time.thread_time() - started < 3


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 0xC4, 0xFF]), max_size=40).map(bytes), st.integers(1, 6))
def test_the_first_run_of_one_value_before_a_marker_is_removed(content: bytes, count: int) -> None:
    found = re.search(rb"(.)\1{%d}(?=\xff\xc4)" % (count - 1), content, re.DOTALL)
    expected = None if found is None else content[: found.start()] + content[found.end() :]
    assert without_filler(content, count, 0xC4) == expected


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_file_of_any_bytes_is_judged_without_an_error(data: st.DataObject) -> None:
    content = bytearray(with_filler(jpeg(picture(6, 40, 40), RESTART, 2), bytes(FEW_EXTRA_BYTES + 2), "restart"))
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)
    ):
        content[position] = value
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    with suppress(UnreadableScan):
        assert extraneous_bytes_are_harmless(bytes(content)) in (True, False)
