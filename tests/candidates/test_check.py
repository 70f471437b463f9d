"""Tests the child process that tries a candidate: its answers, and crashes, hangs and timeouts."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_student import double_a_shape, write_tiny_student

from ros_kd_perception.candidates import check, memory_limit
from ros_kd_perception.candidates.check import CandidatePassed, CandidateRefused, check_in_child
from ros_kd_perception.candidates.shadow_process import ShadowFailed, ShadowProcess
from ros_kd_perception.model.onnx_runtime import onnxruntime

OPTIONS = {"device": "cpu", "intra_op_threads": 1}


def test_a_good_model_passes_and_a_bad_one_is_refused_with_its_own_sentence(tmp_path: Path) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    assert check_in_child(str(path), OPTIONS) == CandidatePassed(hashlib.sha256(path.read_bytes()).hexdigest(), True)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():  # without CUDA the CPU runs the model
        assert not check_in_child(str(path), {**OPTIONS, "device": "cuda"}).as_asked
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(CandidateRefused, match=r"tiny\.onnx: expected to be an ONNX model"):
        check_in_child(str(path), OPTIONS)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_a_child_that_takes_too_much_memory_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_student(tmp_path / "doubling.onnx", change_graph=double_a_shape)
    monkeypatch.setattr(memory_limit, "MAX_MEMORY_BYTES", 384 << 20)
    with pytest.raises(
        CandidateRefused, match=r"doubling\.onnx to open within 0\.4 GiB of memory, it took 0\.[4-9] GiB or more"
    ):
        check_in_child(str(path), OPTIONS)
    shadow = ShadowProcess(str(path))
    with pytest.raises(ShadowFailed, match=r"doubling\.onnx to open within 0\.4 GiB of memory"):
        shadow.wait_until_ready()
    shadow.close()
    check_in_child(str(write_tiny_student(tmp_path / "tiny.onnx")), OPTIONS)


def test_private_memory_is_measured_and_the_limit_grows_with_the_file(tmp_path: Path) -> None:
    before = memory_limit.private_memory_bytes(os.getpid())
    held = np.ones(64 << 20, np.uint8)
    assert memory_limit.private_memory_bytes(os.getpid()) - before > 60 << 20
    assert held.size
    assert memory_limit.private_memory_bytes(1 << 22) == 0
    path = tmp_path / "weights"
    path.write_bytes(b"\x00" * 1000)
    assert memory_limit.limit_of_model(path) == (4 << 30) + 4000
    assert memory_limit.limit_of_model(tmp_path / "none") == 4 << 30
    assert memory_limit.limit_of_model(path, "tensorrt") == (12 << 30) + 4000


def stand_in(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a shell script in place of the interpreter, because a crash inside a driver cannot be provoked here."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(check.sys, "executable", str(script))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("kill -SEGV $$", "ended with signal SIGSEGV"),
        ("kill -KILL $$", "ended with signal SIGKILL"),
        ("exit 3", "ended with exit status 3"),
        ("exit 1", "ended with exit status 1"),
        ("exit 0", "ended with exit status 0"),  # it does not print the hash of the file
    ],
)
def test_a_crash_of_onnx_runtime_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    stand_in(tmp_path, body, monkeypatch)
    with pytest.raises(CandidateRefused, match=words):
        check_in_child("x.onnx", OPTIONS)


def test_a_child_that_hangs_is_ended_on_timeout_or_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "exec sleep 600", monkeypatch)
    with pytest.raises(CandidateRefused, match=r"to open within 0\.2 s"):
        check_in_child("x.onnx", OPTIONS, timeout_s=0.2)
    cancelled = threading.Event()
    threading.Timer(0.2, cancelled.set).start()
    started = time.monotonic()
    with pytest.raises(CandidateRefused, match="cancelled"):
        check_in_child("x.onnx", OPTIONS, cancelled.is_set)
    assert time.monotonic() - started < 300  # the child sleeps for 600 s


def test_a_missing_interpreter_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(CandidateRefused, match="expected to start a process"):
        check_in_child("x.onnx", OPTIONS)
