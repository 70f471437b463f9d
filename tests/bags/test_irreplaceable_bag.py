"""Tests irreplaceable recordings: whatever fails while they are written, the messages so far can be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT

from ros_kd_perception.bags.reader import BagReader, BagWriter, decode_message, message_class


def image(index: int) -> Any:
    stamp = message_class("builtin_interfaces/msg/Time")(sec=1, nanosec=index)
    header = message_class("std_msgs/msg/Header")(stamp=stamp, frame_id="optical")
    return message_class("sensor_msgs/msg/Image")(header, 1, 4, "mono8", 0, 4, np.zeros(4, np.uint8))


def write_on_small_disk(folder: Path, kept: Path, extra: str = "") -> subprocess.CompletedProcess[str]:
    """Write noise to a separate disk of 8 MiB until it is full, then copy all files on it to `kept`."""
    script = f"""
import sys
import numpy as np
from ros_kd_perception.bags.reader import *
image, messages = message_class("sensor_msgs/msg/Image"), 0
header = message_class("std_msgs/msg/Header")(stamp=message_class("builtin_interfaces/msg/Time")(1, 2), frame_id="f")
with BagWriter(sys.argv[1] + "/out.mcap", irreplaceable=True) as out:
    try:
        for index in range(10_000):
            noise = np.random.default_rng(index).integers(0, 256, 40_000 + 911 * (index % 7), dtype=np.uint8)
            out.write("/front/image_raw", index, image(header, 1, len(noise), "mono8", 0, len(noise), noise))
    except BagError as error:
        print(error)
    {extra}
print(out.messages)
"""
    # Mount in a new mount namespace. Root is needed on machines without user namespaces.
    command = 'mount -t tmpfs -o size=8m tmpfs "$0" && "$1" -c "$2" "$0"; status=$?; cp -a "$0"/. "$3"; exit $status'
    for path in (folder, kept):
        path.mkdir()
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, str(folder), sys.executable, script, str(kept)],
        capture_output=True, text=True, check=False, timeout=120, cwd=ROOT,
    )  # fmt: skip


@pytest.fixture
def small_disks() -> None:
    try:
        command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a kernel and a user that may mount a small disk")


@pytest.mark.usefixtures("small_disks")
def test_an_irreplaceable_bag_is_completed_on_a_full_disk(tmp_path: Path) -> None:
    outcome = write_on_small_disk(tmp_path / "disk", tmp_path / "kept")
    assert outcome.returncode == 0, outcome.stderr
    sentence, messages = outcome.stdout.splitlines()
    assert "No space left on device" in sentence
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["out.mcap"]
    with BagReader(tmp_path / "kept" / "out.mcap") as reader:
        frames = list(reader.raw_messages(["/front/image_raw"]))
    # A little more than 2 of the 8 MiB are reserved for the end.
    assert len(frames) == int(messages) > 100
    assert [frame.log_time_ns for frame in frames] == list(range(len(frames)))
    for index in (0, len(frames) // 2, len(frames) - 1):
        noise = np.random.default_rng(index).integers(0, 256, 40_000 + 911 * (index % 7), dtype=np.uint8)
        np.testing.assert_array_equal(decode_message(frames[index]).data, noise)


@pytest.mark.usefixtures("small_disks")
def test_an_irreplaceable_bag_that_cannot_be_completed_is_kept_for_repair(tmp_path: Path) -> None:
    """Another program uses up the reserved space."""
    grab = "out._reserve.give_up(); open(sys.argv[1] + '/other', 'wb', 0).write(bytes(1 << 23))"
    outcome = write_on_small_disk(tmp_path / "disk", tmp_path / "kept", grab)
    assert outcome.returncode == 1
    assert "mcap recover" in outcome.stderr.splitlines()[-1]
    [partial] = (tmp_path / "kept").glob(".out.mcap.*.partial/bag/bag.mcap")
    assert partial.stat().st_size > 4 << 20
    assert not (tmp_path / "kept" / "out.mcap").exists()


@pytest.mark.parametrize("messages", [0, 3])
def test_an_exception_completes_an_irreplaceable_bag_unless_it_is_empty(tmp_path: Path, messages: int) -> None:
    def interrupted() -> None:
        with BagWriter(tmp_path / "new" / "out.mcap", irreplaceable=True) as out:
            for index in range(messages):
                out.write("/front/image_raw", index, image(index))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [p.name for p in tmp_path.glob("new/*")] == (["out.mcap"] if messages else [])
    assert (tmp_path / "new").exists() == bool(messages)
    if messages:
        with BagReader(tmp_path / "new" / "out.mcap") as reader:
            assert len(list(reader.raw_messages(["/front/image_raw"]))) == messages
