"""Networks of Keras, exported by Keras itself, are adopted: NHWC in and out, and the results of Keras."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import ROOT
from torch.nn import functional

from ros_kd_perception.model.onnx_model import OnnxModel
from training.__main__ import main
from training.teachers.onnx_file import OnnxTeacher

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed; it is in the extra [test]", allow_module_level=True)

DESCRIPTION = """\
input: {layout: nhwc, channels: rgb, divide: 127.5, mean: [1, 1, 1]}
segmentation: {layout: nhwc, meaning: logits, classes: cityscapes19}
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    environment = os.environ | {
        "KERAS_BACKEND": "torch",
        "KERAS_HOME": str(folder / "home"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    script = ROOT / "tests" / "support" / "keras_networks.py"
    outcome = subprocess.run(
        [sys.executable, str(script), str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "InceptionV3"])
def test_networks_of_keras_are_adopted(exported: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "net.yaml").write_text(DESCRIPTION)
    output = tmp_path / "model.onnx"

    assert (
        main(["adopt", str(exported / f"{name}.onnx"), "--describe", str(tmp_path / "net.yaml"), "-o", str(output)])
        == 0
    )

    model, known = OnnxModel.open(output, device="cpu"), np.load(exported / f"{name}.npz")
    found = np.concatenate([model.run(image[None]).class_map for image in known["images"]])
    logits = torch.from_numpy(known["logits"]).permute(0, 3, 1, 2)
    expected = functional.interpolate(logits, found.shape[1:], mode="bilinear").argmax(dim=1).numpy()
    assert len(np.unique(expected)) > 4
    assert (found == expected).mean() >= 0.995


@pytest.mark.slow
def test_a_network_of_keras_teaches(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(DESCRIPTION)
    settings = OnnxTeacher.checked(
        {"kind": "onnx", "path": str(exported / "MobileNetV2.onnx"), "describe": str(tmp_path / "net.yaml")}
    )
    teacher, known = settings.open(), np.load(exported / "MobileNetV2.npz")
    images_bgr = torch.from_numpy(np.ascontiguousarray(known["images"][..., ::-1].transpose(0, 3, 1, 2)))

    probabilities = teacher(images_bgr).probabilities

    assert probabilities is not None
    assert [info.name for info in teacher.label_set.segmentation_classes][:2] == ["road", "sidewalk"]
    expected = torch.from_numpy(known["logits"]).permute(0, 3, 1, 2).softmax(dim=1)
    torch.testing.assert_close(probabilities, expected, rtol=1e-3, atol=1e-3)
