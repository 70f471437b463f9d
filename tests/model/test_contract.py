import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_student import CONTRACT, contract_with

from ros_kd_perception.model.contract import ContractError, InputSpec, ModelContract

FULL = contract_with(
    detections=replace(CONTRACT.detections, nms_iou=0.65),
    input=InputSpec(65, 97, "rgb", "stretch", 0, 1),
    derived={
        "from_sha256": "0a" * 32,
        "from_name": "student.onnx",
        "steps": ["quantised to 8-bit integers"],
        "data_sha256": "1b" * 32,
        "loss": {"miou": -0.05},
        "frames": {"miou": "CamVid val"},
        "parent": {"miou": 0.67},
        "agreement": 0.99,
    },
    confidence={
        "temperature": {"road": 1.5},
        "box_scores": {"car": {"scale": 1.2, "shift": -0.5}},
        "thresholds": {"car": 0.4, "road": 0.5},
        "coverage": 0.9,
        "checked_on": "the validation frames",
    },
)


@pytest.mark.parametrize(
    "contract",
    [CONTRACT, FULL, contract_with(detections=None), contract_with(class_map=None)],
    ids=["both", "every field", "segmentation", "detection"],
)
def test_json_round_trip_gives_an_equal_contract(contract):
    text = contract.to_json()

    assert ModelContract.from_json(text) == contract
    assert json.loads(text)["contract_version"] == 2
    assert json.loads(text)["tasks"] == list(contract.tasks)


def test_the_outputs_of_an_absent_task_are_absent():
    assert set(contract_with(detections=None).output_shapes()) == {"class_map", "uncertainty"}
    assert set(contract_with(class_map=None).output_shapes()) == {"boxes", "scores", "labels"}
    with pytest.raises(ContractError, match="at least one of the tasks segmentation and detection"):
        contract_with(detections=None, class_map=None)


def test_cells_cover_an_input_whose_sides_are_no_multiples_of_their_size():
    shapes = FULL.output_shapes()

    assert shapes["class_map"] == (17, 25)  # 65 / 4 and 97 / 4, rounded up
    assert shapes["uncertainty"] == (3, 4)


def first_version(**changes: object) -> str:
    """Return the JSON that version 1 wrote for the tiny student, with some sections replaced."""
    document = json.loads(CONTRACT.to_json()) | {"contract_version": 1}
    del document["tasks"], document["input"]["batch"], document["detections"]["nms_iou"]
    return json.dumps(document | changes)


def test_a_contract_of_version_1_gives_the_same_contract():
    assert ModelContract.from_json(first_version()) == CONTRACT


@pytest.mark.parametrize(
    ("size", "words"),
    [({"height": 65}, "multiples of 32"), ({"resize": "stretch"}, "input.resize letterbox")],
)
def test_version_1_allows_only_what_it_had(size, words):
    document = json.loads(first_version())
    with pytest.raises(ContractError, match=words):
        ModelContract.from_json(first_version(input=document["input"] | size))


def test_a_contract_without_a_limit_of_the_scores_has_the_usual_one():
    document = json.loads(CONTRACT.to_json())
    del document["golden"]["score_difference_max"]
    assert ModelContract.from_json(json.dumps(document)) == CONTRACT


def changed(path: str, value: object) -> str:
    document = json.loads(FULL.to_json())
    target = document
    *parents, last = path.split(".")
    for key in parents:
        target = target[int(key) if key.isdigit() else key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("contract_version", 3, "newer"),
        ("contract_version", "1", "contract_version"),
        ("name", ..., "name"),
        ("input", ..., "input"),
        ("input.height", 31, "input sides"),
        ("input.height", "384", "input.height"),
        ("input.width", 1 << 20, "input sides"),
        ("input.channels", "gbr", "input.channels"),
        ("input.resize", "crop", "input.resize"),
        ("input.pad_value", 256, "pad_value"),
        ("input.batch", 2, "input.batch"),
        ("input.batch", ..., "input.batch"),
        ("tasks", [], "tasks"),
        ("tasks", ["segmentation", "depth"], "depth"),
        ("tasks", ["segmentation"], "no detections without the task detection"),
        ("class_map", ..., "class_map"),
        ("class_map.stride", 3, "stride"),
        ("class_map.stride", True, "stride"),
        ("class_map.classes", [], "classes"),
        ("class_map.classes.0.id", 1, "different ids"),
        ("class_map.classes.0.id", 255, "unlabeled_id"),
        ("class_map.classes.0.name", "building", "different names"),
        ("class_map.classes.0.color", [1, 2], "color"),
        ("class_map.classes.0.color", [1, 2, 256], "color"),
        ("detections.max", 0, "detections.max"),
        ("detections.score_threshold", 1.5, "score_threshold"),
        ("detections.nms_iou", 1.5, "nms_iou"),
        ("detections.nms_iou", ..., "nms_iou"),
        ("golden.box_iou_min", 2, "box_iou_min"),
        ("golden", ..., "golden"),
        ("golden.score_difference_max", -0.1, "score_difference_max"),
        ("golden.score_difference_max", None, "golden.score_difference_max"),
        ("precision", "int4", "a precision of fp32, fp16, int8"),
        ("precision", 8, "precision"),
        ("derived.from_sha256", "ab", "derived.from_sha256 to be a sha256, 64 digits"),
        ("derived.data_sha256", "G" * 64, "derived.data_sha256 to be a sha256"),
        ("derived.from_name", "", "derived.from_name"),
        ("derived.from_name", "n" * 201, "derived.from_name to be 1 to 200 characters"),
        ("derived.steps", "int8", "derived.steps"),
        ("derived.steps", ["prune"] * 33, "at most 32 strings"),
        ("derived.loss.miou", None, "derived.loss"),
        ("derived.loss.miou", -5.2, "derived.loss .* with numbers from -1 to 1"),
        ("derived.loss", {str(metric): 0.0 for metric in range(201)}, "derived.loss .* at most 200 metrics"),
        ("derived.parent.miou", 67.4, "derived.parent .* with numbers from 0 to 1"),
        ("derived.frames.miou", ["CamVid"], "derived.frames"),
        ("derived.agreement", 1.5, "derived.agreement"),
        ("confidence", [], "confidence"),
        ("confidence.temperature", 0, "temperature"),
        ("confidence.temperature.road", -1, "temperature"),
        ("confidence.thresholds.car", 1.5, "thresholds"),
        ("confidence.thresholds", {"lorry": 0.5}, "lorry"),
        ("confidence.coverage", "most", "coverage"),
        ("confidence.box_scores.car.scale", 0, "box_scores"),
        ("confidence.box_scores.car", {"scale": 1.0}, "box_scores"),
        ("confidence.box_scores", {"lorry": {"scale": 1, "shift": 0}}, "lorry"),
        ("confidence.fitted_on", 3, "fitted_on"),
    ],
)
def test_a_wrong_field_is_refused_in_one_sentence_with_its_name(path, value, words):
    with pytest.raises(ContractError, match=words) as refusal:
        ModelContract.from_json(changed(path, value))
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith("expected")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
paths = st.sampled_from(
    [
        "contract_version",
        "name",
        "precision",
        "input",
        "input.height",
        "input.channels",
        "class_map",
        "class_map.stride",
        "class_map.classes",
        "class_map.classes.0.id",
        "class_map.classes.0.color",
        "detections.max",
        "detections.score_threshold",
        "golden",
        "golden.box_iou_min",
        "provenance",
        "metrics",
        "tasks",
        "input.batch",
        "detections.nms_iou",
        "derived",
        "derived.loss",
        "derived.steps",
        "derived.parent",
        "derived.frames",
        "derived.agreement",
        "derived.from_sha256",
        "golden.score_difference_max",
        "confidence",
        "confidence.temperature",
        "confidence.thresholds",
        "confidence.box_scores",
    ]
)


@given(path=paths, value=json_values)
def test_any_json_in_any_field_is_read_or_refused(path, value):
    try:
        contract = ModelContract.from_json(changed(path, value))
    except ContractError:
        return
    assert isinstance(contract, ModelContract)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with pytest.raises(ContractError):
        ModelContract.from_json(text)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused_also_where_any_value_is_allowed(number: str):
    with pytest.raises(ContractError, match=f"to be JSON, got the number {number}"):
        ModelContract.from_json(contract_with(metrics={"miou": 0.123456}).to_json().replace("0.123456", number))


def test_deeply_nested_and_enormous_texts_are_refused():
    for text in ("[" * 100_000, " " * (2 << 20), "[]", "1"):
        with pytest.raises(ContractError):
            ModelContract.from_json(text)
