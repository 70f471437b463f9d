"""Tests the reading of serialised camera messages against rclpy, which must agree on sound and on damaged bytes."""

import contextlib
import gc
import struct
import sys
import types
import weakref
from random import Random
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image

from ros_kd_perception.images.message import frame_from_message
from ros_kd_perception.images.serialized_message import read_compressed_image, read_image, stamp_ns_of
from ros_kd_perception.structures import BadFrame

STORE = get_typestore(Stores.ROS2_KILTED)
PLAIN_CDR = {"<": (1, 7), ">": (0, 6)}  # the second byte of the encapsulation header, by byte order
READERS = {Image: read_image, CompressedImage: read_compressed_image}
UINT32 = st.integers(0, 2**32 - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)  # zero characters included
STAMPS = st.tuples(st.integers(-(2**31), 2**31 - 1), UINT32)


@st.composite
def messages(draw: st.DrawFn) -> Image | CompressedImage:
    message = draw(st.sampled_from([Image, CompressedImage]))()
    message.header.stamp.sec, message.header.stamp.nanosec = draw(STAMPS)
    message.header.frame_id = draw(TEXTS)
    message.data = draw(st.binary(max_size=40))
    if isinstance(message, CompressedImage):
        message.format = draw(TEXTS)
        return message
    message.height, message.width, message.step = draw(UINT32), draw(UINT32), draw(UINT32)
    message.encoding, message.is_bigendian = draw(TEXTS), draw(st.integers(0, 255))
    return message


def fields_of(message: Any) -> dict[str, Any]:
    """Return the values of all fields, with the data as bytes."""
    header = message.header
    names = ("height", "width", "encoding", "is_bigendian", "step") if hasattr(message, "encoding") else ("format",)
    return {
        "stamp": (header.stamp.sec, header.stamp.nanosec),
        "frame_id": header.frame_id,
        "data": bytes(message.data),
        **{name: getattr(message, name) for name in names},
    }


def small_image(**changes: Any) -> Image:
    fields = {"height": 2, "width": 3, "encoding": "mono8", "step": 3, "data": bytes(range(6))} | changes
    message = Image(**fields)
    message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id = 3, 7, "front_optical"
    return message


@given(messages(), st.binary(max_size=5))
@settings(max_examples=300, deadline=None)
def test_fields_equal_those_of_rclpy(message: Image | CompressedImage, padding: bytes) -> None:
    serialized = serialize_message(message)
    read = READERS[type(message)](np.frombuffer(serialized + padding, np.uint8))

    assert fields_of(read) == fields_of(deserialize_message(serialized, type(message)))
    assert stamp_ns_of(serialized) == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@given(messages(), st.sampled_from("<>"), st.integers(0, 1))
@settings(max_examples=200, deadline=None)
def test_both_byte_orders_and_versions_of_plain_cdr_are_read(
    message: Image | CompressedImage, order: str, version: int
) -> None:
    name = f"sensor_msgs/msg/{type(message).__name__}"
    same = STORE.deserialize_cdr(serialize_message(message), name)
    serialized = bytearray(STORE.serialize_cdr(same, name, little_endian=order == "<"))
    serialized[1] = PLAIN_CDR[order][version]

    assert fields_of(READERS[type(message)](memoryview(serialized))) == fields_of(same)


def damaged(random: Random, sound: bytes) -> bytes:
    """Cut a message, or change one to three of its bytes or of its aligned numbers."""
    content = bytearray(sound)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(4, len(content))
        if random.random() < 0.5:
            content[at] = random.choice((0, 1, 0xC3, 0xFF, random.randrange(256)))
        else:
            aligned = min(at // 4 * 4, len(content) - 4)
            struct.pack_into("<I", content, aligned, random.choice((0, 1, 4, len(sound), 2**31, 2**32 - 1)))
    return bytes(content[: random.choice((len(content), random.randint(0, len(content))))])


@given(messages(), st.randoms(use_true_random=False))
@settings(max_examples=600, deadline=None)
def test_damaged_messages_are_refused_where_rclpy_refuses_them(
    message: Image | CompressedImage, random: Random
) -> None:
    serialized = damaged(random, serialize_message(message))
    try:
        expected = deserialize_message(serialized, type(message))
    except Exception:
        with pytest.raises(BadFrame) as caught:
            READERS[type(message)](memoryview(serialized))
        assert (caught.value.reason, "\n" in str(caught.value)) == ("bad_data", False)
    else:
        assert fields_of(READERS[type(message)](memoryview(serialized))) == fields_of(expected)


@given(st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_random_bytes_raise_nothing_but_bad_frame(content: bytes) -> None:
    for read in (read_image, read_compressed_image, stamp_ns_of):
        for serialized in (content, b"\x00\x01\x00\x00" + content):
            with contextlib.suppress(BadFrame):
                read(serialized)


@pytest.mark.parametrize("cut", range(len(serialize_message(small_image()))))
def test_a_message_that_ends_too_early_is_refused(cut: int) -> None:
    with pytest.raises(BadFrame, match="serialised message") as caught:
        read_image(serialize_message(small_image())[:cut])
    assert caught.value.reason == "bad_data"


@pytest.mark.parametrize(
    "representation", [b"\x00\x02", b"\x00\x03", b"\x00\x09", b"\x00\x0b", b"\x01\x01", b"\xff\xff"]
)
def test_other_representations_are_refused(representation: bytes) -> None:
    serialized = representation + serialize_message(small_image())[2:]
    for read in (read_image, read_compressed_image, stamp_ns_of):
        with pytest.raises(BadFrame, match=f"start with 0x{representation.hex()}"):
            read(serialized)


def test_the_data_is_a_view_that_keeps_the_bytes_alive() -> None:
    buffer = np.frombuffer(bytearray(serialize_message(small_image())), np.uint8)
    owner = np.frombuffer(memoryview(buffer), np.uint8)  # does not own its memory, like a lent buffer
    alive = weakref.ref(owner)
    data = read_image(owner).data
    del owner
    gc.collect()

    assert alive() is not None
    buffer[-6:] = 9
    assert (data.dtype, data.tolist()) == (np.uint8, [9] * 6)
    del data
    gc.collect()
    assert alive() is None


def test_frames_equal_those_of_messages() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    raw = small_image(height=24, width=32, encoding="rgb8", step=96, data=picture.tobytes())
    jpeg = CompressedImage(header=raw.header, format="jpeg", data=cv2.imencode(".jpg", picture)[1].tobytes())
    for message, read in ((raw, read_image), (jpeg, read_compressed_image)):
        expected, frame = (frame_from_message("front", m) for m in (message, read(serialize_message(message))))
        assert (
            (frame.stamp_ns, frame.frame_id)
            == (expected.stamp_ns, expected.frame_id)
            == (3 * 10**9 + 7, "front_optical")
        )
        np.testing.assert_array_equal(frame.image_bgr, expected.image_bgr)


def test_cv_bridge_reads_it_like_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    class CvBridge:
        """Reads the fields as cv_bridge does, which comes only with a ROS installation."""

        def imgmsg_to_cv2(self, message: Any, desired_encoding: str) -> Any:
            strides = (message.step, 6, 2)
            samples = np.ndarray((message.height, message.width, 3), "<u2", buffer=message.data, strides=strides)
            assert (message.encoding, message.is_bigendian, desired_encoding) == ("bgr16", 0, "bgr8")
            return (samples >> 8).astype(np.uint8)

    monkeypatch.setitem(sys.modules, "cv_bridge", types.SimpleNamespace(CvBridge=CvBridge))
    samples = np.random.default_rng(0).integers(0, 2**16, (2, 3, 3), dtype=np.uint16)
    message = small_image(encoding="bgr16", step=18, data=samples.tobytes())

    np.testing.assert_array_equal(
        frame_from_message("front", read_image(serialize_message(message))).image_bgr, (samples >> 8).astype(np.uint8)
    )
