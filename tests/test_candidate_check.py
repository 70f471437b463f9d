"""A candidate is tried in a process of its own: what it says, and what becomes of one that crashes, hangs, is late."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from tiny_student import write_tiny_student

from ros_kd_perception import candidate_check
from ros_kd_perception.candidate_check import CandidateRefused, check_in_child

OPTIONS = {"device": "cpu", "intra_op_threads": 1}


def test_a_good_model_passes_and_a_bad_one_is_refused_with_its_own_sentence(tmp_path: Path) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    check_in_child(str(path), OPTIONS, threading.Event())
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(CandidateRefused, match=r"tiny\.onnx: expected to be an ONNX model"):
        check_in_child(str(path), OPTIONS, threading.Event())


def stand_in(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell script stand in for the interpreter: what a broken driver does to it cannot be had otherwise."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(candidate_check.sys, "executable", str(script))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("kill -SEGV $$", "ended with signal SIGSEGV"),
        ("kill -KILL $$", "ended with signal SIGKILL"),
        ("exit 3", "ended with exit status 3"),
        ("exit 1", "ended with exit status 1"),
    ],
)
def test_a_crash_of_the_runtime_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    stand_in(tmp_path, body, monkeypatch)
    with pytest.raises(CandidateRefused, match=words):
        check_in_child("x.onnx", OPTIONS, threading.Event())


def test_one_that_hangs_is_ended_when_it_is_late_or_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "exec sleep 600", monkeypatch)
    with pytest.raises(CandidateRefused, match=r"to open within 0\.2 s"):
        check_in_child("x.onnx", OPTIONS, threading.Event(), timeout_s=0.2)
    cancelled = threading.Event()
    threading.Timer(0.2, cancelled.set).start()
    started = time.monotonic()
    with pytest.raises(CandidateRefused, match="cancelled"):
        check_in_child("x.onnx", OPTIONS, cancelled)
    assert time.monotonic() - started < 300  # of 600


def test_an_interpreter_that_is_gone_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_check.sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(CandidateRefused, match="expected to start a process"):
        check_in_child("x.onnx", OPTIONS, threading.Event())
