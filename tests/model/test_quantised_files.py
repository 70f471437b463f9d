"""Tests what the golden gate and the hash of the graph make of quantised files, whole and tampered with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_student import contract_with, expected_class_map, quantise, write_tiny_model

from ros_kd_perception.model import session_start
from ros_kd_perception.model.contract import GoldenLimits
from ros_kd_perception.model.contract_file import GRAPH_SHA256_KEY
from ros_kd_perception.model.int8_speed import time_share_of_fp32
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from ros_kd_perception.system.cpu_kernels import Int8Kernels

INT8 = contract_with(precision="int8", golden=GoldenLimits(0.99, 0.9, 0.1))
GRADIENT = np.broadcast_to(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], (64, 96, 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "int8.onnx", INT8, quantise)


def test_a_quantised_file_opens_by_its_own_golden_outputs(path: Path) -> None:
    model = OnnxModel.open(path, device="cpu")
    found = model.run(np.ascontiguousarray(GRADIENT[None])).class_map
    assert found is not None
    assert (found[0] == expected_class_map(GRADIENT)).mean() > 0.9  # its steps are coarser than those of floats
    assert model.golden is not None
    assert model.golden.class_map_agreement == 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernels", [Int8Kernels(True, ""), Int8Kernels(False, "", overflow=True)])
def test_the_arithmetic_of_a_cpu_without_int8_kernels_gives_the_same_sums(
    path: Path, monkeypatch: pytest.MonkeyPatch, kernels: Int8Kernels, threads: int
) -> None:
    monkeypatch.setattr(session_start, "int8_kernels", lambda: kernels)
    model = OnnxModel.open(path, device="cpu", intra_op_threads=threads)
    assert model.golden is not None
    assert model.golden.class_map_agreement == 1


def change_tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[onnx.ModelProto], None]:
    def apply(model: onnx.ModelProto) -> None:
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        old = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(change(old).astype(old.dtype), name))

    return apply


TAMPERED = {
    "a weight scale doubled": change_tensor("weights_scale", lambda scale: scale * 2),
    "a zero point moved": change_tensor("pixel_zero", lambda zero: zero + 40),
    "an activation scale changed": change_tensor("cells_scale", lambda scale: scale * 1.1),
    "weights permuted": change_tensor("weights_int8", lambda weights: weights[:, ::-1]),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_quantised_file_is_refused_by_its_golden_frames(
    path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"expected golden frame \d on CPUExecutionProvider to agree in at least"):
        OnnxModel.open(path, device="cpu")


def seal(path: Path) -> onnx.ModelProto:
    """Record the hash of the graph, as an export does."""
    model = onnx.load(path)
    digest = hashlib.sha256(model.graph.SerializeToString()).hexdigest()
    model.metadata_props.add(key=GRAPH_SHA256_KEY, value=digest)
    onnx.save(model, path)
    return model


def test_a_change_that_no_golden_frame_shows_is_refused_by_the_hash_of_the_graph(path: Path) -> None:
    model = seal(path)
    assert OnnxModel.open(path, device="cpu").sha256
    # The lowest row of boxes has a score of 0, so golden frames do not have it.
    change_tensor("boxes_row", lambda boxes: np.concatenate([boxes[:, :-1], boxes[:, -1:] + 5], axis=1))(model)
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"the file was changed after its export; export the model again$"):
        OnnxModel.open(path, device="cpu")


def to_half(model: onnx.ModelProto) -> None:
    """Store a constant in half precision, as a file of fp16 stores its weights."""
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float16), "halves"))
    model.graph.node.append(helper.make_node("Cast", ["halves"], ["not_used"], to=TensorProto.FLOAT))


@pytest.mark.parametrize(
    ("says", "change", "words"),
    [
        ("int8", None, "expected a network of int8 as its contract says, found no QuantizeLinear"),
        ("fp32", quantise, "expected a network of fp32 as its contract says, found 5 operators that quantise"),
        ("fp16", quantise, "expected a network of fp16 as its contract says, found 5 operators that quantise"),
        ("fp16", None, "found no weights of half precision"),
    ],
)
def test_a_file_that_is_not_of_the_precision_it_says_is_refused(
    tmp_path: Path, says: str, change: Callable[[onnx.ModelProto], None] | None, words: str
) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx", contract_with(precision=says), change)
    with pytest.raises(ModelError, match=words) as refusal:
        OnnxModel.open(path, device="cpu", verify_golden=False)
    assert str(refusal.value).startswith(f"{path}: expected")


def test_a_file_of_half_precision_that_says_so_opens(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx", contract_with(precision="fp16"), to_half)
    assert OnnxModel.open(path, device="cpu").contract.precision == "fp16"


def test_a_file_that_changed_since_it_was_opened_is_not_timed(path: Path) -> None:
    model = OnnxModel.open(path, device="cpu", intra_op_threads=1)
    assert time_share_of_fp32(model, path) is not None
    path.write_bytes(path.read_bytes() + b"\xf8\x07\x01")  # an unknown field, which changes nothing but the bytes
    assert time_share_of_fp32(model, path) is None
