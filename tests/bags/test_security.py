"""Tests malicious bags: they stay within the size limits and cannot open files outside their folder."""

from __future__ import annotations

import shutil
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from lz4.frame import compress as lz4_compress
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from small_bag import START_NS, image_message, moving_picture, write_small_bag

from ros_kd_perception.bags import mcap_records, message_types
from ros_kd_perception.bags.decompression import lz4_within, zstd_within
from ros_kd_perception.bags.mcap_contents import find_contents
from ros_kd_perception.bags.mcap_records import read_chunk
from ros_kd_perception.bags.reader import BagError, BagReader, read_camera_frames, typestore
from ros_kd_perception.structures import BadFrame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
BOMB_BYTES = 64 * MIB
CODECS = {"zstd": (zstd.compress, zstd_within), "lz4": (lz4_compress, lz4_within)}


def write_compressed(path: Path, mode: CompressionMode, data: bytes = b"") -> Path:
    """Write a folder with one camera message: a small picture, or the bytes `data`."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    kind = "sensor_msgs/msg/Image"
    message = data or typestore().serialize_cdr(image_message("front", START_NS, moving_picture((8, 8), 0)), kind)
    with writer:
        writer.write(writer.add_connection("/front/image_raw", kind, typestore=typestore()), START_NS, message)
    return path


def read_all(path: Path) -> int:
    with BagReader(path) as bag:
        return sum(len(message.data) for _, message in bag.frames())


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", list(CODECS))
def test_a_decompression_bomb_stays_within_the_memory_limit(codec: str) -> None:
    compress, within = CODECS[codec]
    bomb = compress(bytes(BOMB_BYTES))
    assert len(bomb) < MIB

    def set_it_off() -> None:
        with pytest.raises(ValueError, match="at most 1048576 bytes"):
            within(bomb, MIB)

    assert peak_bytes(set_it_off) < 8 * MIB


@pytest.mark.parametrize("codec", list(CODECS))
def test_intact_data_is_decompressed_and_damaged_data_refused(codec: str) -> None:
    compress, within = CODECS[codec]
    text = b"all of it" * 1000
    frames = compress(text) + compress(text)
    assert within(frames, 2 * len(text)) == 2 * text
    assert within(b"", 0) == b""
    for damaged in (frames[:-3], frames + b"?", b"no frame", compress(text)[:-1]):
        with pytest.raises(ValueError):  # noqa: PT011  # the codec writes the text
            within(damaged, 2 * len(text))
    with pytest.raises(ValueError, match="at most"):
        within(frames, 2 * len(text) - 1)


def test_a_chunk_larger_than_its_declared_size_is_refused(tmp_path: Path) -> None:
    zeros = b"\x00\x01\x00\x00" + bytes(BOMB_BYTES)
    folder = write_compressed(tmp_path / "drive", CompressionMode.STORAGE, zeros)
    [file] = folder.glob("*.mcap")
    assert read_all(file) == len(zeros)
    content = file.read_bytes()
    assert len(content) < MIB
    with file.open("rb") as stream:
        [chunk] = find_contents(stream).chunks
        size = len(read_chunk(stream, chunk))
    claim = struct.pack("<Q", size)
    assert content.count(claim) == 2  # in the chunk and in the index
    file.write_bytes(content.replace(claim, struct.pack("<Q", 1000)))

    def read() -> None:
        with pytest.raises(BagError, match=r"to be an undamaged bag, got: expected at most 1000 bytes"):
            read_all(file)

    assert peak_bytes(read) < 16 * MIB


def test_a_chunk_with_a_huge_declared_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_small_bag(tmp_path / "drive.mcap", ("front",), 2)
    assert read_all(file) > 0
    monkeypatch.setattr(mcap_records, "MAX_CHUNK_BYTES", 1000)
    with pytest.raises(BagError, match="chunks of at most 1000 bytes"):
        read_all(file)


def test_a_message_that_is_huge_after_decompression_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_compressed(tmp_path / "drive", CompressionMode.MESSAGE, bytes(BOMB_BYTES))
    monkeypatch.setattr(message_types, "MAX_MESSAGE_BYTES", MIB)

    def read() -> None:
        with BagReader(folder) as bag:
            [(_, _, frame)] = read_camera_frames(bag)
        assert isinstance(frame, BadFrame)
        assert frame.reason == "too_large"
        assert "at most 1048576 bytes after decompression" in str(frame)

    assert peak_bytes(read) < 8 * MIB


@pytest.mark.parametrize("elsewhere", ["../precious.mcap", "/etc/passwd", "..", "drive/../../precious.mcap"])
def test_files_outside_the_folder_are_not_opened(elsewhere: str, tmp_path: Path) -> None:
    folder = write_compressed(tmp_path / "drive", CompressionMode.STORAGE)
    [file] = folder.glob("*.mcap")
    shutil.copy(file, tmp_path / "precious.mcap")
    metadata = folder / "metadata.yaml"
    text = metadata.read_text()
    assert file.name in text
    metadata.write_text(text.replace(file.name, elsewhere))
    with pytest.raises(BagError, match=r"the files that .* names, missing: "):
        read_all(folder)
