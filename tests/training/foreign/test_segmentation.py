"""The class map, the uncertainty and the probabilities of foreign networks, against NumPy and torch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from foreign_networks import HEIGHT, WIDTH, built, run_built, run_graph, save_network
from numpy.typing import NDArray
from onnx import helper
from torch.nn import functional

from training.errors import RecipeError

RNG = np.random.default_rng(3)
NAMES = ["road", "car", "sky", "other"]


def random_logits(rows: int, columns: int, channels: int = 4) -> NDArray[np.float32]:
    return RNG.normal(0, 3, (1, channels, rows, columns)).astype(np.float32)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def expected_uncertainty(logits: NDArray[Any], stride: int) -> NDArray[Any]:
    """Entropy / ln C of the softmax of the mean logits of each block of 32x32 pixels, one block after the other."""
    side, (channels, rows, columns) = 32 // stride, logits.shape[1:]
    blocks = [
        [logits[0, :, y : y + side, x : x + side].mean(axis=(1, 2)) for x in range(0, columns, side)]
        for y in range(0, rows, side)
    ]
    shares = softmax(np.array(blocks).transpose(2, 0, 1)[None].astype(np.float64))
    return -(shares * np.log(shares)).sum(axis=1) / np.log(channels)


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_cells_of_the_network_are_those_of_the_class_map(tmp_path: Path, stride: int, size: tuple[int, int]) -> None:
    logits = random_logits(-(-size[0] // stride), -(-size[1] // stride))
    path = save_network(tmp_path / "net.onnx", {"scores": logits}, height=size[0], width=size[1])

    graph = built(path, {"segmentation": {"classes": NAMES}})
    found = run_graph(graph)

    assert graph.stride == stride
    np.testing.assert_array_equal(found["class_map"], logits.argmax(axis=1))
    np.testing.assert_allclose(found["uncertainty"], expected_uncertainty(logits, stride), atol=1e-4)


def test_nhwc_probabilities_give_the_same_as_their_logits(tmp_path: Path) -> None:
    logits = random_logits(16, 24)
    probabilities = softmax(logits).transpose(0, 2, 3, 1).astype(np.float32)
    path = save_network(tmp_path / "net.onnx", {"out": probabilities})
    part = {"layout": "nhwc", "meaning": "probabilities", "classes": NAMES}

    found = run_built(path, {"segmentation": part})

    np.testing.assert_array_equal(found["class_map"], logits.argmax(axis=1))
    np.testing.assert_allclose(found["uncertainty"], expected_uncertainty(logits, 4), atol=1e-4)
    teacher = run_built(path, {"segmentation": part}, "teacher")
    np.testing.assert_array_equal(teacher["probabilities"], probabilities.transpose(0, 3, 1, 2))


def test_ignored_and_unused_classes_become_unlabelled(tmp_path: Path) -> None:
    logits = random_logits(64, 96, channels=5)
    path = save_network(tmp_path / "net.onnx", {"scores": logits})
    description = {"segmentation": {"classes": ["road", None, "car", "sky", "rest"], "ignored": ["rest"]}}

    found, teacher = run_built(path, description), run_built(path, description, "teacher")

    np.testing.assert_array_equal(found["class_map"], np.array([0, 255, 2, 3, 255])[logits.argmax(axis=1)])
    np.testing.assert_allclose(teacher["probabilities"], softmax(logits)[:, [0, 2, 3]], atol=1e-5)


@pytest.mark.parametrize("meaning", ["logits", "probabilities"])
def test_one_channel_separates_two_classes(tmp_path: Path, meaning: str) -> None:
    logits = random_logits(64, 96, channels=1)
    values = logits if meaning == "logits" else 1 / (1 + np.exp(-logits))
    path = save_network(tmp_path / "net.onnx", {"mask": values})
    description = {"segmentation": {"meaning": meaning, "classes": ["rest", "road"]}}

    found, teacher = run_built(path, description), run_built(path, description, "teacher")

    np.testing.assert_array_equal(found["class_map"], logits[:, 0] > 0)
    np.testing.assert_allclose(teacher["probabilities"][:, 1], 1 / (1 + np.exp(-logits[:, 0])), atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_values_are_enlarged_as_torch_does_it(tmp_path: Path, stride: int) -> None:
    logits = random_logits(HEIGHT // 4, WIDTH // 4)
    path = save_network(tmp_path / "net.onnx", {"scores": logits})

    found = run_built(path, {"segmentation": {"classes": NAMES, "enlarge_to_stride": stride}})

    size = (HEIGHT // stride, WIDTH // stride)
    expected = functional.interpolate(torch.from_numpy(logits), size, mode="bilinear", align_corners=False)
    assert (found["class_map"] == expected.argmax(dim=1).numpy()).mean() > 0.9999
    np.testing.assert_allclose(found["uncertainty"], expected_uncertainty(logits, 4), atol=1e-4)


def test_cells_that_fit_no_stride_are_enlarged_to_the_next_finer_one(tmp_path: Path) -> None:
    logits = random_logits(10, 15)
    path = save_network(tmp_path / "net.onnx", {"scores": logits})

    graph = built(path, {"segmentation": {"classes": NAMES}})

    expected = functional.interpolate(torch.from_numpy(logits), (16, 24), mode="bilinear", align_corners=False)
    found = run_graph(graph)
    assert graph.stride == 4
    assert (found["class_map"] == expected.argmax(dim=1).numpy()).mean() > 0.9999
    np.testing.assert_allclose(found["uncertainty"], expected_uncertainty(expected.numpy(), 4), atol=1e-3)


def test_a_class_map_cannot_be_coarser_than_the_network(tmp_path: Path) -> None:
    path = save_network(tmp_path / "net.onnx", {"scores": random_logits(32, 48)})

    with pytest.raises(RecipeError, match="enlarge_to_stride must be at most 2"):
        built(path, {"segmentation": {"classes": NAMES, "enlarge_to_stride": 4}})


@pytest.mark.parametrize(("axis", "opset"), [(1, 18), (3, 18), (-1, 11), (1, 11)])
@pytest.mark.parametrize("softmax_first", [False, True])
def test_the_scores_before_a_final_argmax_are_used(tmp_path: Path, axis: int, opset: int, softmax_first: bool) -> None:
    logits = random_logits(HEIGHT // 2, WIDTH // 2)
    values = logits if axis == 1 else logits.transpose(0, 2, 3, 1)
    # A Softmax over one axis alone: before opset 13, only the last axis can be that.
    with_softmax = softmax_first and (opset >= 13 or axis != 1)
    nodes = [helper.make_node("Softmax", ["inner"], ["shares"], axis=axis)] if with_softmax else []
    nodes += [
        helper.make_node("ArgMax", ["shares" if with_softmax else "inner"], ["best"], axis=axis, keepdims=1),
        helper.make_node("Cast", ["best"], ["mask"], to=6),
    ]
    best = values.argmax(axis=axis, keepdims=True).astype(np.int32)
    network = {"inner": values, "mask": best}
    path = save_network(tmp_path / "net.onnx", network, opset=opset, extra_nodes=nodes)
    keep_outputs(path, "mask")

    graph = built(path, {"segmentation": {"meaning": "class_ids", "classes": NAMES}})
    found = run_graph(graph)

    np.testing.assert_array_equal(found["class_map"], logits.argmax(axis=1))
    np.testing.assert_allclose(found["uncertainty"], expected_uncertainty(logits, 2), atol=1e-4)
    assert "Softmax" not in {node.op_type for node in graph.model.graph.node}


def test_a_final_softmax_is_left_out(tmp_path: Path) -> None:
    logits = random_logits(HEIGHT, WIDTH)
    nodes = [helper.make_node("Softmax", ["inner"], ["shares"], axis=1)]
    path = save_network(tmp_path / "net.onnx", {"inner": logits, "shares": softmax(logits)}, extra_nodes=nodes)
    keep_outputs(path, "shares")
    description = {"segmentation": {"meaning": "probabilities", "classes": NAMES}}

    graph = built(path, description)

    assert "Softmax" not in {node.op_type for node in graph.model.graph.node}
    np.testing.assert_array_equal(run_graph(graph)["class_map"], logits.argmax(axis=1))
    np.testing.assert_allclose(run_built(path, description, "teacher")["probabilities"], softmax(logits), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, HEIGHT, WIDTH), (1, 1, HEIGHT, WIDTH), (1, HEIGHT, WIDTH, 1)])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
def test_numbers_of_classes_become_ids(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    numbers = RNG.integers(0, 6, (HEIGHT, WIDTH))
    numbers[:2] = [[-1], [300]] if dtype == np.int64 else [[5], [200]]
    path = save_network(tmp_path / "net.onnx", {"mask": numbers.reshape(shape).astype(dtype)})
    part = {"meaning": "class_ids", "classes": ["road", None, "car", "sky"], "ignored": ["sky"], "numbering": "from_1"}

    found, teacher = run_built(path, {"segmentation": part}), run_built(path, {"segmentation": part}, "teacher")

    expected = np.where(numbers == 1, 0, np.where(numbers == 3, 2, 255))
    np.testing.assert_array_equal(found["class_map"][0], expected)
    np.testing.assert_array_equal(teacher["probabilities"][0], np.stack([expected == 0, expected == 2]))


def test_the_uncertainty_of_numbers_is_the_mix_of_classes_in_a_block(tmp_path: Path) -> None:
    numbers = np.zeros((1, HEIGHT, WIDTH), np.int64)
    numbers[:, :32, 16:32] = 1  # half of the first block
    numbers[:, 32:, 64:] = 9  # all of the last block: no class
    path = save_network(tmp_path / "net.onnx", {"mask": numbers})

    found = run_built(path, {"segmentation": {"meaning": "class_ids", "classes": ["road", "car"]}})

    np.testing.assert_allclose(found["uncertainty"][0], [[np.log(2) / np.log(3), 0, 0], [0, 0, 0]], atol=1e-4)


def test_ids_of_a_label_set_may_be_the_numbers(tmp_path: Path) -> None:
    label_set = tmp_path / "gaps.yaml"
    label_set.write_text("name: gaps\nsegmentation: [{id: 7, name: road}, {id: 11, name: building}]\n")
    numbers = np.full((1, HEIGHT, WIDTH), 7, np.int64)
    numbers[0, 0] = 11
    path = save_network(tmp_path / "net.onnx", {"mask": numbers})
    part = {"meaning": "class_ids", "classes": str(label_set), "numbering": "ids"}

    np.testing.assert_array_equal(run_built(path, {"segmentation": part})["class_map"], numbers)


def keep_outputs(path: Path, *names: str) -> None:
    """Keep only some outputs of a file: the others become values inside of the graph."""
    model = onnx.load(str(path))
    kept = [output for output in model.graph.output if output.name in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, str(path))
