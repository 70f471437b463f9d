import hashlib
import json
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from tiny_student import BOXES_XYXY, CONTRACT, SCORES, contract_with, expected_class_map, write_tiny_student

from ros_kd_perception.model import execution_provider
from ros_kd_perception.model.contract import CONTRACT_KEY, InputSpec
from ros_kd_perception.model.golden import GOLDEN_KEY
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel


def test_a_batch_runs_and_gives_what_the_graph_computes(tmp_path):
    path = write_tiny_student(tmp_path / "tiny.onnx")
    model = OnnxModel.open(path, device="cpu", intra_op_threads=1)
    images = np.random.default_rng(3).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    outputs = model.run(images)
    for image, class_map in zip(images, outputs.class_map, strict=True):
        assert (class_map == expected_class_map(image)).mean() > 0.99  # a mean on a class boundary may round either way
    assert np.allclose(outputs.boxes_xyxy, BOXES_XYXY[None])
    assert np.allclose(outputs.scores, SCORES[None])
    assert model.contract == CONTRACT
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.provider.used == "CPUExecutionProvider"
    assert model.provider.fallback == ""


def test_a_missing_provider_is_reported_as_a_fallback(tmp_path, monkeypatch):
    path = write_tiny_student(tmp_path / "tiny.onnx")
    # The providers of the [cpu] extra's ONNX Runtime, whichever build is installed here.
    monkeypatch.setattr(execution_provider.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "CUDAExecutionProvider" in OnnxModel.open(path, device="cuda").provider.fallback
    with pytest.raises(ModelError, match="require_gpu"):
        OnnxModel.open(path, device="cuda", require_gpu=True)
    with pytest.raises(ModelError, match="require_gpu"):
        OnnxModel.open(path, require_gpu=True)


def refusal(path, **options) -> str:
    with pytest.raises(ModelError) as error:
        OnnxModel.open(path, **{"device": "cpu", **options})
    sentence = str(error.value)
    assert "\n" not in sentence
    assert "expected" in sentence
    return sentence


@pytest.mark.parametrize("newer", ["ir_version", "opset"])
def test_a_file_newer_than_onnx_runtime_is_refused_with_both_remedies(tmp_path, newer):
    model = onnx.load(write_tiny_student(tmp_path / "tiny.onnx"))
    if newer == "opset":
        model.opset_import[0].version = 99
    else:
        model.ir_version = 99
    (tmp_path / "newer.onnx").write_bytes(model.SerializeToString())
    sentence = refusal(tmp_path / "newer.onnx")
    assert "export the model again, or install a newer ONNX Runtime" in sentence


def test_files_of_another_kind_are_refused(tmp_path):
    assert "found none" in refusal(tmp_path / "missing.onnx")
    assert "found a folder" in refusal(tmp_path)
    (tmp_path / "empty.onnx").touch()
    assert "bytes" in refusal(tmp_path / "empty.onnx")
    (tmp_path / "text.onnx").write_text("not a model\n" * 50)
    assert "ONNX model" in refusal(tmp_path / "text.onnx")
    whole = write_tiny_student(tmp_path / "tiny.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    refusal(tmp_path / "half.onnx")


def test_options_out_of_range_are_refused(tmp_path):
    path = write_tiny_student(tmp_path / "tiny.onnx")
    assert "device" in refusal(path, device="tpu")
    assert "precision" in refusal(path, precision="fp8")
    assert "int8" in refusal(path, precision="int8")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({CONTRACT_KEY: None}, "contract under the metadata key"),
        ({CONTRACT_KEY: "{"}, "JSON"),
        ({CONTRACT_KEY: json.dumps({"contract_version": 9})}, "newer"),
        ({GOLDEN_KEY: None}, "golden frames under"),
        ({GOLDEN_KEY: "[]"}, "golden frames"),
        ({GOLDEN_KEY: '[{"image_png": "AAAA"}]'}, "golden frames"),
        ({GOLDEN_KEY: "x" * (3 << 20)}, "golden frames"),
        ({CONTRACT_KEY: contract_with(input=InputSpec(128, 96)).to_json()}, "one input"),
    ],
)
def test_metadata_that_does_not_match_is_refused(tmp_path, metadata, words):
    assert words in refusal(write_tiny_student(tmp_path / "tiny.onnx", change_metadata=metadata))


def drop_output(model: onnx.ModelProto) -> None:
    del model.graph.output[0]


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def move_boxes(model: onnx.ModelProto) -> None:
    boxes = next(i for i in model.graph.initializer if i.name == "boxes_row")
    boxes.CopyFrom(onnx.numpy_helper.from_array(BOXES_XYXY[None] + 6, "boxes_row"))


def brighten_class_map(model: onnx.ModelProto) -> None:
    block = next(i for i in model.graph.initializer if i.name == "block")
    block.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(block) * 1.5, "block"))


def break_scores(scores: list[float]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        row = next(i for i in model.graph.initializer if i.name == "scores_row")
        row.CopyFrom(onnx.numpy_helper.from_array(np.array([scores], np.float32), "scores_row"))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_output, "output class_map"),
        (fix_batch, "dynamic batch"),
        (move_boxes, "IoU"),
        (brighten_class_map, "class map"),
        (
            break_scores([np.nan] * 6),
            "expected finite scores for the golden frames on CPUExecutionProvider, got 6 of 6",
        ),
        (break_scores([0.0] * 6), "scores off by 0.900"),
        (break_scores([0.99, 0.8, 0.7, 0.6, 0.2, 0.0]), "scores off by 0.090"),
        (break_scores([0.9, 0.8, 0.7, 0.6, 0.4, 0.0]), "1 unexpected boxes"),
    ],
)
def test_a_graph_that_does_not_match_contract_or_golden_frames_is_refused(tmp_path, change, words):
    assert words in refusal(write_tiny_student(tmp_path / "tiny.onnx", change_graph=change))
