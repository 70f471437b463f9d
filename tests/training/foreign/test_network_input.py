"""The input of a foreign network: pixel values arrive normalised, in its layout and type."""

from pathlib import Path

import numpy as np
import pytest
from foreign_networks import HEIGHT, WIDTH, built, run_graph, save_pass_through
from onnx import TensorProto

MEAN, STD = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
IMAGE = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_are_normalised_as_described(tmp_path: Path, layout: str, dtype: str) -> None:
    path = save_pass_through(tmp_path / "net.onnx", layout, DTYPES[dtype])
    source = {"layout": layout, "divide": 200, "mean": MEAN, "std": STD}
    part = {"layout": layout, "meaning": "probabilities", "classes": ["a", "b", "c"]}

    graph = built(path, {"input": source, "segmentation": part}, "teacher")
    values = run_graph(graph, IMAGE)["probabilities"][0].transpose(1, 2, 0)

    assert values.dtype == np.float32
    expected = ((IMAGE / 200 - MEAN) / STD).astype(dtype).astype(np.float32)
    np.testing.assert_allclose(values, expected, atol=1e-6 if dtype == "float32" else 2e-3, rtol=1e-3)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_network_of_uint8_takes_the_pixels_as_they_are(tmp_path: Path, layout: str) -> None:
    path = save_pass_through(tmp_path / "net.onnx", layout, TensorProto.UINT8)
    part = {"layout": layout, "meaning": "logits", "classes": ["a", "b", "c"]}

    found = run_graph(built(path, {"input": {"layout": layout}, "segmentation": part}), IMAGE)

    np.testing.assert_array_equal(found["class_map"][0], IMAGE.argmax(axis=2))
