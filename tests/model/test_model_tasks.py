"""Models of one task, of one frame a run and of unusual sizes, and files of contract version 1."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from tiny_student import BOXES_XYXY, CONTRACT, contract_with, expected_class_map, write_tiny_model, write_tiny_student

from ros_kd_perception.model.contract import CONTRACT_KEY, ContractError, InputSpec
from ros_kd_perception.model.golden import GOLDEN_KEY, golden_from_text
from ros_kd_perception.model.onnx_file import read_model_file
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from ros_kd_perception.model.session import BoundSession, OneByOne, PlainSession
from ros_kd_perception.system.shipped_files import SHIPPED_STUDENT, shipped_file

SEGMENTATION = contract_with(detections=None)
DETECTION = contract_with(class_map=None)
SECTIONS_OF_VERSION_1 = {
    "input": ("height", "width", "channels", "resize", "pad_value"),
    "class_map": ("stride", "unlabeled_id", "classes"),
    "detections": ("max", "score_threshold", "classes"),
    "golden": ("class_map_agreement_min", "box_iou_min"),
}
NOISE = np.random.default_rng(3).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)


def test_the_outputs_of_an_absent_task_are_none(tmp_path):
    segmentation = OnnxModel.open(write_tiny_model(tmp_path / "s.onnx", SEGMENTATION), device="cpu")
    detection = OnnxModel.open(write_tiny_model(tmp_path / "d.onnx", DETECTION), device="cpu")

    masks, boxes = segmentation.run(NOISE[:1]), detection.run(NOISE[:1])

    assert (masks.class_map[0] == expected_class_map(NOISE[0])).mean() > 0.99
    assert masks.uncertainty.shape == (1, 2, 3)
    assert masks.boxes_xyxy is masks.scores is masks.labels is masks.rows(0) is None
    assert np.allclose(boxes.rows(0).boxes_xyxy, BOXES_XYXY)
    assert boxes.class_map is boxes.uncertainty is boxes.cells(0) is None


@pytest.mark.parametrize("contract", [SEGMENTATION, DETECTION], ids=lambda contract: contract.tasks[0])
def test_outputs_of_a_task_that_the_contract_does_not_name_are_refused(tmp_path, contract):
    path = write_tiny_student(tmp_path / "both.onnx", contract)
    with pytest.raises(ModelError, match=f"expected only outputs of {contract.tasks[0]} as its contract says"):
        OnnxModel.open(path, device="cpu")


def test_golden_frames_of_one_task_are_verified(tmp_path):
    def other_cells(model: onnx.ModelProto) -> None:
        block = next(tensor for tensor in model.graph.initializer if tensor.name == "block")
        wrong = onnx.numpy_helper.to_array(block) * 2
        block.CopyFrom(onnx.numpy_helper.from_array(wrong, block.name))

    path = write_tiny_model(tmp_path / "s.onnx", SEGMENTATION)
    assert OnnxModel.open(path, device="cpu").golden.class_map_agreement == 1
    model = onnx.load(path)
    other_cells(model)
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"in at least 99.50% of its class map, got [0-9.]+%; use another"):
        OnnxModel.open(path, device="cpu")


def test_golden_frames_must_have_the_tasks_of_the_contract(tmp_path):
    text = read_model_file(write_tiny_model(tmp_path / "s.onnx", SEGMENTATION)).metadata[GOLDEN_KEY]
    assert "boxes" not in json.loads(text)[0]
    with pytest.raises(ContractError, match="golden frames that fit the contract, got 'boxes'"):
        golden_from_text(text, CONTRACT)


def test_a_file_of_one_frame_a_run_takes_batches_one_by_one(tmp_path):
    one = replace(CONTRACT, input=replace(CONTRACT.input, batch=1))
    model = OnnxModel.open(write_tiny_model(tmp_path / "one.onnx", one), device="cpu", max_batch=4)
    together = model.run(NOISE)
    usual = OnnxModel.open(write_tiny_model(tmp_path / "n.onnx", CONTRACT), device="cpu").run(NOISE)

    assert model.max_batch == 1
    for name, values in vars(usual).items():
        assert np.array_equal(getattr(together, name), values), name


def test_fixed_buffers_of_one_frame_also_take_batches_one_by_one(tmp_path):
    one = replace(CONTRACT, input=replace(CONTRACT.input, batch=1))
    plain = OnnxModel.open(write_tiny_model(tmp_path / "one.onnx", one), device="cpu")._runner._runner
    assert isinstance(plain, PlainSession)
    outputs = {"class_map": (np.uint8, (16, 24)), "scores": (np.float32, (6,))}
    bound = BoundSession(plain._session, (64, 96, 3), outputs, max_batch=1, device_type="cpu")

    class_maps, scores = OneByOne(bound).run(NOISE)

    assert scores.shape == (3, 6)
    assert (class_maps == [bound.run(NOISE[row : row + 1])[0][0] for row in range(3)]).all()


@pytest.mark.parametrize(("stated", "real"), [("dynamic", 1), (1, 2)])
def test_a_batch_that_the_file_does_not_have_is_refused(tmp_path, stated, real):
    model = onnx.load(
        write_tiny_student(tmp_path / "tiny.onnx", replace(CONTRACT, input=InputSpec(64, 96, batch=stated)))
    )
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = real
    onnx.save(model, tmp_path / "tiny.onnx")
    with pytest.raises(ModelError, match=f"with a (dynamic batch|batch of {stated}) as its contract says"):
        OnnxModel.open(tmp_path / "tiny.onnx", device="cpu")


def test_sides_that_are_no_multiples_of_32_run(tmp_path):
    contract = contract_with(input=InputSpec(65, 97))
    model = OnnxModel.open(write_tiny_model(tmp_path / "odd.onnx", contract), device="cpu")

    outputs = model.run(np.full((1, 65, 97, 3), 96, np.uint8))

    assert outputs.class_map.shape == (1, 17, 25)
    assert (outputs.class_map[0, :16, :24] == 4).all()
    assert outputs.uncertainty.shape == (1, 3, 4)


def test_a_file_of_contract_version_1_opens(tmp_path):
    shipped = onnx.load(shipped_file(SHIPPED_STUDENT))
    metadata = {entry.key: entry.value for entry in shipped.metadata_props}
    contract = json.loads(metadata[CONTRACT_KEY])
    first = {key: contract[key] for key in ("name", "version", "precision", "provenance", "metrics")}
    for section, keys in SECTIONS_OF_VERSION_1.items():
        first[section] = {key: contract[section][key] for key in keys}
    first["contract_version"] = 1
    onnx.helper.set_model_props(shipped, metadata | {CONTRACT_KEY: json.dumps(first)})
    onnx.save(shipped, tmp_path / "first.onnx")

    model = OnnxModel.open(tmp_path / "first.onnx", device="cpu")

    assert model.contract.tasks == ("segmentation", "detection")
    assert (model.contract.input.batch, model.contract.detections.nms_iou) == ("dynamic", None)
