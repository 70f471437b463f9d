"""Messages and exit statuses of the executables if ROS 2 cannot start."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_bag import write_small_bag


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", cameras=["front"], frames=1)


@pytest.mark.parametrize(
    ("arguments", "settings", "why"),
    [
        (["--ros-args", "--param", "x"], {}, "Couldn't parse parameter override rule"),
        (["--ros-args", "-r", "__node:=1a"], {}, "__node:=1a"),
        ([], {"ROS_LOG_DIR": "/proc/log"}, "'/proc/log': 2.*; set ROS_LOG_DIR to a folder that can be written to"),
    ],
    ids=["parameter", "name", "log folder"],
)
@pytest.mark.parametrize("executable", ["perception_node", "play_bag", "record_perception"])
def test_an_executable_that_cannot_start_says_why(
    executable: str,
    arguments: list[str],
    settings: dict[str, str],
    why: str,
    drive: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    own = {"play_bag": [str(drive)], "record_perception": ["-o", "results.mcap", "--cameras", "front"]}
    done = subprocess.run(
        [sys.executable, "-m", f"ros_kd_perception.ros.{executable}", *own.get(executable, []), *arguments],
        env=environment | settings, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{executable}: ")
    assert re.search(why, last)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*results*"))


def test_a_word_that_ros_would_ignore_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    """`--params-file` without `--ros-args` before it had no effect, and the node ran with other parameters."""
    done = subprocess.run(
        [sys.executable, "-m", "ros_kd_perception.ros.perception_node", "--params-file", "node.yaml"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("perception_node: expected nothing but ROS arguments, behind --ros-args, got --params-file")
