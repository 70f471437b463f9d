"""Test the output of render_drive: bags and training samples, equal for any number of processes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ros_kd_perception import render_drive
from ros_kd_perception.bags.reader import BagReader, decode_message, read_camera_frames
from ros_kd_perception.sample_drive import SampleDrive, default_cameras
from ros_kd_perception.sample_drive.drive_bag import START_NS, DrivePlan, write_drive
from ros_kd_perception.structures import Frame


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_samples_do_not_depend_on_the_number_of_processes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, processes in ((one, "1"), (two, "2")):
        command = [
            "--samples",
            str(folder),
            "--count",
            "6",
            "--size",
            "128x72",
            "--seed",
            "4",
            "--processes",
            processes,
        ]
        assert render_drive.main(command) == 0
    assert digests(one) == digests(two)
    boxes = json.loads((one / "boxes.json").read_text())
    assert sorted(boxes) == [f"{index:06d}" for index in range(6)]
    assert boxes["000000"]["seed"] == boxes["000003"]["seed"] == 4_000_000
    assert boxes["000004"]["seed"] == 4_000_001
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    for stem, entry in boxes.items():
        image = cv2.imread(str(one / "images" / f"{stem}.jpg"))
        mask = cv2.imread(str(one / "masks" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        assert image.shape == (72, 128, 3)
        assert mask.shape == (72, 128)
        assert set(np.unique(mask)) <= {*range(11), 255}
        assert len(entry["boxes_xyxy"]) == len(entry["labels"])
        for box in entry["boxes_xyxy"]:
            assert 0 <= box[0] < box[2] <= 128
            assert 0 <= box[1] < box[3] <= 72


def test_an_interrupt_leaves_no_samples(tmp_path, monkeypatch):
    from ros_kd_perception.sample_drive import training_samples

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training_samples, "render_pool", interrupted)
    assert render_drive.main(["--samples", str(tmp_path / "s"), "--count", "2"]) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["-o drive.mcap --duration-s 600", "--samples samples --count 5000"])
def test_a_signal_leaves_nothing(tmp_path, output):
    command = "import sys; from ros_kd_perception.render_drive import main; sys.exit(main())"
    arguments = [sys.executable, "-c", command, *output.split(), "--size", "128x96", "--processes", "1"]
    with subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode().splitlines()[-1] == "render_drive: interrupted, nothing was written"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["-o drive.mcap", "--samples samples"])
@pytest.mark.parametrize("other_thread", ["", "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"])
def test_an_interrupt_while_a_worker_starts_leaves_one_sentence(tmp_path, output, other_thread):
    """A worker that was started, but never got what it is to do, would end with a traceback of its own.

    The kernel gives the signal to another thread where the main thread blocks it.
    """
    script = f"""
import os, signal, sys, threading, time
from multiprocessing import util
from ros_kd_perception.render_drive import main

{other_thread}

def start(*words, start=util.spawnv_passfds):
    process = start(*words)
    if "spawn_main" in str(words):  # not the tracker of resources, which comes first
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # another thread may take the signal and has to run for that
    return process

util.spawnv_passfds = start
sys.exit(main())
"""
    arguments = [sys.executable, "-c", script, *output.split(), "--size", "128x96", "--processes", "1"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "render_drive: interrupted, nothing was written"
    assert list(tmp_path.iterdir()) == []


def test_a_bag_holds_the_rendered_frames_and_calibrations(tmp_path):
    bag = tmp_path / "drive.mcap"
    command = ["-o", str(bag), "--duration-s", "0.4", "--rate-hz", "5", "--size", "160x90", "--seed", "2"]
    assert render_drive.main([*command, "--weather", "rain"]) == 0
    assert render_drive.main([*command, "--weather", "rain", "--processes", "1", "-o", str(tmp_path / "b.mcap")]) == 0
    assert bag.read_bytes() == (tmp_path / "b.mcap").read_bytes()
    cameras = default_cameras(160, 90)
    drive = SampleDrive(2, "rain", 0.4, cameras)
    with BagReader(bag) as reader:
        assert reader.cameras == {name: f"/{name}/image_raw" for name in ("front", "left", "right")}
        frames = [frame for _, _, frame in read_camera_frames(reader)]
        assert len(frames) == 6
        for frame in frames:
            assert isinstance(frame, Frame)
            assert frame.frame_id == f"{frame.camera}_optical_frame"
            view = drive.render(frame.camera, (frame.stamp_ns - START_NS) / 1e9)
            assert np.array_equal(frame.image_bgr, view.image_bgr)
        infos = [decode_message(m) for m in reader.raw_messages(["/left/camera_info"])]
    assert [info.header.stamp.nanosec for info in infos] == [0, 200_000_000]
    left = next(camera for camera in cameras if camera.name == "left")
    assert np.allclose(infos[0].k, left.intrinsic_matrix.reshape(-1))
    assert np.allclose(infos[0].p.reshape(3, 4)[:, :3], left.intrinsic_matrix)
    assert (infos[0].width, infos[0].height, infos[0].distortion_model) == (160, 90, "plumb_bob")


def test_a_compressed_bag_decodes_to_nearly_the_same(tmp_path):
    bag = tmp_path / "drive"
    command = ["-o", str(bag), "--duration-s", "0.2", "--size", "320x180", "--cameras", "front", "--compressed"]
    assert render_drive.main(command) == 0
    with BagReader(bag) as reader:
        assert reader.cameras == {"front": "/front/image_raw/compressed"}
        (frame,) = [frame for _, _, frame in read_camera_frames(reader)]
    assert isinstance(frame, Frame)
    view = SampleDrive(0, "day", 0.2, default_cameras(320, 180)).render("front", 0.0)
    assert np.abs(frame.image_bgr.astype(int) - view.image_bgr).mean() < 4


def test_bad_requests_end_with_one_sentence(tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").touch()
    for command in (
        [],
        ["-o", "a.mcap", "--samples", "b"],
        ["--samples", str(tmp_path / "taken")],
        ["--samples", str(tmp_path / "none"), "--count", "0"],
        ["-o", str(tmp_path / "x.txt"), "--duration-s", "1"],
        ["-o", str(tmp_path / "x.mcap"), "--rate-hz", "0"],
        ["-o", str(tmp_path / "x.mcap"), "--rate-hz", "inf"],
        ["-o", str(tmp_path / "x.mcap"), "--duration-s", "inf"],
        ["-o", str(tmp_path / "x.mcap"), "--duration-s", "nan"],
        ["-o", str(tmp_path / "x.mcap"), "--seed", "-1"],
        ["-o", str(tmp_path / "x.mcap"), "--processes", "0"],
        ["-o", str(tmp_path / "x.mcap"), "--processes", "100000"],
        ["-o", str(tmp_path / "x.mcap"), "--count", "3"],
        ["--samples", str(tmp_path / "none"), "--seed", "-1"],
        ["--samples", str(tmp_path / "file" / "none"), "--count", "1"],
        ["--samples", str(tmp_path / "none"), "--processes", "100000"],
        ["--samples", str(tmp_path / "none"), "--weather", "rain"],
        ["--samples", str(tmp_path / "none"), "--compressed", "--force"],
    ):
        assert render_drive.main(command) == 2, command
        assert len(capsys.readouterr().err.strip().splitlines()) == 1, command
    unusable_words = (["-o", "a.mcap", "--size", "big"], ["-o", "a.mcap", "--weather", "snow"], ["-o", ""])
    for command in (*unusable_words, ["--samples", " "]):
        with pytest.raises(SystemExit) as stop:
            render_drive.main(command)
        assert stop.value.code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_a_message_names_the_one_value_that_is_wrong(tmp_path, capsys):
    for option, value, said in (
        ("--seed", "-1", "expected a seed of 0 or more, got -1"),
        ("--duration-s", "0", "expected a duration above 0 and up to 600 s, got 0 s"),
        ("--rate-hz", "2000", "expected a rate above 0 and up to 1000 Hz, got 2000 Hz"),
        ("--processes", "0", "expected 1 to 256 worker processes, got 0"),
    ):
        assert render_drive.main(["-o", str(tmp_path / "x.mcap"), option, value]) == 2
        assert capsys.readouterr().err == f"render_drive: {said}\n"


def test_an_error_in_a_worker_ends_the_command(tmp_path):
    """The pool starts a worker whose preparation fails again and again, so the drive is not built there."""
    cameras = default_cameras(64, 64)[:1]
    unknown_weather = DrivePlan(0, "snow", 0.2, 5.0, cameras)
    with pytest.raises(ValueError, match="snow"):
        write_drive(tmp_path / "x.mcap", unknown_weather, processes=1)
    assert list(tmp_path.iterdir()) == []
