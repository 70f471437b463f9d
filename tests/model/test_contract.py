import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_student import CONTRACT

from ros_kd_perception.model.contract import ContractError, ModelContract


def test_json_round_trip_gives_an_equal_contract():
    assert ModelContract.from_json(CONTRACT.to_json()) == CONTRACT


def changed(path: str, value: object) -> str:
    document = json.loads(CONTRACT.to_json())
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
        ("contract_version", 2, "newer"),
        ("contract_version", "1", "contract_version"),
        ("name", ..., "name"),
        ("input", ..., "input"),
        ("input.height", 380, "multiples of 32"),
        ("input.height", "384", "input.height"),
        ("input.width", 1 << 20, "input sides"),
        ("input.channels", "gbr", "input.channels"),
        ("input.resize", "stretch", "input.resize"),
        ("input.pad_value", 256, "pad_value"),
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
        ("golden.box_iou_min", 2, "box_iou_min"),
        ("golden", ..., "golden"),
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


def test_deeply_nested_and_enormous_texts_are_refused():
    for text in ("[" * 100_000, " " * (2 << 20), "[]", "1"):
        with pytest.raises(ContractError):
            ModelContract.from_json(text)
