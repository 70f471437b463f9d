from dataclasses import replace

import numpy as np
import onnx
import pytest
from tiny_student import (
    BOXES_XYXY,
    CONTRACT,
    LABELS,
    SCORES,
    contract_with,
    diverge_on_black,
    expected_class_map,
    give_duplicates,
    write_tiny_model,
    write_tiny_student,
)

from ros_kd_perception.model.contract import InputSpec
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import DivergedOutput, Perceiver
from ros_kd_perception.structures import Frame


@pytest.fixture(scope="module")
def perceiver(tmp_path_factory) -> Perceiver:
    return Perceiver(OnnxModel.open(write_tiny_student(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu"))


def frame(height: int, width: int, seed: int = 0) -> Frame:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame("front", 123, "front_optical_frame", image)


def test_a_frame_of_the_network_size_comes_back_unscaled(perceiver):
    source = frame(64, 96)
    (perception,) = perceiver.perceive([source])
    blocks = np.repeat(np.repeat(expected_class_map(source.image_bgr), 4, axis=0), 4, axis=1)
    assert (perception.class_map == blocks).mean() > 0.99
    assert np.allclose(perception.detections.boxes_xyxy, BOXES_XYXY[:4])
    assert perception.detections.labels.tolist() == LABELS[:4].tolist()
    assert np.allclose(perception.detections.scores, SCORES[:4])
    assert (perception.camera, perception.stamp_ns, perception.frame_id) == ("front", 123, "front_optical_frame")
    assert perception.uncertainty.shape == (2, 3)


def test_boxes_are_scaled_and_those_in_the_padding_left_out(perceiver):
    (perception,) = perceiver.perceive([frame(100, 192)])  # placed as 50 x 96: the box from row 60 on is padding
    assert np.allclose(perception.detections.boxes_xyxy, BOXES_XYXY[:3] * 2)
    assert perception.class_map.shape == (100, 192)


def test_the_default_threshold_is_that_of_the_contract(perceiver):
    strict = Perceiver(perceiver.model, score_threshold=0.75)
    assert len(strict.perceive([frame(64, 96)])[0].detections) == 2
    assert len(Perceiver(perceiver.model).perceive([frame(64, 96)])[0].detections) == 4


def test_a_camera_may_have_a_threshold_of_its_own(perceiver):
    own = Perceiver(perceiver.model)
    own.score_thresholds = {"left": 0.75, "rear": 0.0}
    counts = {c: len(own.perceive([replace(frame(64, 96), camera=c)])[0].detections) for c in ("front", "left", "rear")}
    assert counts == {"front": 4, "left": 2, "rear": 5}
    own.score_threshold = 0.85
    assert (own.threshold_of("front"), own.threshold_of("left")) == (0.85, 0.75)


def test_each_frame_of_a_call_gets_its_own_result(perceiver):
    frames = [frame(64, 96, 1), frame(40, 300, 2), frame(720, 1280, 3)]
    together = perceiver.perceive(frames)
    apart = [perceiver.perceive([one])[0] for one in frames]
    for one, other in zip(together, apart, strict=True):
        assert (one.class_map == other.class_map).all()
        assert (one.uncertainty == other.uncertainty).all()
    assert not np.shares_memory(together[0].class_map, together[1].class_map)


def test_rgb_models_see_red_where_bgr_models_see_blue(tmp_path, perceiver):
    rgb_contract = contract_with(input=InputSpec(64, 96, channels="rgb"))
    rgb = Perceiver(OnnxModel.open(write_tiny_student(tmp_path / "rgb.onnx", rgb_contract), device="cpu"))
    source = frame(64, 96)
    swapped = Frame("front", 1, "", np.ascontiguousarray(source.image_bgr[..., ::-1]))
    assert (rgb.perceive([swapped])[0].class_map == perceiver.perceive([source])[0].class_map).all()


@pytest.mark.parametrize(("name", "rows"), [("boxes", BOXES_XYXY), ("scores", SCORES)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_frame_with_nan_outputs_gives_no_result(tmp_path, name, rows, value):
    def diverge(model: onnx.ModelProto) -> None:
        wrong = rows[None].copy()
        wrong.reshape(-1)[0] = value
        tensor = next(i for i in model.graph.initializer if i.name == f"{name}_row")
        tensor.CopyFrom(onnx.numpy_helper.from_array(wrong, tensor.name))

    path = write_tiny_student(tmp_path / "nan.onnx", change_graph=diverge)
    diverged = Perceiver(OnnxModel.open(path, device="cpu", verify_golden=False))
    with pytest.raises(DivergedOutput, match=f"expected finite {name} of the network, got 1 of {rows.size}"):
        diverged.perceive([frame(64, 96)])


def test_nan_outputs_are_found_although_the_class_map_is_valid(tmp_path):
    path = write_tiny_student(tmp_path / "nan.onnx", change_graph=diverge_on_black)
    perceiver = Perceiver(OnnxModel.open(path, device="cpu"))  # its golden frames pass
    assert len(perceiver.perceive([frame(64, 96)])) == 1
    with pytest.raises(DivergedOutput, match="expected finite uncertainty"):
        perceiver.perceive([Frame("front", 1, "", np.zeros((64, 96, 3), np.uint8))])


def test_boxes_with_unknown_labels_are_left_out(tmp_path):
    def mislabel(model: onnx.ModelProto) -> None:
        tensor = next(i for i in model.graph.initializer if i.name == "labels_row")
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([[0, 1, 99, 2, 0, 0]], np.int32), tensor.name))

    path = write_tiny_student(tmp_path / "labels.onnx", change_graph=mislabel)
    (perception,) = Perceiver(OnnxModel.open(path, device="cpu", verify_golden=False)).perceive([frame(64, 96)])
    assert perception.detections.labels.tolist() == [0, 1, 2]


def test_warm_up_returns_a_time(perceiver):
    assert perceiver.warm_up() > 0


def test_a_prepared_frame_gives_what_a_frame_gives(perceiver):
    source = frame(100, 192)
    buffer = np.empty((64, 96, 3), np.uint8)
    prepared = perceiver.prepare(source, buffer)
    assert prepared.network_input is buffer
    [expected], [found] = perceiver.perceive([source]), perceiver.perceive_prepared([prepared])
    assert np.array_equal(found.class_map, expected.class_map)
    assert np.array_equal(found.detections.boxes_xyxy, expected.detections.boxes_xyxy)
    assert perceiver.prepare(source, np.empty((8, 8, 3), np.uint8)).network_input.shape == (64, 96, 3)


def test_a_frame_that_was_prepared_for_another_model_is_prepared_again(perceiver, tmp_path):
    other = contract_with(input=InputSpec(64, 96, channels="rgb"))
    path = write_tiny_student(tmp_path / "rgb.onnx", contract=other)
    for_another = Perceiver(OnnxModel.open(path, device="cpu")).prepare(frame(64, 96))
    [expected], [found] = perceiver.perceive([frame(64, 96)]), perceiver.perceive_prepared([for_another])
    assert np.array_equal(found.class_map, expected.class_map)


def opened(path, contract, change_graph=None) -> Perceiver:
    return Perceiver(OnnxModel.open(write_tiny_model(path, contract, change_graph), device="cpu"))


def test_a_model_of_one_task_has_no_result_of_the_other(tmp_path, perceiver):
    source = frame(100, 192)
    [both] = perceiver.perceive([source])

    [mask] = opened(tmp_path / "s.onnx", contract_with(detections=None)).perceive([source])
    [boxes] = opened(tmp_path / "d.onnx", contract_with(class_map=None)).perceive([source])

    assert mask.detections is boxes.class_map is boxes.uncertainty is None
    assert np.array_equal(mask.class_map, both.class_map)
    assert np.array_equal(mask.uncertainty, both.uncertainty)
    assert np.array_equal(boxes.detections.boxes_xyxy, both.detections.boxes_xyxy)
    with pytest.raises(ValueError, match="expected a model that does detection"):
        mask.require_detections()
    with pytest.raises(ValueError, match="expected a model that does segmentation"):
        boxes.require_class_map()


def test_duplicates_of_a_class_are_dropped_where_the_contract_says_so(tmp_path):
    rows = opened(tmp_path / "all.onnx", CONTRACT, give_duplicates).perceive([frame(64, 96)])[0].detections
    one = contract_with(detections=replace(CONTRACT.detections, nms_iou=0.6))
    best = opened(tmp_path / "one.onnx", one, give_duplicates).perceive([frame(64, 96)])[0].detections

    assert rows.labels.tolist() == [0, 0, 1, 2]
    assert best.labels.tolist() == [0, 1, 2]  # the same box of another class stays
    assert np.allclose(best.scores, SCORES[[0, 2, 3]])


def test_a_stretched_frame_comes_back_by_each_axis(tmp_path):
    stretched = opened(tmp_path / "stretch.onnx", contract_with(input=InputSpec(64, 96, resize="stretch")))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)

    [perception] = stretched.perceive([Frame("front", 1, "", image.repeat(4, axis=0))])

    assert np.allclose(perception.detections.boxes_xyxy, BOXES_XYXY[:4] * [1, 4, 1, 4])
    blocks = expected_class_map(image).repeat(16, axis=0).repeat(4, axis=1)
    assert (perception.class_map == blocks).mean() > 0.99
    assert perception.uncertainty.shape == (2, 3)


def test_a_frame_that_was_prepared_by_letterbox_is_stretched_for_the_next_model(tmp_path, perceiver):
    stretched = opened(tmp_path / "stretch.onnx", contract_with(input=InputSpec(64, 96, resize="stretch")))
    [expected], [found] = (
        stretched.perceive([frame(40, 96)]),
        stretched.perceive_prepared([perceiver.prepare(frame(40, 96))]),
    )
    assert np.array_equal(found.class_map, expected.class_map)
