"""Tests that a model is tried once: which passes are remembered, and that a changed file is not opened afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_student import contract_with, quantise, write_tiny_model, write_tiny_student

from ros_kd_perception.candidates import trial
from ros_kd_perception.candidates.check import CandidatePassed, CandidateRefused
from ros_kd_perception.candidates.trial import try_model
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from ros_kd_perception.model.onnx_runtime import onnxruntime

OPTIONS: dict[str, Any] = {"device": "cpu", "precision": "auto", "max_batch": 2}


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Record the paths and options that were tried in a child process. Starts with nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    really_check, seen = trial.check_in_child, []

    def check(path: str, options: dict[str, Any], *arguments: Any, **more: Any) -> CandidatePassed:
        seen.append((path, {**options, **more}))
        return really_check(path, options, *arguments, **more)

    monkeypatch.setattr(trial, "check_in_child", check)
    return seen


def test_a_file_that_passed_is_not_tried_again_under_any_name(
    trials: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    sha256 = try_model(path, OPTIONS).sha256
    assert OnnxModel.open(path, **OPTIONS, sha256=sha256).sha256 == sha256
    assert try_model(path, {**OPTIONS, "intra_op_threads": 4}).sha256 == sha256
    assert try_model(path.rename(tmp_path / "renamed.onnx"), OPTIONS).sha256 == sha256
    assert len(trials) == 1
    assert trials[0][1]["intra_op_threads"] == 1


def test_another_file_device_batch_or_runtime_is_tried(
    trials: list[tuple[str, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    try_model(path, OPTIONS)
    try_model(path, {**OPTIONS, "max_batch": 3})
    try_model(path, {**OPTIONS, "device": "auto"})
    write_tiny_student(path, contract_with(version="2"))
    try_model(path, OPTIONS)
    monkeypatch.setattr(trial, "RUNTIME", "another")
    try_model(path, OPTIONS)
    assert len(trials) == 5
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]  # `auto` means the GPU once there is one
    monkeypatch.setattr(trial, "available_providers", lambda: providers)
    try_model(path, OPTIONS)
    assert len(trials) == 6


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="wants no GPU")
def test_a_model_that_passed_on_a_fallback_is_tried_again(
    trials: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    for count in (1, 2):
        try_model(path, {**OPTIONS, "device": "cuda"})
        assert len(trials) == count


def test_a_refusal_is_not_remembered(trials: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"\x00" * 100)
    for count in (1, 2):
        with pytest.raises(CandidateRefused, match="expected to be an ONNX model"):
            try_model(path, OPTIONS)
        assert len(trials) == count
    with pytest.raises(CandidateRefused, match=r"expected an ONNX file at .*nowhere\.onnx, found none"):
        try_model(tmp_path / "nowhere.onnx", OPTIONS)


def test_tensorrt_is_tried_each_time_and_may_take_longer(
    trials: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    for _ in range(2):  # on the CPU, because TensorRT is missing here
        try_model(path, {**OPTIONS, "device": "tensorrt"})
    assert [options["timeout_s"] for _, options in trials] == [1800, 1800]


def test_a_folder_that_others_may_write_to_is_not_used(
    trials: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    try_model(path, OPTIONS)
    folder = tmp_path / "cache/ros_kd_perception/passed"
    assert len(list(folder.iterdir())) == 1
    folder.chmod(0o777)
    try_model(path, OPTIONS)
    assert len(trials) == 2
    folder.chmod(0o700)
    for record in folder.iterdir():
        record.unlink()
    folder.rmdir()
    (tmp_path / "cache/ros_kd_perception").rmdir()
    (tmp_path / "cache/ros_kd_perception").write_text("in the way")
    try_model(path, OPTIONS)
    assert len(trials) == 3


def test_a_user_without_a_home_folder_can_try_a_model(
    trials: list[tuple[str, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    monkeypatch.delenv("XDG_CACHE_HOME")

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    for count in (1, 2):
        try_model(path, OPTIONS)
        assert len(trials) == count


def test_a_file_that_was_replaced_after_its_trial_is_not_opened(
    trials: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    sha256 = try_model(path, OPTIONS).sha256
    write_tiny_student(path, contract_with(version="2"))
    with pytest.raises(ModelError, match=r"to be the file that was tried a moment ago, it has changed since"):
        OnnxModel.open(path, **OPTIONS, sha256=sha256)


def test_the_speed_of_a_quantised_file_is_measured_once(
    trials: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    path = write_tiny_model(tmp_path / "int8.onnx", contract_with(precision="int8"), quantise)
    first, second = (try_model(path, OPTIONS) for _ in range(2))
    assert len(trials) == 1
    assert first.time_share_of_fp32 is not None
    assert second == first
    assert first.speed.startswith(
        f"INT8 runs in {first.time_share_of_fp32:.2f} of the time of the same file in fp32 here"
    )
    assert try_model(write_tiny_student(tmp_path / "tiny.onnx"), OPTIONS).speed == ""


def test_a_quantised_file_that_is_slower_says_so() -> None:
    assert CandidatePassed("", True, 1.19).speed == (
        "INT8 runs in 1.19 of the time of the same file in fp32 here; a model of fp32 is faster on this CPU"
    )
    assert "faster" not in CandidatePassed("", True, 0.42).speed
