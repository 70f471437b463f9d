"""Foreign files and descriptions that do not fit: one sentence with the file, what was expected and what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign_networks import HEIGHT, WIDTH, built, run_built, save_network
from onnx import TensorProto, helper

from ros_kd_perception.model.onnx_file import ModelFileError
from training.errors import RecipeError
from training.foreign.description import ForeignDescription, load_description
from training.foreign.foreign_file import ForeignFile

SCORES = np.zeros((1, 4, HEIGHT, WIDTH), np.float32)
ROWS = np.zeros((1, 126, 9), np.float32)
MASKS = {"classes": ["a", "b", "c", "d"]}
BOXES = {"classes": ["a", "b", "c", "d"]}


@pytest.mark.parametrize(
    ("outputs", "description", "sentence"),
    [
        ({"s": SCORES}, {"segmentation": MASKS | {"output": "mask"}}, r"'mask'.*outputs s float32 \[1, 4, 64, 96\]"),
        ({"s": SCORES, "t": SCORES}, {"segmentation": MASKS}, "expected one output as segmentation.output"),
        ({"s": SCORES}, {"segmentation": {"classes": ["a", "b"]}}, r"the shape \[1, 2, h, w\], for 2 classes.*correct"),
        ({"s": SCORES}, {"segmentation": MASKS | {"layout": "nhwc"}}, r"the shape \[1, h, w, 4\].*segmentation.layout"),
        ({"s": SCORES}, {"segmentation": MASKS | {"meaning": "class_ids"}}, r"the shape \[1, h, w\] for the meaning"),
        ({"s": ROWS}, {"detection": BOXES | {"kind": "yolov8"}}, r"the shape \[1, A, 8\], for 4 classes, got"),
        ({"s": ROWS[:, :9]}, {"detection": BOXES | {"kind": "yolox"}}, "126 rows, one for each cell of the strides 8"),
        ({"s": ROWS}, {"detection": BOXES | {"kind": "detr"}}, "an output 'logits' as detection.logits"),
        ({"s": ROWS}, {"detection": BOXES | {"kind": "nms_done"}}, r"the shape \[1, n, 6\], for the columns x1, y1"),
        ({"s": SCORES}, {"input": {"layout": "nhwc"}, "segmentation": MASKS}, r"input \[1, H, W, 3\] for the layout"),
        ({"s": SCORES}, {"input": {"height": 32}, "segmentation": MASKS}, "a height of 32 as described"),
        ({"s": SCORES}, {"input": {"name": "x"}, "segmentation": MASKS}, "one input 'x'.*its inputs are pixels"),
    ],
)  # fmt: skip
def test_what_is_not_as_described_is_named(
    tmp_path: Path, outputs: dict[str, Any], description: dict[str, Any], sentence: str
) -> None:
    path = save_network(tmp_path / "net.onnx", outputs)

    with pytest.raises(ModelFileError, match=f"net.onnx: .*{sentence}"):
        built(path, description)


def test_an_open_size_must_be_described(tmp_path: Path) -> None:
    path = save_network(tmp_path / "net.onnx", {"s": SCORES}, height="h", width="w", batch="n")

    with pytest.raises(ModelFileError, match=r"a fixed height of the input.*\[\?, 3, \?, \?\].*write input.height"):
        built(path, {"segmentation": MASKS})
    assert built(path, {"input": {"height": 64, "width": 96}, "segmentation": MASKS}).stride == 1


def test_a_uint8_network_cannot_be_normalised(tmp_path: Path) -> None:
    path = save_network(tmp_path / "net.onnx", {"s": SCORES}, dtype=TensorProto.UINT8)

    with pytest.raises(ModelFileError, match="remove divide, mean and std"):
        built(path, {"input": {"divide": 255}, "segmentation": MASKS})


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=SCORES.shape).astype(np.float32)
    path = save_network(tmp_path / "net.onnx", {"s": scores})
    inside = ForeignFile.read(path)
    onnx.save(onnx.load(str(path)), str(path), save_as_external_data=True, location="net.data", size_threshold=0)

    beside = ForeignFile.read(path)

    np.testing.assert_array_equal(run_built(path, {"segmentation": MASKS})["class_map"], scores.argmax(axis=1))
    assert beside.sha256 != inside.sha256
    (tmp_path / "net.data").write_bytes(b"\1" * (tmp_path / "net.data").stat().st_size)
    assert ForeignFile.read(path).sha256 != beside.sha256
    (tmp_path / "net.data").write_bytes(b"short")
    with pytest.raises(ModelFileError, match=r"net.onnx: expected the weights .* in net.data"):
        ForeignFile.read(path)
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelFileError, match=r"expected its weights in .*net.data, there is no such file"):
        ForeignFile.read(path)


@pytest.mark.parametrize("location", ["../net.data", "/etc/passwd", "folder/net.data"])
def test_weights_in_other_folders_are_not_read(tmp_path: Path, location: str) -> None:
    path = save_network(tmp_path / "net.onnx", {"s": SCORES})
    model = onnx.load(str(path))
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())

    with pytest.raises(ModelFileError, match="weights in a file of the same folder"):
        ForeignFile.read(path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07" * 100])
def test_other_files_are_no_models(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)

    with pytest.raises(ModelFileError, match=r"net.onnx: expected"):
        ForeignFile.read(path)


def test_operators_that_are_not_standard_are_refused(tmp_path: Path) -> None:
    path = save_network(tmp_path / "net.onnx", {"s": SCORES})
    model = onnx.load(str(path))
    model.graph.node.append(helper.make_node("FusedConv", ["s", "s"], ["t"], domain="com.microsoft"))
    model.graph.output[0].name = "t"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(path))

    with pytest.raises(ModelFileError, match=r"net.onnx: .*FusedConv.*export the network again"):
        built(path, {"segmentation": MASKS})


def test_a_branch_that_does_not_depend_on_the_frame_is_resolved(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=SCORES.shape).astype(np.float32)
    path = save_network(tmp_path / "net.onnx", {"s": scores})
    model = onnx.load(str(path))
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, SCORES.shape)
    branches = [
        helper.make_graph([helper.make_node(operator, ["s"], ["x"])], operator, [], [value])
        for operator in ("Identity", "Neg")
    ]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["t"], then_branch=branches[0], else_branch=branches[1]))
    model.graph.output[0].name = "t"
    onnx.save(model, str(path))

    np.testing.assert_array_equal(run_built(path, {"segmentation": MASKS})["class_map"], scores.argmax(axis=1))


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ({}, "expected the section segmentation or detection"),
        ({"detection": {"kind": "yolo", "classes": ["a"]}}, "detection.kind must be one of .*did you mean yolox"),
        ({"segmentation": {"classes": ["a", "a"]}}, "classes must differ, got a twice"),
        ({"segmentation": {"classes": ["a"], "std": [1, 1, 1]}}, "unknown key segmentation.std"),
        (
            {"detection": {"kind": "nms_done", "classes": ["a"], "boxes": "b"}},
            "nms_done needs the names of boxes, scores",
        ),
        (
            {"detection": {"kind": "nms_done", "classes": ["a"], "columns": ["x1", "y1"]}},
            "columns must name x1, y1, x2",
        ),
    ],
)
def test_a_wrong_description_is_refused(description: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        ForeignDescription.checked(description)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"classes": "nowhere"}, "there is no label set 'nowhere'"),
        (
            {"classes": ["a", "b", "c", "d"], "ignored": ["e"]},
            "segmentation.ignored names e, which segmentation.classes lacks",
        ),
        ({"classes": ["a", None, None, None], "ignored": ["a"]}, "leaves no class"),
    ],
)
def test_classes_that_do_not_exist_are_named(tmp_path: Path, part: dict[str, Any], sentence: str) -> None:
    path = save_network(tmp_path / "net.onnx", {"s": SCORES})

    with pytest.raises(RecipeError, match=sentence):
        built(path, {"segmentation": part})


def test_a_description_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"missing.yaml"):
        load_description(tmp_path / "missing.yaml")
