"""Tests the GPU code as far as a CPU can: options, cache folders, fallbacks, node counts and runs in fixed buffers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from checkout import ROOT
from onnx import helper, numpy_helper
from tiny_student import HEIGHT, WIDTH, expected_class_map, write_tiny_student

from ros_kd_perception.model import execution_provider, onnx_model
from ros_kd_perception.model.engine_cache import gpu_identity, prepare_cache_folder
from ros_kd_perception.model.execution_provider import (
    CPU,
    CUDA,
    TENSORRT,
    ProviderError,
    ProviderReport,
    SessionRequest,
    gpu_providers,
    misplaced,
    open_session,
    wanted_provider,
)
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from ros_kd_perception.model.session import BoundSession

ALL = [TENSORRT, CUDA, CPU]
SHAPE = (HEIGHT, WIDTH, 3)


def request(path: Path, **changes: object) -> SessionRequest:
    values = {"device": "cpu", "precision": "auto", "file_precision": "fp32", "input_shape": SHAPE}
    return SessionRequest(path.read_bytes(), "ab" * 32, **(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_student(tmp_path / "tiny.onnx")


def test_each_device_maps_to_a_provider() -> None:
    assert wanted_provider("auto", ALL) == CUDA
    assert wanted_provider("auto", [CPU]) == CPU
    assert wanted_provider("tensorrt", [CPU]) == TENSORRT
    assert wanted_provider("cpu", ALL) == CPU


def test_options_of_cuda(tiny: Path) -> None:
    (name, options), last = gpu_providers(CUDA, request(tiny), None, cuda_graph=True)
    assert (name, last) == (CUDA, CPU)
    assert options["enable_cuda_graph"] == "1"
    assert "use_tf32" not in options
    ((_, exact), _) = gpu_providers(CUDA, request(tiny, precision="fp32"), None, cuda_graph=False)
    assert (exact["enable_cuda_graph"], exact["use_tf32"]) == ("0", "0")


@pytest.mark.parametrize(
    ("precision", "file_precision", "fp16", "int8"),
    [
        ("auto", "fp32", None, None),
        ("fp16", "fp32", "1", None),
        ("auto", "fp16", "1", None),
        ("auto", "int8", None, "1"),
    ],
)
def test_options_of_tensorrt(
    tiny: Path, tmp_path: Path, precision: str, file_precision: str, fp16: str | None, int8: str | None
) -> None:
    wanted = request(tiny, precision=precision, file_precision=file_precision, max_batch=4)
    (name, options), (second, cuda), last = gpu_providers(TENSORRT, wanted, tmp_path, cuda_graph=True)
    assert (name, second, last) == (TENSORRT, CUDA, CPU)
    assert (options.get("trt_fp16_enable"), options.get("trt_int8_enable")) == (fp16, int8)
    assert options["trt_profile_min_shapes"] == "images:1x64x96x3"
    assert options["trt_profile_max_shapes"] == options["trt_profile_opt_shapes"] == "images:4x64x96x3"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(tmp_path)
    assert cuda["enable_cuda_graph"] == "0"  # a recorded CUDA graph would leave out TensorRT's nodes


def test_each_identity_has_its_own_engine_cache_that_only_the_user_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    identity = ("model", "fp16", "batch 1", "Orin", "ONNX Runtime 1.26", "TensorRT 100300")
    folder = prepare_cache_folder(identity)
    assert folder == prepare_cache_folder(identity)
    assert folder.stat().st_mode & 0o777 == 0o700
    others = {prepare_cache_folder((*identity[:i], "other", *identity[i + 1 :])) for i in range(len(identity))}
    assert len(others | {folder}) == 7
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="this user alone"):
        prepare_cache_folder(identity)
    (folder / "made_for.txt").unlink()
    folder.rmdir()
    folder.symlink_to(others.pop())
    with pytest.raises(PermissionError, match="this user alone"):
        prepare_cache_folder(identity)


def test_the_gpu_is_identified_by_model_and_driver(tmp_path: Path) -> None:
    assert gpu_identity(tmp_path) == "unknown"
    folder = tmp_path / "driver/nvidia/gpus/0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA RTX A2000\nIRQ:   50\nGPU UUID: GPU-x\n")
    (tmp_path / "driver/nvidia/version").write_text("NVRM version: 580.65\nGCC version: 13\n")
    assert gpu_identity(tmp_path) == "NVIDIA RTX A2000; NVRM version: 580.65"
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin\0")
    assert "NVIDIA Jetson AGX Orin" in gpu_identity(tmp_path)


def test_heavy_nodes_on_another_provider_are_a_fallback_and_light_nodes_are_not() -> None:
    assert misplaced(CUDA, {CUDA: 35}, {CUDA: 120, CPU: 6}) == ""
    assert misplaced(CUDA, {CUDA: 35}, None) == ""
    assert misplaced(CUDA, {CUDA: 30, CPU: 5}, None) == f"5 of 35 convolutions and products run on {CPU}"
    assert misplaced(TENSORRT, {CUDA: 35}, {CUDA: 120}) == f"35 of 35 convolutions and products run on {CUDA}"
    assert misplaced(TENSORRT, {}, {CUDA: 120}) == f"{TENSORRT} took none of the 120 nodes"


def test_every_node_of_the_shipped_student_is_counted() -> None:
    model = OnnxModel.open(ROOT / "models/student.onnx", device="cpu", intra_op_threads=1)
    if model.provider.nodes is None:
        assert "unknown" in model.provider.placement()
        return
    assert list(model.provider.nodes) == [CPU]
    assert model.provider.nodes[CPU] > 50
    assert model.provider.placement() == f"{CPU} {model.provider.nodes[CPU]}"


def test_a_gpu_without_node_counts_is_unproven_and_refused_if_a_gpu_is_required(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ProviderReport(CPU, CPU).unproven == ""
    assert ProviderReport(CUDA, CUDA, nodes={CUDA: 120, CPU: 6}).unproven == ""
    assert "placement cannot be proven by ONNX Runtime" in ProviderReport(CUDA, CUDA).unproven

    def open_as_an_old_runtime_does(wanted: SessionRequest, *, cuda_graph: bool) -> object:
        session, _ = open_session(replace(wanted, device="cpu"))
        return session, ProviderReport(CUDA, CUDA)

    monkeypatch.setattr(onnx_model, "open_session", open_as_an_old_runtime_does)
    monkeypatch.setattr(onnx_model, "BoundSession", lambda *a, **k: BoundSession(*a, max_batch=1, device_type="cpu"))
    assert OnnxModel.open(tiny).provider.unproven
    with pytest.raises(ModelError, match=r"require_gpu is set\), got none: placement cannot be proven"):
        OnnxModel.open(tiny, require_gpu=True)


def session_without_gpu(how: str) -> Callable[..., Any]:
    """Create sessions as ONNX Runtime's GPU build does if a library or the GPU is missing."""
    real = execution_provider.onnxruntime.InferenceSession

    def make(content: bytes, options: Any, providers: list[Any], **more: Any) -> Any:
        if how == "raises" and providers != [CPU]:
            raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")
        return real(content, options, providers=[CPU], **more)

    return make


@pytest.mark.parametrize("how", ["leaves it out", "raises"])
def test_a_provider_that_is_listed_but_does_not_start_is_a_fallback_with_its_reason(
    how: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(execution_provider.onnxruntime, "get_available_providers", lambda: ALL)
    monkeypatch.setattr(execution_provider.onnxruntime, "InferenceSession", session_without_gpu(how))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for device, provider in (("auto", CUDA), ("cuda", CUDA), ("tensorrt", TENSORRT)):
        model = OnnxModel.open(tiny, device=device)
        assert (model.provider.asked, model.provider.used) == (provider, CPU)
        assert provider in model.provider.fallback
        assert f"{provider} was asked for, {CPU} runs: {model.provider.fallback}" in capsys.readouterr().err
        with pytest.raises(ModelError, match="require_gpu is set"):
            OnnxModel.open(tiny, device=device, require_gpu=True)


def test_a_model_that_runs_as_requested_prints_nothing(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    OnnxModel.open(tiny, device="cpu")
    assert capsys.readouterr().err == ""


def test_an_engine_cache_that_cannot_be_used_is_a_fallback_with_its_reason(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution_provider.onnxruntime, "get_available_providers", lambda: ALL)
    monkeypatch.setattr(execution_provider.onnxruntime, "InferenceSession", session_without_gpu("raises"))
    (tmp_path / "no_folder").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no_folder"))
    _, report = open_session(request(tiny, device="tensorrt"))
    assert report.used == CPU
    assert "the engine cache cannot be used" in report.fallback


def bound(path: Path, max_batch: int) -> BoundSession:
    """Return the runner for GPUs with its buffers on the CPU."""
    session, _ = open_session(request(path, intra_op_threads=1))
    outputs = {
        "class_map": (np.uint8, (HEIGHT // 4, WIDTH // 4)),
        "boxes": (np.float32, (6, 4)),
        "scores": (np.float32, (6,)),
        "labels": (np.int32, (6,)),
        "uncertainty": (np.float32, (HEIGHT // 32, WIDTH // 32)),
    }
    return BoundSession(session, SHAPE, outputs, max_batch=max_batch, device_type="cpu")


def test_fixed_buffers_give_the_same_outputs_as_arrays_for_every_batch_size(tiny: Path) -> None:
    plain, runner = OnnxModel.open(tiny, device="cpu", intra_op_threads=1), bound(tiny, 3)
    random = np.random.default_rng(0)
    kept = []
    for count in (1, 3, 2, 1, 3):
        images = random.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
        expected, found = plain.run(images), runner.run(images)
        assert (found[0] == expected.class_map).all()
        assert (found[1] == expected.boxes_xyxy).all()
        assert (found[4] == expected.uncertainty).all()
        kept.append((images, found[0]))
    for images, class_map in kept:  # a later run must not overwrite the arrays that an earlier run returned
        assert (class_map[0] == expected_class_map(images[0])).mean() > 0.99


def test_batches_over_the_limit_and_other_sizes_are_refused(tiny: Path) -> None:
    runner = bound(tiny, 2)
    for shape in ((3, *SHAPE), (0, *SHAPE), (1, HEIGHT, WIDTH + 1, 3)):
        with pytest.raises(ValueError, match="expected 1 to 2 network inputs"):
            runner.run(np.zeros(shape, np.uint8))


def test_golden_frames_run_in_full_batches_if_frames_do(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class Recording(BoundSession):
        def run(self, images: np.ndarray) -> list[np.ndarray]:
            sizes.append(len(images))
            return super().run(images)

    def open_as_if_on_gpu(wanted: SessionRequest, *, cuda_graph: bool) -> object:
        session, _ = open_session(replace(wanted, device="cpu"))
        return session, ProviderReport(CUDA, CUDA)

    monkeypatch.setattr(onnx_model, "open_session", open_as_if_on_gpu)
    monkeypatch.setattr(
        onnx_model, "BoundSession", lambda *a, **k: Recording(*a, max_batch=k["max_batch"], device_type="cpu")
    )
    model = OnnxModel.open(tiny, device="cpu", max_batch=3)
    assert model.max_batch == 3
    assert sizes == [1, 1, 3]  # each of the two frames alone, then one batch of both and the first again
    assert model.golden is not None
    assert model.golden.class_map_agreement == 1.0


def test_a_network_that_cannot_be_recorded_runs_without_a_cuda_graph(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unrecordable(BoundSession):
        def run(self, images: np.ndarray) -> list[np.ndarray]:
            if self._cuda_graph:
                raise RuntimeError("operation not permitted when stream is capturing")
            return super().run(images)

    def open_as_if_on_gpu(wanted: SessionRequest, *, cuda_graph: bool) -> object:
        session, _ = open_session(replace(wanted, device="cpu"))
        return session, ProviderReport(CUDA, CUDA, cuda_graph="on" if cuda_graph else "")

    monkeypatch.setattr(onnx_model, "open_session", open_as_if_on_gpu)
    monkeypatch.setattr(
        onnx_model,
        "BoundSession",
        lambda *a, **k: Unrecordable(*a, max_batch=1, device_type="cpu", cuda_graph=k["cuda_graph"]),
    )
    model = OnnxModel.open(tiny)
    assert model.golden is not None
    assert "cannot be recorded" in model.provider.cuda_graph or model.provider.cuda_graph == ""


def test_a_network_that_exceeds_the_memory_limit_fails_without_harming_others(tiny: Path, tmp_path: Path) -> None:
    path = write_tiny_student(tmp_path / "bomb.onnx")
    bomb = onnx.load(path)
    graph = bomb.graph
    graph.node[-1].output[0] = "uncertainty_alone"
    graph.initializer.append(numpy_helper.from_array(np.array([1 << 16, 1 << 15], np.int64), "big_shape"))
    graph.node.append(helper.make_node("ConstantOfShape", ["big_shape"], ["big"]))  # 8 GiB of float32
    graph.node.append(helper.make_node("ReduceMean", ["big"], ["big_mean"], keepdims=0))
    graph.node.append(helper.make_node("Add", ["uncertainty_alone", "big_mean"], ["uncertainty"]))
    path.write_bytes(bomb.SerializeToString())
    with pytest.raises(ModelError, match=r"Available memory of .* is smaller than requested"):
        OnnxModel.open(path, device="cpu")
    assert OnnxModel.open(tiny, device="cpu").golden is not None


FOLDED = """
import resource, sys
from ros_kd_perception.model import session_start
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
session_start.MAX_MEMORY_BYTES = 64 << 20  # can only be set once in a process
peak_kib = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak_kib()
try:
    OnnxModel.open(sys.argv[1], device="cpu", intra_op_threads=1)
except ModelError:
    pass
print(peak_kib() - before >> 10)
"""


def constant_of_shape(graph: onnx.GraphProto, index: int) -> None:
    name = f"big_{index}"
    shape = np.array([(8 << 20) + index], np.int64)  # ONNX Runtime would merge equal ones
    graph.initializer.append(numpy_helper.from_array(shape, f"{name}_shape"))
    graph.node.append(helper.make_node("ConstantOfShape", [f"{name}_shape"], [name]))


def doubling_concat(graph: onnx.GraphProto, index: int) -> None:
    name = f"big_{index}"
    graph.initializer.append(numpy_helper.from_array(np.full(1024, index, np.float32), f"{name}_0"))
    for step in range(13):
        whole = name if step == 12 else f"{name}_{step + 1}"
        graph.node.append(helper.make_node("Concat", [f"{name}_{step}"] * 2, [whole], axis=0))


@pytest.mark.parametrize("generate", [constant_of_shape, doubling_concat])
def test_constants_that_a_small_graph_generates_stay_within_the_limit(
    tmp_path: Path, generate: Callable[[onnx.GraphProto, int], None]
) -> None:
    # Each constant takes 32 MiB, which is small enough for ONNX Runtime to fold it. None can be freed early, because
    # the Gather needs the batch size.
    path = write_tiny_student(tmp_path / "folded.onnx")
    folded = onnx.load(path)
    graph = folded.graph
    graph.node[-1].output[0] = "sum_0"
    for index in range(12):
        generate(graph, index)
        graph.node.append(helper.make_node("Gather", [f"big_{index}", "batch"], [f"row_{index}"]))
        total = "uncertainty" if index == 11 else f"sum_{index + 1}"
        graph.node.append(helper.make_node("Add", [f"sum_{index}", f"row_{index}"], [total]))
    path.write_bytes(folded.SerializeToString())
    run = subprocess.run(
        [sys.executable, "-c", FOLDED, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 64 + 100  # MiB: the limit and the rest of a session; folded, the constants take 384


def test_a_file_without_a_graph_is_refused_in_one_line(tiny: Path) -> None:
    with pytest.raises(ProviderError) as error:
        open_session(SessionRequest(b"\x08\x08", "", "cpu", "auto", "fp32", SHAPE))
    assert "\n" not in str(error.value)


def test_weights_that_a_quantised_file_keeps_in_fp32_stay_so() -> None:
    # Between integers, ONNX Runtime would round these weights to steps of 1 / 127, and the second one to 0.
    weights = np.array([1.0, 0.003], np.float32).reshape(2, 1, 1, 1)
    constants = {"scale": np.float32(1), "fine": np.float32(0.01), "zero": np.int8(0), "weights": weights}
    constants["bias"] = np.zeros(2, np.float32)
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["floats", "scale", "zero"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["rounded"]),
        helper.make_node("Conv", ["rounded", "weights", "bias"], ["sums"]),
        helper.make_node("QuantizeLinear", ["sums", "fine", "zero"], ["sum_integers"]),
        helper.make_node("DequantizeLinear", ["sum_integers", "fine", "zero"], ["outputs"]),
    ]
    shapes = {"images": (onnx.TensorProto.UINT8, [1, 1, 1, 1]), "outputs": (onnx.TensorProto.FLOAT, [1, 2, 1, 1])}
    values = {name: helper.make_tensor_value_info(name, *shape) for name, shape in shapes.items()}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "mixed", [values["images"]], [values["outputs"]], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

    session, _ = open_session(SessionRequest(model.SerializeToString(), "", "cpu", "auto", "int8", (1, 1, 1)))
    (outputs,) = session.run(None, {"images": np.full((1, 1, 1, 1), 100, np.uint8)})
    assert outputs.ravel() == pytest.approx([1.27, 0.3])
