"""Tests which shipped student `model: auto` is, on machines of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from ros_kd_perception.model import model_choice
from ros_kd_perception.model.execution_provider import CPU, CUDA
from ros_kd_perception.model.model_choice import ModelChoice, choose_model
from ros_kd_perception.system.cpu_kernels import Int8Kernels

WITH_VNNI = Int8Kernels(True, "this CPU has avx512_vnni")
WITHOUT_VNNI = Int8Kernels(False, "this CPU has none of avx512_vnni, avx_vnni, amx_int8", overflow=True)


@pytest.fixture
def on_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return a function that stands a machine in for this one: its CPU, its providers and its installed files."""

    def stand_in(kernels: Int8Kernels, providers: list[str], files: tuple[str, ...]) -> None:
        for file in files:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).touch()
        monkeypatch.setattr(model_choice, "int8_kernels", lambda: kernels)
        monkeypatch.setattr(model_choice, "available_providers", lambda: providers)
        monkeypatch.setattr(model_choice, "shipped_file", lambda name: tmp_path / name)

    return stand_in


BOTH = ("models/student.onnx", "models/student_int8.onnx")


@pytest.mark.parametrize(
    ("kernels", "providers", "device", "precision", "file", "why"),
    [
        (WITH_VNNI, [CPU], "auto", "auto", "student_int8.onnx", "this CPU has avx512_vnni"),
        (WITH_VNNI, [CUDA, CPU], "cpu", "auto", "student_int8.onnx", "this CPU has avx512_vnni"),
        (WITHOUT_VNNI, [CPU], "auto", "auto", "student.onnx", "this CPU has none of"),
        (WITH_VNNI, [CUDA, CPU], "auto", "auto", "student.onnx", "CUDAExecutionProvider runs networks of floats"),
        (WITH_VNNI, [CPU], "cuda", "auto", "student.onnx", "CUDAExecutionProvider runs networks of floats"),
        (WITH_VNNI, [CPU], "tensorrt", "auto", "student.onnx", "TensorrtExecutionProvider runs networks of floats"),
        (WITH_VNNI, [CPU], "cpu", "fp32", "student.onnx", "precision fp32 was asked for"),
        (WITHOUT_VNNI, [CPU], "cpu", "int8", "student_int8.onnx", "precision int8 was asked for"),
    ],
)
@pytest.mark.parametrize("model", ["auto", ""])
def test_int8_is_for_a_cpu_that_is_fast_with_it(
    on_machine, model: str, kernels: Int8Kernels, providers: list[str], device: str, precision: str, file: str, why: str
) -> None:
    on_machine(kernels, providers, BOTH)
    choice = choose_model(model, device, precision)
    assert Path(choice.path).name == file
    assert choice.reason.startswith(f"model auto is models/{file}: {why}")


def test_without_a_quantised_student_it_is_the_other_one_and_says_so(on_machine) -> None:
    on_machine(WITH_VNNI, [CPU], BOTH[:1])
    choice = choose_model("auto")
    assert Path(choice.path).name == "student.onnx"
    assert choice.reason == "model auto is models/student.onnx: models/student_int8.onnx is not installed"


def test_a_named_file_is_taken_as_it_is(on_machine) -> None:
    on_machine(WITH_VNNI, [CPU], BOTH)
    assert choose_model("/models/mine.onnx", "cpu") == ModelChoice("/models/mine.onnx", "")
