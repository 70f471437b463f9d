"""Tests that outputs get only free names, and that no folder is created in the root of the file system."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from checkout import ROOT
from small_bag import write_small_bag
from tiny_student import write_tiny_student

from ros_kd_perception.system.output_paths import (
    OutputPathError,
    check_folder,
    check_free,
    make_folder,
    remove_if_empty,
)


@pytest.fixture
def mistyped() -> Path:
    """Return a missing folder in the root of the file system, such as `/outt`."""
    return Path("/", f"outt-{uuid.uuid4().hex[:8]}")


def test_missing_folders_are_created_and_removed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_folder(tmp_path / "a" / "b")
    assert made == [tmp_path / "a" / "b", tmp_path / "a"]
    (tmp_path / "a" / "kept").touch()
    remove_if_empty(made)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]
    assert make_folder(tmp_path / "a") == []
    monkeypatch.chdir(tmp_path)
    assert make_folder(Path("c")) == [Path("c")]


def test_no_folder_is_created_in_the_root(mistyped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("/")
    depth = len(tmp_path.parts) - 1
    monkeypatch.chdir("/")
    for folder in (
        mistyped,
        mistyped / "runs" / "first",
        tmp_path / "link" / mistyped.name,
        tmp_path.joinpath(*[".."] * depth, mistyped.name),
        Path(mistyped.name),
    ):
        with pytest.raises(OutputPathError, match=rf"{re.escape(str(mistyped))} does not exist; .*mkdir {mistyped}"):
            make_folder(folder)
    assert not mistyped.exists()
    for folder in (Path("/"), Path("/tmp"), tmp_path):
        check_folder(folder)


def test_an_existing_output_is_refused_with_the_option_that_replaces_it(tmp_path: Path) -> None:
    file, folder, link = tmp_path / "a.mcap", tmp_path / "a", tmp_path / "link"
    file.touch()
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    check_free(tmp_path / "b", replace=False)
    check_free(file, replace=True)
    with pytest.raises(OutputPathError, match=r"a\.mcap exists; choose another name, or replace it with --anew"):
        check_free(file, replace=False, option="--anew")
    for taken in (folder, link):
        with pytest.raises(OutputPathError, match="exists; choose another name, or remove it"):
            check_free(taken, replace=True)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "bag": write_small_bag(folder / "drive.mcap", frames=1),
        "model": write_tiny_student(folder / "tiny.onnx"),
    }


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("ros_kd_perception.replay", "{bag} --model {model} -o {out}/drive.mcap"),
        ("ros_kd_perception.replay", "{bag} --model {model} -o {out}"),
        ("ros_kd_perception.demo", "--bag {bag} --model {model} --output {out}/demo"),
        ("ros_kd_perception.demo", "--bag {bag} --model {model} --output {out}"),
        ("ros_kd_perception.render_drive", "--duration-s 0.1 -o {out}/drive.mcap"),
        ("ros_kd_perception.render_drive", "--count 1 --samples {out}"),
        ("ros_kd_perception.ros.record_perception", "--cameras front -o {out}/results.mcap"),
    ],
)
def test_no_command_creates_a_folder_in_the_root(
    inputs: dict[str, Path], mistyped: Path, module: str, arguments: str
) -> None:
    done = command(module, *arguments.format(**inputs, out=mistyped).split())
    assert not mistyped.exists()
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert f"{mistyped} does not exist; check its spelling" in last
    assert "Traceback" not in done.stderr


def test_a_rendered_drive_is_replaced_only_on_request(tmp_path: Path) -> None:
    drive = tmp_path / "drive.mcap"
    drive.write_text("old")
    render = ("--duration-s", "0.1", "--size", "64x64", "--cameras", "front", "--processes", "1", "-o", str(drive))
    done = command("ros_kd_perception.render_drive", *render)
    assert (done.returncode, drive.read_text()) == (2, "old")
    assert "replace it with --force" in done.stderr
    assert command("ros_kd_perception.render_drive", *render, "--force").returncode == 0
    assert drive.stat().st_size > 1000
    assert os.listdir(tmp_path) == ["drive.mcap"]
