"""The demo with little shared memory: it uses smaller segments, or refuses to start and names the size that it needs.

`docker run` gives a container 64 MiB of /dev/shm. These tests mount a tmpfs in their own mount namespace.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from small_bag import write_small_bag

from ros_kd_perception.demo.shared_memory import segment_bytes, write_profile
from ros_kd_perception.system.segment_room import NoSharedMemory

PROFILE = ROOT / "config" / "fastdds_large_images.xml"
IMAGE_BYTES = 1280 * 720 * 3


def in_mount_namespace(prepare: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a shell line that changes mounts, then a command, in a mount namespace of their own."""
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{prepare} && exec "$@"', "sh", *command],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def mounts_allowed() -> None:
    try:
        tried = in_mount_namespace("mount -t tmpfs -o size=1m tmpfs /dev/shm", ["true"])
    except OSError as error:
        pytest.skip(f"no mount namespace to give the demo a small /dev/shm in: {error}")
    if tried.returncode:
        pytest.skip(f"no mount namespace to give the demo a small /dev/shm in: {tried.stderr.strip()}")


@pytest.fixture(scope="module")
def drive(mounts_allowed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large images, but so few that any machine can perceive them."""
    return write_small_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", frames=6, rate_hz=2, size=(720, 1280))


def demo(prepare: str, drive: Path | None, model: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo on a drive, or on a rendered one."""
    command = [sys.executable, "-m", "ros_kd_perception.demo", "--model", model, "--output", output]
    return in_mount_namespace(prepare, [*map(str, command), *(["--bag", str(drive)] if drive else [])])


def test_64_mib_as_in_docker_are_enough_for_720p(drive: Path, tiny_student: Path, tmp_path: Path) -> None:
    done = demo("mount -t tmpfs -o size=64m tmpfs /dev/shm", drive, tiny_student, tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["sent"] == 12
    assert summary["perceived"] >= 10


@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        ("mount -t tmpfs -o size=16m tmpfs /dev/shm", "17 MB are free"),
        (
            "mount -t tmpfs -o size=64m tmpfs /dev/shm && head -c 56000000 /dev/zero > /dev/shm/somebody_elses",
            "11 MB are free",
        ),
        ("mount -t tmpfs -o ro,size=64m tmpfs /dev/shm", "/dev/shm cannot be written to"),
        ("mount -t tmpfs -o size=64m tmpfs /dev", "/dev/shm cannot be written to"),
    ],
    ids=["too small", "full", "read-only", "absent"],
)
def test_too_little_is_refused_at_once_with_the_remedy(
    drive: Path, tiny_student: Path, tmp_path: Path, prepare: str, found: str
) -> None:
    if prepare.endswith(" /dev"):
        prepare += " && : > /dev/null && chmod 666 /dev/null"
    done = demo(prepare, drive, tiny_student, tmp_path / "demo")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("demo: expected 21 MB or more of shared memory")
    assert found in last
    assert "--shm-size=41m" in last
    assert "--ipc=host" in last
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_rendered_where_there_is_too_little(
    mounts_allowed: None, tiny_student: Path, tmp_path: Path
) -> None:
    done = demo("mount -t tmpfs -o size=16m tmpfs /dev/shm", None, tiny_student, tmp_path / "demo")
    assert done.returncode == 2
    assert "expected 21 MB or more of shared memory" in done.stderr
    assert "rendering" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_segments_grow_with_the_images_and_shrink_with_the_room(tmp_path: Path) -> None:
    assert segment_bytes(IMAGE_BYTES, tmp_path) == 32 << 20  # a disk has enough room
    large = 3840 * 2160 * 3
    assert segment_bytes(large, tmp_path) == 5 * large
    with pytest.raises(NoSharedMemory, match=r"expected \d{9,} MB"):
        segment_bytes(1 << 54, tmp_path)
    with pytest.raises(NoSharedMemory, match="cannot be written to"):
        segment_bytes(IMAGE_BYTES, tmp_path / "nowhere")


def test_a_profile_differs_in_the_size_alone(tmp_path: Path) -> None:
    usual = PROFILE.read_text()
    written = write_profile(PROFILE, tmp_path / "own.xml", 12345).read_text()
    assert written == usual.replace("<segment_size>33554432<", "<segment_size>12345<") != usual
