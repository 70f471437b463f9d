"""Test the sensitivity of layers and automatic mixed precision, on a network with one tensor that 8 bits cannot hold.

Three convolutions follow each other. The second has a channel of values that are 500 times as large, which the third
ignores. In 8 bits, nothing is left of the other channel: both layers must stay in fp32.
"""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny_student import CONTRACT, HEIGHT, WIDTH, expected_class_map, write_tiny_model

from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.structures import UInt8Array
from training.data.readers.frame_folder import FrameFolder
from training.errors import RecipeError
from training.quantization.mixed import labelled_frames, layers_in_fp32
from training.quantization.quantise import Quantiser
from training.quantization.quantise_file import quantise_file
from training.quantization.sensitivity import layer_sensitivities, sensitivity_table
from training.quantization.settings import MixedSettings, QuantiseSettings


def add_a_channel_of_large_values(model: onnx.ModelProto) -> None:
    nodes = model.graph.node
    index = next(number for number, node in enumerate(nodes) if node.op_type == "Conv")
    nodes[index].name, nodes[index].output[0] = "first", "brightness"
    weights = {"spread": [[1.0], [500.0]], "gather": [[1.0, 0.0]]}
    for name, values in weights.items():
        array = np.array(values, np.float32)[:, :, None, None]
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    nodes.insert(index + 1, helper.make_node("Conv", ["brightness", "spread"], ["pair"], name="second"))
    nodes.insert(index + 2, helper.make_node("Conv", ["pair", "gather"], ["cells"], name="third"))


def picture(seed: int) -> UInt8Array:
    """Return a frame whose 4x4 blocks are of one class each, in the middle of its range of brightness."""
    classes = np.random.default_rng(seed).integers(0, 10, (HEIGHT // 4, WIDTH // 4, 1))
    blue = (24 * classes + 12).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    return np.ascontiguousarray(np.concatenate([blue, blue // 2, blue // 3], axis=2))


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parent") / "spread.onnx"
    return write_tiny_model(path, CONTRACT, add_a_channel_of_large_values)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of frames, with the masks that the network in fp32 gives."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for seed in range(9):
        image = picture(seed)
        cv2.imwrite(str(folder / f"images/drive_{seed}.png"), image)
        cv2.imwrite(str(folder / f"masks/drive_{seed}.png"), expected_class_map(image).repeat(4, 0).repeat(4, 1))
    return folder


def settings_of(data: Path, **mixed: object) -> QuantiseSettings:
    frames = {"kind": "camvid", "folder": str(data), "check_shares": False, "limit": 3}
    return QuantiseSettings.model_validate(
        {
            "calibration": {"frames": {"kind": "unlabeled", "folder": str(data)}, "count": 8},
            "mixed": {"frames": frames, **mixed},
        }
    )


@pytest.fixture(scope="module")
def quantiser(parent: Path, data: Path) -> Quantiser:
    return Quantiser(parent, [picture(seed) for seed in range(8)], settings_of(data), {})


@pytest.fixture
def frames(quantiser: Quantiser, data: Path) -> FrameFolder:
    return labelled_frames(mixed_of(data), quantiser.contract)


def mixed_of(data: Path, **mixed: object) -> MixedSettings:
    found = settings_of(data, **mixed).mixed
    assert found is not None
    return found


def test_layers_beside_the_large_values_are_the_most_sensitive(quantiser: Quantiser) -> None:
    rows = layer_sensitivities(quantiser, [picture(20), picture(21)])

    assert {row.layer for row in rows[:2]} == {"second", "third"}
    assert rows[2].layer == "first"
    assert rows[1].change.cells > 0.5
    assert (rows[2].change.cells, rows[2].change.boxes) == (0, pytest.approx(0, abs=1e-6))
    assert sensitivity_table(rows, ["second"])[2] == {
        "layer": "first",
        "cells": 0.0,
        "boxes": pytest.approx(0, abs=1e-6),
        "precision": "int8",
    }


def test_the_most_sensitive_layers_stay_in_fp32_and_no_others(
    quantiser: Quantiser, frames: FrameFolder, data: Path
) -> None:
    assert layers_in_fp32(quantiser, ["third", "second", "first"], frames, mixed_of(data)) == ["third", "second"]


def test_a_budget_that_is_met_leaves_all_layers_in_integers(
    quantiser: Quantiser, frames: FrameFolder, data: Path
) -> None:
    assert layers_in_fp32(quantiser, ["third", "second", "first"], frames, mixed_of(data, miou=1.0)) == []


def test_a_budget_that_cannot_be_met_names_the_nearest_that_can(
    quantiser: Quantiser, frames: FrameFolder, data: Path
) -> None:
    order = ["third", "second", "first"]
    with pytest.raises(RecipeError, match=r"at most 1 layers in fp32, .* points of mIoU; allow miou: 0\.\d+") as found:
        layers_in_fp32(quantiser, order, frames, mixed_of(data, most_layers=1))
    nearest = re.search(r"allow miou: (0\.\d+)", str(found.value))
    assert nearest

    assert len(layers_in_fp32(quantiser, order, frames, mixed_of(data, most_layers=1, miou=float(nearest[1])))) <= 1


def test_a_file_is_written_with_its_layers_in_fp32(parent: Path, data: Path, tmp_path: Path) -> None:
    report = quantise_file(parent, settings_of(data), tmp_path / "mixed.onnx")

    assert report.said == "int8 for CPUs, minmax over 8 frames, 1 of 3 layers"
    assert {row["layer"] for row in report.sensitivity if row["precision"] == "fp32"} == {"second", "third"}
    model = OnnxModel.open(tmp_path / "mixed.onnx", device="cpu")
    assert model.contract.derived["steps"] == [report.said]
    assert model.contract.derived["data_sha256"] == report.data_sha256
    assert model.contract.derived["from_name"] == "spread.onnx"
    np.testing.assert_array_equal(model.run(picture(30)[None]).class_map[0], expected_class_map(picture(30)))


def test_nothing_is_written_if_the_budget_cannot_be_met(parent: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="train for 8 bits"):
        quantise_file(parent, settings_of(data, most_layers=1), tmp_path / "mixed.onnx")

    assert list(tmp_path.iterdir()) == []
