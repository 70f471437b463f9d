"""Tests `BagFiles`: files left by a killed recorder or a full disk are read, or refused with the reason."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import lz4.frame
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from small_bag import START_NS, image_message, moving_picture
from tiny_student import write_tiny_student

from ros_kd_perception.bags.reader import BagError, BagReader, BagWriter, read_camera_frames, typestore
from ros_kd_perception.replay import main
from ros_kd_perception.structures import BadFrame, Frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IMAGE = "sensor_msgs/msg/Image"
TOPIC = "/front/image_raw"
TAR = b"drive/".ljust(257, b"\0") + b"ustar"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".zstd": zstd.compress, ".zst": zstd.compress, ".lz4": lz4.frame.compress, ".gz": gzip.compress, "": zstd.compress,
}  # fmt: skip


def cdr(index: int) -> bytes:
    message = image_message("front", START_NS + index, moving_picture((8, 8), index))
    return bytes(typestore().serialize_cdr(message, IMAGE))


def write_bag(
    path: Path, plugin: StoragePlugin, count: int = 4, first: int = 0, mode: CompressionMode = CompressionMode.NONE
) -> Path:
    """Write a rosbag2 folder with one camera."""
    writer = Writer(path, version=8, storage_plugin=plugin)
    if mode != CompressionMode.NONE:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=typestore())
        for index in range(first, first + count):
            writer.write(connection, START_NS + index, cdr(index))
    return path


def file_of(folder: Path) -> Path:
    [file] = [file for file in folder.iterdir() if file.name != "metadata.yaml"]
    return file


def indices(path: Path) -> list[int]:
    """Return the numbers of the frames in the order in which they are read."""
    with BagReader(path) as bag:
        return [frame.stamp_ns - START_NS for _, _, frame in read_camera_frames(bag) if isinstance(frame, Frame)]


def notes_of(path: Path) -> str:
    with BagReader(path) as bag:
        return " ".join(bag.notes)


def refusal(path: Path) -> str:
    with pytest.raises(BagError) as caught, BagReader(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Redirect temporary copies to a folder in which a test can see what is left."""
    folder = tmp_path / "temporary #1"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# --- messages compressed one by one ---


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_compressed_messages_are_read_with_and_without_metadata(plugin: StoragePlugin, tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "drive", plugin, mode=CompressionMode.MESSAGE)
    file = file_of(folder)
    assert zstd.compress(cdr(0))[:4] in file.read_bytes()
    assert indices(folder) == [0, 1, 2, 3]
    assert indices(file) == [0, 1, 2, 3]
    (folder / "metadata.yaml").unlink()
    assert indices(folder) == [0, 1, 2, 3]
    model = write_tiny_student(tmp_path / "tiny.onnx")
    assert main([str(file), "-o", str(tmp_path / "out.mcap"), "--model", str(model), "--quiet"]) == 0


def test_plain_and_compressed_messages_can_be_mixed(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive.mcap") as bag:
        for topic in (TOPIC, "/left/image_raw"):
            bag.add_topic(topic, IMAGE)
        for index in range(4):
            bag.write_raw(TOPIC, START_NS + index, zstd.compress(cdr(index)) if index % 2 else cdr(index))
            bag.write_raw("/left/image_raw", START_NS + index, zstd.compress(cdr(index)))
    assert sorted(indices(tmp_path / "drive.mcap")) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_damaged_compressed_message_loses_one_frame(tmp_path: Path) -> None:
    packed = zstd.compress(cdr(1))
    with BagWriter(tmp_path / "drive.mcap") as bag:
        bag.add_topic(TOPIC, IMAGE)
        for index, data in enumerate([cdr(0), packed[:-3], packed + b"more", zstd.compress(b"no image"), packed]):
            bag.write_raw(TOPIC, START_NS + index, data)
    with BagReader(tmp_path / "drive.mcap") as reader:
        frames = [frame for _, _, frame in read_camera_frames(reader)]
    assert [isinstance(frame, Frame) for frame in frames] == [True, False, False, False, True]
    assert {frame.reason for frame in frames if isinstance(frame, BadFrame)} == {"bad_data"}


# --- files compressed as a whole ---


@pytest.mark.parametrize("suffix", list(PACKERS))
@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_a_single_compressed_file_is_read(plugin: StoragePlugin, suffix: str, tmp_path: Path, temporary: Path) -> None:
    plain = file_of(write_bag(tmp_path / "drive", plugin))
    packed = tmp_path / (plain.name + suffix)  # without a suffix the name does not show the compression
    packed.write_bytes(PACKERS[suffix](plain.read_bytes()))
    with BagReader(packed) as bag:
        assert len(list(bag.frames())) == 4
        assert len(list(temporary.iterdir())) == 1
    assert list(temporary.iterdir()) == []
    if suffix:
        (tmp_path / "alone").mkdir()
        packed.rename(tmp_path / "alone" / packed.name)
        assert indices(tmp_path / "alone") == [0, 1, 2, 3]


@pytest.mark.parametrize("with_metadata", [True, False])
def test_a_split_recording_with_some_compressed_files_is_read(with_metadata: bool, tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    names = []
    for part in range(3):
        plain = file_of(write_bag(tmp_path / str(part), StoragePlugin.SQLITE3, count=2, first=2 * part))
        names.append(f"drive_{part}.db3" + (".zstd" if part < 2 else ""))
        content = plain.read_bytes()
        (folder / names[-1]).write_bytes(zstd.compress(content) if part < 2 else content)
    if with_metadata:
        information = {"relative_file_paths": names, "topics_with_message_count": []}
        (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))
    assert indices(folder) == [0, 1, 2, 3, 4, 5]
    # The recorder was killed while it compressed the first file: both exist, and the compressed one is incomplete.
    (folder / "drive_1.db3").write_bytes(zstd.decompress((folder / "drive_1.db3.zstd").read_bytes()))
    if not with_metadata:
        (folder / "drive_1.db3.zstd").write_bytes(b"\x28\xb5\x2f\xfd")
    assert indices(folder) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_the_empty_file_of_a_killed_recorder_is_left_out(plugin: StoragePlugin, tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "drive", plugin)
    (folder / "metadata.yaml").unlink()
    last = folder / f"drive_1{file_of(folder).suffix}"
    last.touch()
    assert indices(folder) == [0, 1, 2, 3]
    assert last.name in notes_of(folder)
    for file in folder.iterdir():
        file.write_bytes(b"")
    assert "it is empty" in refusal(folder)


@pytest.mark.parametrize("cut", [4, 30, -4])
def test_an_incomplete_compressed_file_is_refused(cut: int, tmp_path: Path, temporary: Path) -> None:
    packed = tmp_path / "drive.mcap.zstd"
    packed.write_bytes(zstd.compress(file_of(write_bag(tmp_path / "drive", StoragePlugin.MCAP)).read_bytes())[:cut])
    assert "complete" in refusal(packed)
    assert list(temporary.iterdir()) == []


def test_files_that_would_fill_the_disk_are_not_decompressed(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = file_of(write_bag(tmp_path / "drive", StoragePlugin.MCAP)).read_bytes()
    folder = tmp_path / "packed"
    folder.mkdir()
    for part, pack in enumerate((zstd.compress, gzip.compress)):
        (folder / f"drive_{part}.mcap.zst").write_bytes(pack(content))
    usage = shutil.disk_usage(tmp_path)
    for share, fits in ((4.5, True), (3, False), (1, False)):  # both files must fit into half of the free space
        enough = usage._replace(free=int(share * len(content)))
        monkeypatch.setattr(shutil, "disk_usage", lambda _, enough=enough: enough)
        if fits:
            assert len(indices(folder)) == 8
        else:
            assert "set TMPDIR to a larger disk" in refusal(folder)
        assert list(temporary.iterdir()) == []


# --- files of other formats ---


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("drive.bag", b"#ROSBAG V2.0\n", "rosbags-convert"),
        ("drive.mcap", b"#ROSBAG V2.0\n", "rosbags-convert"),
        ("drive.mcap.bz2", b"BZh91AY", "bunzip2"),
        ("drive.mcap.xz", b"\xfd7zXZ\x00\x00", "unxz"),
        ("drive.zip", b"PK\x03\x04....", "unzip"),
        ("drive.mcap", b"PK\x03\x04....", "unzip"),
        ("drive.tar", TAR, "tar -xf"),
        ("drive.tar.gz", gzip.compress(TAR, mtime=0), "in gzip, it is a tar archive"),
        ("drive.mcap.zst", zstd.compress(gzip.compress(b"", mtime=0)), "in zstd, it is gzip"),
        ("drive.mcap", b"version https://git-lfs.github.com/spec/v1\noid ...", "git lfs pull"),
        ("drive.mcap", b"<!DOCTYPE html><html>", "a web page"),
        ("metadata.yaml", b"rosbag2_bagfile_information:\n  version: 5\n", "give the folder"),
        ("drive.db3-wal", b"\x37\x7f\x06\x82" + bytes(60), "give the .db3 file"),
        ("drive.db3", b"", "it is empty"),
        ("drive.db3", b"hello", "begins with b'hello'"),
        ("drive.mcap.zstd", zstd.compress(b"hello"), "begins with b'hello'"),
    ],
)
def test_a_file_of_another_format_is_refused_with_its_format(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "drive.mcap")
    assert "a device or a pipe" in refusal(tmp_path / "drive.mcap")


def test_a_folder_of_bags_is_refused(tmp_path: Path) -> None:
    write_bag(tmp_path / "monday", StoragePlugin.MCAP)
    assert "monday/" in refusal(tmp_path)


# --- metadata.yaml ---


def changed_metadata(folder: Path, **changes: object) -> None:
    metadata = folder / "metadata.yaml"
    document = yaml.safe_load(metadata.read_text())
    document["rosbag2_bagfile_information"].update(changes)
    metadata.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    "names",
    [["drive.db3"], ["old_name_of_the_folder/drive.db3"], ["drive.db3.zstd"], ["/data/drive.db3"], ["drive.db3"] * 2],
)
@pytest.mark.parametrize("stored", ["drive.db3", "drive.db3.zstd", "drive.db3.zst"])
def test_a_file_is_found_if_its_name_differs_in_folder_or_compression_suffix(
    names: list[str], stored: str, tmp_path: Path
) -> None:
    folder = write_bag(tmp_path / "drive", StoragePlugin.SQLITE3)
    changed_metadata(folder, relative_file_paths=names, compression_mode="FILE", compression_format="zstd")
    content = (folder / "drive.db3").read_bytes()
    (folder / "drive.db3").unlink()
    (folder / stored).write_bytes(zstd.compress(content) if "zst" in stored else content)
    assert indices(folder) == [0, 1, 2, 3]
    assert notes_of(folder) == ""


def test_missing_files_of_the_metadata_are_refused(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "drive", StoragePlugin.MCAP)
    changed_metadata(folder, relative_file_paths=["drive.mcap", "drive_1.mcap", "", ".."])
    sentence = refusal(folder)
    assert "missing: drive_1.mcap" in sentence
    assert "move metadata.yaml elsewhere" in sentence
    (folder / "metadata.yaml").rename(tmp_path / "metadata.yaml")
    assert indices(folder) == [0, 1, 2, 3]


def test_files_that_metadata_does_not_name_are_noted(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "drive", StoragePlugin.MCAP)
    shutil.copy(folder / "drive.mcap", folder / "drive_1.mcap")
    shutil.copy(folder / "drive.mcap", folder / "._drive.mcap")  # macOS leaves files with such names on other disks
    assert indices(folder) == [0, 1, 2, 3]
    assert "drive_1.mcap" in notes_of(folder)
    assert "._drive.mcap" not in notes_of(folder)


def test_fewer_messages_than_metadata_counts_are_refused(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "drive", StoragePlugin.SQLITE3)
    with closing(sqlite3.connect(folder / "drive.db3")) as database:
        database.execute("DELETE FROM messages WHERE id > 2")
        database.commit()
    assert "expected 4 messages of /front/image_raw" in refusal(folder)
    assert indices(folder / "drive.db3") == [0, 1]


def test_nested_lists_as_names_in_metadata_are_ignored_and_use_no_memory(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "drive", StoragePlugin.MCAP)
    bomb = "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 30))
    for name in ("*a29", "[drive.mcap]", "x" * 300):
        (folder / "metadata.yaml").write_text(
            f"{bomb}rosbag2_bagfile_information: {{relative_file_paths: [{name}], topics_with_message_count: []}}"
        )
        assert indices(folder) == [0, 1, 2, 3]
        assert "expected texts of at most 255 characters" in notes_of(folder)


@pytest.mark.parametrize(
    "text",
    ["", "a: [", "rosbag2_bagfile_information: 3", "rosbag2_bagfile_information: {version: 99}", "[1]", "\x00\xff"],
)
def test_broken_metadata_is_ignored_and_all_frames_are_read(text: str, tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "drive", StoragePlugin.MCAP)
    (folder / "metadata.yaml").write_text(text)
    assert indices(folder) == [0, 1, 2, 3]
    assert "metadata.yaml cannot be used" in notes_of(folder)


# --- databases that were not closed ---


RECORDER = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.stdin:
    database.execute(statement).fetchall()
os.kill(os.getpid(), signal.SIGKILL)
"""


def open_recorder(file: Path, journal: str) -> sqlite3.Connection:
    """Open a new database like a recorder that commits each message, in one of SQLite's journal modes."""
    database = sqlite3.connect(file, isolation_level=None)
    database.execute(f"PRAGMA journal_mode={journal}")
    database.executescript(Sqlite3Writer.SQLITE_SCHEMA)
    definition, _ = typestore().generate_msgdef(IMAGE, ros_version=2)
    database.execute("INSERT INTO message_definitions VALUES (1, ?, 'ros2msg', ?, '')", (IMAGE, definition))
    database.execute("INSERT INTO topics VALUES (1, ?, ?, 'cdr', '', '')", (TOPIC, IMAGE))
    return database


def inserts(numbers: range) -> list[str]:
    row = "INSERT INTO messages(topic_id, timestamp, data) VALUES (1, {}, x'{}')"
    return [row.format(START_NS + index, cdr(index).hex()) for index in numbers]


def record(database: sqlite3.Connection, numbers: range) -> None:
    for statement in inserts(numbers):
        database.execute(statement)


def record_until_killed(file: Path, journal: str, statements: list[str]) -> None:
    """Execute statements one by one in another process, which then ends itself with SIGKILL."""
    open_recorder(file, journal).close()
    lines = "\n".join([f"PRAGMA journal_mode={journal}", *statements])
    done = subprocess.run([sys.executable, "-c", RECORDER, file], input=lines, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Leave a folder like a recorder that was killed after ten frames: four are in the file, six in the log."""
    folder = tmp_path / "killed"
    folder.mkdir()
    committed = [*inserts(range(4)), "PRAGMA wal_checkpoint(TRUNCATE)", *inserts(range(4, 10))]
    record_until_killed(folder / "drive.db3", "WAL", [*committed, "BEGIN", *inserts(range(10, 13))])
    return folder


def test_frames_in_the_log_of_a_killed_recorder_are_read(killed: Path, temporary: Path) -> None:
    assert (killed / "drive.db3-wal").stat().st_size > 0
    before = state_of(killed)
    for path in (killed, killed / "drive.db3"):
        assert indices(path) == list(range(10))
        assert "drive.db3-wal" in notes_of(path)
    assert state_of(killed) == before
    assert list(temporary.iterdir()) == []


def test_a_log_is_read_beside_metadata_and_through_links(killed: Path, tmp_path: Path) -> None:
    information = {"relative_file_paths": ["drive.db3"], "topics_with_message_count": []}
    (killed / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))
    assert indices(killed) == list(range(10))
    (tmp_path / "latest.db3").symlink_to(killed / "drive.db3")
    assert indices(tmp_path / "latest.db3") == list(range(10))
    links = tmp_path / "links"  # git-annex and DVC store files as links
    links.mkdir()
    for number, file in enumerate(sorted(killed.glob("drive.db3*"))):
        shutil.copy(file, tmp_path / f"content{number}")
        (links / file.name).symlink_to(tmp_path / f"content{number}")
    assert indices(links) == list(range(10))


@pytest.mark.parametrize("change", ["DELETE FROM messages WHERE id > 300", "VACUUM"])
def test_a_database_that_changes_while_it_is_read_is_refused(change: str, tmp_path: Path) -> None:
    file = tmp_path / "drive.db3"
    with closing(open_recorder(file, "MEMORY")) as recorder:
        recorder.execute("BEGIN")
        recorder.executemany(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)",
            [(START_NS + 7919 * index % 1000, bytes(2000)) for index in range(1000)],
        )
        recorder.execute("COMMIT")
        with BagReader(file) as bag:
            frames = bag.frames()
            next(frames)
            recorder.execute("DELETE FROM messages WHERE id > 500")
            recorder.execute(change)
            with pytest.raises(BagError, match="something writes to it; wait until the recording has ended"):
                list(frames)


def test_the_replay_of_a_killed_recording_notes_the_log(
    killed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_student(tmp_path / "tiny.onnx")
    assert main([str(killed), "-o", str(tmp_path / "out.mcap"), "--model", str(model), "--quiet"]) == 0
    said = capsys.readouterr()
    assert "drive.db3-wal" in said.err
    assert f"{'front':<20}{10:>8}{10:>11}" in said.out


def test_a_log_is_refused_if_there_is_no_room_for_the_copy(
    killed: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(killed)._replace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    sentence = refusal(killed)
    assert "drive.db3-wal" in sentence
    assert "set TMPDIR" in sentence
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("content", [b"", bytes(32), b"not a log" * 1000])
def test_a_log_without_data_is_ignored(content: bytes, killed: Path) -> None:
    (killed / "drive.db3-wal").write_bytes(content)
    assert indices(killed) == [0, 1, 2, 3]
    assert ("no committed data" in notes_of(killed)) == (len(content) > 32)


def test_a_cut_off_log_gives_the_frames_committed_before(killed: Path) -> None:
    log = killed / "drive.db3-wal"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    found = indices(killed)
    assert found == list(range(len(found)))
    assert 4 < len(found) < 10


def test_the_log_of_another_database_is_refused(killed: Path, tmp_path: Path, temporary: Path) -> None:
    with closing(open_recorder(tmp_path / "other.db3", "WAL")) as database:
        record(database, range(100, 106))
        shutil.copy(tmp_path / "other.db3-wal", killed / "drive.db3-wal")
    assert "does not match it" in refusal(killed)
    (killed / "drive.db3-wal").unlink()
    assert indices(killed) == [0, 1, 2, 3]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("journal", ["DELETE", "PERSIST", "TRUNCATE"])
def test_an_interrupted_transaction_is_rolled_back(journal: str, tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    cut_off = [
        "PRAGMA cache_size=1",
        "BEGIN",
        *inserts(range(6, 200)),
    ]  # a small cache makes SQLite write uncommitted pages to the file
    record_until_killed(folder / "drive.db3", journal, [*inserts(range(6)), *cut_off])
    assert (folder / "drive.db3-journal").stat().st_size > 0
    before = state_of(folder)
    assert indices(folder) == list(range(6))
    assert "drive.db3-journal" in notes_of(folder)
    assert state_of(folder) == before


def test_a_running_recording_is_read_up_to_its_last_commit(tmp_path: Path) -> None:
    with closing(open_recorder(tmp_path / "drive.db3", "WAL")) as database:
        record(database, range(3))
        assert indices(tmp_path / "drive.db3") == [0, 1, 2]
        record(database, range(3, 5))  # the recorder can still write
        assert indices(tmp_path / "drive.db3") == [0, 1, 2, 3, 4]
    assert indices(tmp_path / "drive.db3") == [0, 1, 2, 3, 4]
    assert notes_of(tmp_path / "drive.db3") == ""


WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
print("writing", flush=True)
sys.stdin.read()
"""


def test_a_database_in_the_middle_of_a_transaction_is_refused(tmp_path: Path) -> None:
    file = file_of(write_bag(tmp_path / "drive", StoragePlugin.SQLITE3))
    command = [sys.executable, "-c", WRITER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "writing\n"
        assert f"process {recorder.pid} is writing to it" in refusal(tmp_path / "drive")
        recorder.communicate("")
    assert indices(tmp_path / "drive") == [0, 1, 2, 3]


def test_a_database_that_changes_while_it_is_copied_is_refused(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile
    with closing(open_recorder(tmp_path / "drive.db3", "WAL")) as database:
        record(database, range(3))

        def copy_while_it_is_recorded(source: Path, target: Path) -> None:
            copy(source, target)
            record(database, range(3, 20))

        monkeypatch.setattr(shutil, "copyfile", copy_while_it_is_recorded)
        assert "something writes to it" in refusal(tmp_path / "drive.db3")
    assert list(temporary.iterdir()) == []


# --- paths ---


@pytest.fixture(scope="module")
def plain_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return file_of(write_bag(tmp_path_factory.mktemp("plain") / "drive", StoragePlugin.SQLITE3))


@pytest.mark.parametrize(
    "name",
    ["drive #3", "what?", "100%25done", "50%", "a b", "größe 漢字", "q?mode=memory&x=1", "a'b\"c", "-x"],
)
def test_a_database_with_any_name_is_read(name: str, plain_database: Path, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(plain_database, folder / f"{name}.db3")
    assert indices(folder / f"{name}.db3") == [0, 1, 2, 3]
    assert indices(folder) == [0, 1, 2, 3]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(blacklist_characters="/\0", codec="utf-8"), min_size=1, max_size=12))
def test_special_characters_in_a_path_are_escaped(name: str, plain_database: Path, tmp_path: Path) -> None:
    file = tmp_path / f"n{name}.db3"
    shutil.copy(plain_database, file)
    assert indices(file) == [0, 1, 2, 3]
    file.unlink()


def test_relative_paths_links_and_paths_with_two_leading_slashes_are_read(
    plain_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plain_database.parent)
    (tmp_path / "link #1.db3").symlink_to(plain_database)
    odd = os.fsdecode(b"odd\xff.db3")
    shutil.copy(plain_database, tmp_path / odd)
    name = plain_database.name
    for path in (name, f"../drive/{name}", f"/{plain_database}", tmp_path / "link #1.db3", tmp_path / odd, "."):
        assert indices(Path(path)) == [0, 1, 2, 3]
    (tmp_path / "dead.db3").symlink_to(tmp_path / "nothing")
    assert "found nothing" in refusal(tmp_path / "dead.db3")
