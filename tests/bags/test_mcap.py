"""Tests MCAP files of every layout: each frame is read once and in order, or the loss is reported."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap_builder import McapBuilder, Message, channel, message, record, schema
from small_bag import START_NS, image_message, moving_picture

from ros_kd_perception.bags import mcap_contents, order
from ros_kd_perception.bags.reader import BagError, BagReader, read_camera_frames, typestore
from ros_kd_perception.structures import Frame

IMAGE = "sensor_msgs/msg/Image"
FRONT, OTHER = 1, 2
DECLARATIONS = (schema(1, IMAGE), channel(FRONT, 1, "/front/image_raw"), channel(OTHER, 1, "/other/depth"))


def frame(time: int, number: int = FRONT) -> Message:
    picture = moving_picture((4, 6), 0)
    data = bytes(typestore().serialize_cdr(image_message("front", START_NS + time, picture), IMAGE))
    return number, START_NS + time, data


def frames(*times: int, number: int = FRONT) -> list[Message]:
    return [frame(time, number) for time in times]


def builder(profile: str = "ros2") -> McapBuilder:
    return McapBuilder(profile, DECLARATIONS).add(*DECLARATIONS)


def read(path: Path) -> list[int]:
    """Return the log times of the front camera's frames in reading order. They equal the header stamps."""
    with BagReader(path, {"front": "/front/image_raw"}) as bag:
        count, found = bag.count(["/front/image_raw"]), list(read_camera_frames(bag))
    for _, stored, image in found:
        assert isinstance(image, Frame)
        assert image.stamp_ns == stored.log_time_ns
    assert count == len(found)
    return [stored.log_time_ns - START_NS for _, stored, _ in found]


def error_of(path: Path) -> str:
    with pytest.raises(BagError) as caught:
        read(path)
    return str(caught.value)


def chunked(**options: bool) -> McapBuilder:
    """Build two chunks of two frames each, mixed with messages of a topic that is not read."""
    out = builder()
    out.chunk(*frames(0, 1), *frames(2, number=OTHER), **options)
    return out.chunk(*frames(3, number=OTHER), *frames(4, 5), **options)


LAYOUTS: dict[str, Callable[[], McapBuilder]] = {
    "chunks": chunked,
    "no message index": lambda: chunked(message_index=False),
    "no chunk index": lambda: chunked(chunk_index=False),
    "message index of one chunk only": lambda: builder().chunk(*frames(0, 1), message_index=False).chunk(*frames(4, 5)),
    "chunk index of one chunk only": lambda: builder().chunk(*frames(0, 1)).chunk(*frames(4, 5), chunk_index=False),
    "no chunks": lambda: builder().loose(*frames(0, 1), *frames(3, number=OTHER), *frames(4, 5)),
    "outside before a chunk": lambda: builder().loose(*frames(0, 1)).chunk(*frames(4, 5)),
    "outside after a chunk": lambda: builder().chunk(*frames(0, 1)).loose(*frames(4, 5)),
    "outside between chunks": lambda: builder().chunk(frame(0)).loose(*frames(1, 4)).chunk(frame(5)),
    "outside, no message index": lambda: builder().chunk(*frames(0, 1), message_index=False).loose(*frames(4, 5)),
    "zstd, lz4, none": lambda: (
        builder().chunk(frame(0), compression="zstd").chunk(frame(1), compression="lz4").chunk(*frames(4, 5))
    ),
    "empty chunks": lambda: builder().chunk().chunk(*frames(0, 1, 4)).chunk().chunk(frame(5)),
    "out of order outside": lambda: builder().loose(*frames(5, 1, 0, 4)),
    "out of order in a chunk": lambda: builder().chunk(*frames(5, 1, 0, 4)),
    "chunks that overlap": lambda: builder().chunk(*frames(0, 5)).chunk(*frames(1, 4)),
    "chunks out of order": lambda: builder().chunk(*frames(4, 5)).chunk(*frames(0, 1)),
    "out of order, mixed": lambda: builder().loose(frame(5)).chunk(*frames(4, 1)).loose(frame(0)),
    "declared again": lambda: (
        builder().chunk(*frames(0, 1), first=DECLARATIONS).add(*DECLARATIONS).chunk(*frames(4, 5), first=DECLARATIONS)
    ),
    "declared in chunks only": lambda: (
        McapBuilder().chunk(*frames(0, 1), first=DECLARATIONS).chunk(*frames(4, 5), first=DECLARATIONS)
    ),
    "other records": lambda: (
        builder()
        .add(record(0x0C, b"metadata"), record(0x09, bytes(100)), record(0x70, b"future"), record(0xF0, b"private"))
        .chunk(*frames(0, 1), first=[record(0x70, b"future")])
        .add(record(0x0C, b"metadata"), record(0xFF, b""))
        .chunk(*frames(4, 5))
    ),
    "profile of ROS 1": lambda: builder("ros1").chunk(*frames(0, 1, 4, 5)),
    "no profile": lambda: builder("").chunk(*frames(0, 1, 4, 5)),
}

SUMMARIES: dict[str, Callable[[McapBuilder], list[bytes] | None]] = {
    "whole": lambda _: None,
    "absent": lambda _: [],
    "without statistics": lambda out: [*out.declarations, *out.chunk_indexes],
    "without chunk index": lambda out: [*out.declarations, out.statistics()],
    "without declarations": lambda out: [*out.chunk_indexes, out.statistics()],
    "without schemas": lambda out: [*out.declarations[1:], *out.chunk_indexes, out.statistics()],
    "statistics without channels": lambda out: [
        *out.declarations, *out.chunk_indexes, out.statistics({}, out.counts.total()),
    ],
    "in another order, with others": lambda out: [
        out.statistics(), record(0x71, b"?"), *out.chunk_indexes, *out.chunk_indexes, *out.declarations,
    ],
}  # fmt: skip


@pytest.mark.parametrize("summary", list(SUMMARIES))
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_frame_is_read_in_order_and_once(layout: str, summary: str, tmp_path: Path) -> None:
    out = LAYOUTS[layout]()
    path = out.write(tmp_path / "drive.mcap", SUMMARIES[summary](out), crc=summary == "whole")
    assert read(path) == [0, 1, 4, 5]


def test_a_time_range_is_read_from_chunks_and_from_outside_chunks(tmp_path: Path) -> None:
    out = builder().chunk(*frames(0, 5)).loose(*frames(3, 7, 4)).chunk(*frames(6, 2), compression="zstd")
    with BagReader(out.write(tmp_path / "drive.mcap")) as bag:
        assert (bag.first_image_ns, bag.last_image_ns) == (START_NS, START_NS + 7)
        part = bag.raw_messages({"/front/image_raw"}, START_NS + 2, START_NS + 6)
        assert [found.log_time_ns - START_NS for found in part] == [2, 3, 4, 5]
        assert list(bag.raw_messages({"/front/image_raw"}, START_NS + 8)) == []
        assert list(bag.raw_messages({"/front/image_raw"}, None, START_NS)) == []
        assert list(bag.raw_messages({"/front/image_raw"}, -1, -1)) == []
        first, second = (bag.raw_messages({"/front/image_raw"}) for _ in range(2))
        assert [one.log_time_ns == other.log_time_ns for one, other in zip(first, second, strict=True)] == [True] * 7


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mixture_of_layouts_is_read_in_order(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    out, expected = builder(), []
    for _ in range(data.draw(st.integers(1, 6))):
        times = data.draw(st.lists(st.integers(0, 50), max_size=4))
        expected += times
        messages = frames(*times) + frames(*data.draw(st.lists(st.integers(0, 50), max_size=2)), number=OTHER)
        if data.draw(st.booleans()):
            out.loose(*messages)
        else:
            compression = data.draw(st.sampled_from(["", "zstd", "lz4"]))
            indexes = data.draw(st.tuples(st.booleans(), st.booleans()))
            out.chunk(*messages, compression=compression, message_index=indexes[0], chunk_index=indexes[1])
    path = tmp_path_factory.getbasetemp() / "mixture.mcap"
    out.write(path, data.draw(st.sampled_from(list(SUMMARIES.values())))(out))
    if out.counts:
        assert read(path) == sorted(expected)


def test_an_index_that_names_missing_chunks_is_ignored(tmp_path: Path) -> None:
    for damage in (3, -3, 1 << 40):
        out = chunked()
        index = bytearray(out.chunk_indexes[1])
        begin = struct.unpack_from("<Q", index, 9 + 16)[0]
        struct.pack_into("<Q", index, 9 + 16, begin + damage)
        out.chunk_indexes[1] = bytes(index)
        assert read(out.write(tmp_path / "drive.mcap")) == [0, 1, 4, 5]


def test_a_summary_with_a_wrong_checksum_is_ignored(tmp_path: Path) -> None:
    out = chunked()
    summary = [*DECLARATIONS, *out.chunk_indexes, out.statistics({FRONT: 99})]
    path = out.write(tmp_path / "drive.mcap", summary, crc=True)
    assert "expected 99 messages" in error_of(path)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1  # the last byte of the checksum
    path.write_bytes(content)
    assert read(path) == [0, 1, 4, 5]


@pytest.mark.parametrize("layout", ["chunks", "no message index", "no chunks", "outside after a chunk"])
def test_fewer_frames_than_the_statistics_state_are_refused_with_both_numbers(layout: str, tmp_path: Path) -> None:
    out = LAYOUTS[layout]()
    summary = [*DECLARATIONS, *out.chunk_indexes, out.statistics({FRONT: 7, OTHER: 2})]
    path = out.write(tmp_path / "drive.mcap", summary)
    sentence = error_of(path)
    assert f"expected 7 messages of /front/image_raw, as {path} says, found 4" in sentence
    assert "`mcap recover`" in sentence
    summary[-1] = out.statistics({}, 9)
    assert "expected 9 messages, as its statistics say, found" in error_of(out.write(path, summary))


def test_missing_messages_of_an_unread_topic_are_accepted(tmp_path: Path) -> None:
    out = chunked()
    path = out.write(tmp_path / "drive.mcap", [*DECLARATIONS, *out.chunk_indexes, out.statistics({FRONT: 4, OTHER: 7})])
    assert read(path) == [0, 1, 4, 5]
    with BagReader(path) as bag, pytest.raises(BagError, match="expected 7 messages of /other/depth"):
        list(bag.raw_messages({"/other/depth"}))


def test_more_frames_than_the_statistics_state_are_all_read(tmp_path: Path) -> None:
    out = chunked()
    path = out.write(tmp_path / "drive.mcap", [*DECLARATIONS, *out.chunk_indexes, out.statistics({FRONT: 1, OTHER: 0})])
    assert read(path) == [0, 1, 4, 5]


def test_frames_missing_from_the_message_index_are_read_because_the_statistics_differ(tmp_path: Path) -> None:
    out = builder().chunk(*frames(0, 1)).chunk(*frames(4, number=OTHER), *frames(5))
    index = bytearray(out.chunk_indexes[1])
    assert index[9 + 36 : 9 + 38] == struct.pack("<H", OTHER)
    index[9 + 36 + 10 : 9 + 36 + 12] = struct.pack("<H", OTHER)  # channel number in the front camera's message index
    out.chunk_indexes[1] = bytes(index)
    assert read(out.write(tmp_path / "drive.mcap")) == [0, 1, 5]


def test_an_index_with_wrong_times_loses_no_frame(tmp_path: Path) -> None:
    out = chunked()
    out.chunk_indexes = [index[:9] + bytes(16) + index[25:] for index in out.chunk_indexes]
    with BagReader(out.write(tmp_path / "drive.mcap")) as bag:
        assert bag.last_image_ns == START_NS + 5
        part = bag.raw_messages({"/front/image_raw"}, START_NS + 1)
        assert [found.log_time_ns - START_NS for found in part] == [1, 4, 5]


def test_a_cut_off_file_is_refused_with_a_remedy(tmp_path: Path) -> None:
    whole = LAYOUTS["outside between chunks"]().write(tmp_path / "whole.mcap").read_bytes()
    path = tmp_path / "cut.mcap"
    for length in (3, 8, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        sentence = error_of(path)
        assert "it was cut off" in sentence
        assert "repair it with `mcap recover`" in sentence


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (builder().chunk(frame(0)).add(b"\x05\x03"), "expected"),
        (builder().add(record(5, b"short")), "message of at least 22 bytes"),
        (builder().add(record(6, b"short"), message(FRONT, START_NS, b"")), "field of 28 bytes"),
        (builder().add(record(4, b"\1")), "field of 4 bytes"),
        (builder().add(b"\0" * 30), "opcode 0"),
    ],
)
def test_a_damaged_file_is_refused_with_a_remedy(out: McapBuilder, said: str, tmp_path: Path) -> None:
    sentence = error_of(out.write(tmp_path / "drive.mcap", []))
    assert said in sentence
    assert "to be an undamaged bag" in sentence
    assert "repair it with `mcap recover`" in sentence


def test_messages_of_an_undeclared_topic_are_noted(tmp_path: Path) -> None:
    path = builder().loose((9, START_NS, b"?")).chunk(*frames(0, 1), (8, START_NS, b"?")).write(tmp_path / "drive.mcap")
    assert read(path) == [0, 1]
    with BagReader(path) as bag:
        [note] = bag.notes
    assert "2 messages cannot be read" in note


def test_a_chunk_with_wrong_bytes_is_refused(tmp_path: Path) -> None:
    path = chunked().write(tmp_path / "drive.mcap")
    content = bytearray(path.read_bytes())
    content[content.index(b"front_optical")] ^= 1
    path.write_bytes(content)
    assert "the checksum of the chunk" in error_of(path)


def test_an_unknown_compression_is_refused_only_if_its_chunk_is_read(tmp_path: Path) -> None:
    path = builder().chunk(frame(0)).chunk(frame(1), compression="lz4").write(tmp_path / "drive.mcap")
    path.write_bytes(path.read_bytes().replace(b"\3\0\0\0lz4", b"\3\0\0\0xyz"))
    sentence = error_of(path)
    assert "expected chunks of zstd, lz4 or no compression, got 'xyz'" in sentence
    assert "recover" not in sentence
    out = builder().chunk(*frames(0, 1)).chunk(frame(2, OTHER), compression="lz4")
    out.write(path).write_bytes(path.read_bytes().replace(b"\3\0\0\0lz4", b"\3\0\0\0xyz"))
    assert read(path) == [0, 1]


def test_content_above_the_limits_is_refused_without_a_repair_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlapping = builder().chunk(*frames(0, 5)).chunk(*frames(1, 4)).write(tmp_path / "overlapping.mcap")
    outside = builder().loose(*frames(0, 1)).write(tmp_path / "outside.mcap")
    one_after_the_other = builder().chunk(*frames(0, 1)).chunk(*frames(4, 5)).write(tmp_path / "good.mcap")
    monkeypatch.setattr(order, "MAX_OPEN_BYTES", 500)
    monkeypatch.setattr(mcap_contents, "MAX_LOOSE_MESSAGES", 1)
    assert "the log times of 2 overlap" in error_of(overlapping)
    assert "expected at most 1 messages outside of chunks" in error_of(outside)
    assert all("repair" not in error_of(path) for path in (overlapping, outside))
    assert read(one_after_the_other) == [0, 1, 4, 5]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_damage_raises_bag_error_or_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.mcap"
    out = LAYOUTS[data.draw(st.sampled_from(["chunks", "no chunks", "outside between chunks", "zstd, lz4, none"]))]()
    content = bytearray(out.write(path, SUMMARIES[data.draw(st.sampled_from(["whole", "absent"]))](out)).read_bytes())
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=4)
    ):
        content[position] = value
    path.write_bytes(content)
    with suppress(BagError), BagReader(path, {"front": "/front/image_raw"}) as bag:
        list(read_camera_frames(bag))
