"""Tests that shared memory of killed processes is removed, and that of running processes and other users is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ros_kd_perception.system.orphaned_memory import remove_orphaned_segments

SEGMENT = "fastdds_0123456789abcdef"
HOLD = """
import fcntl, sys
lock = open(sys.argv[1])
fcntl.flock(lock, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def make(folder: Path, name: str, size: int = 1000) -> tuple[Path, Path]:
    segment, lock = folder / name, folder / f"{name}_el"
    segment.write_bytes(bytes(size))
    lock.touch()
    os.utime(lock, (1, 1))
    return segment, lock


def test_the_segment_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    segment, lock = make(tmp_path, SEGMENT)
    with subprocess.Popen([sys.executable, "-c", HOLD, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        assert remove_orphaned_segments(tmp_path) == 0
        assert segment.exists()
        assert lock.exists()
        owner.kill()
    assert remove_orphaned_segments(tmp_path) == 1000
    assert list(tmp_path.iterdir()) == []


def test_new_segments_and_other_files_are_kept(tmp_path: Path) -> None:
    for name in ("fastdds_port7001", "sem.fastdds_0123456789abcdef", "somebody_elses"):
        make(tmp_path, name)
    _, young = make(tmp_path, SEGMENT)
    os.utime(young)
    before = sorted(tmp_path.iterdir())
    assert remove_orphaned_segments(tmp_path) == 0
    assert sorted(tmp_path.iterdir()) == before
    assert remove_orphaned_segments(tmp_path, min_age_s=0) == 1000


def test_links_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    folder = tmp_path / "shm"
    folder.mkdir()
    (folder / f"{SEGMENT}_el").symlink_to(precious)
    (folder / SEGMENT).symlink_to(precious)
    assert remove_orphaned_segments(folder, min_age_s=-1) == 0
    assert precious.read_text() == "precious"
    assert remove_orphaned_segments(tmp_path / "nowhere") == 0
