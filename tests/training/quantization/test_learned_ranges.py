"""What is trained is what runs: a file that is quantised with learned ranges computes what the trained network does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from label_sets import CAMVID
from torch import nn

from ros_kd_perception.model.onnx_runtime import onnxruntime
from training.__main__ import main
from training.checkpoint import AVERAGED_PREFIX, INFO_KEY, CheckpointInfo
from training.config.sections import BackboneRecipe, QuantizationAwareRecipe
from training.errors import CheckpointError
from training.export.export import export_student
from training.export.settings import ExportSettings
from training.networks.deployed import DeployedStudent
from training.networks.fake_quantization import ActivationQuantiser
from training.networks.quantization_aware import calibrate, quantization_aware
from training.networks.selected_backbone import build_backbone
from training.networks.student import Student, build_student
from training.quantization.learned_ranges import all_ranges, learned_ranges, rounded_tensors
from training.quantization.quantise import Quantiser
from training.quantization.ranges import TensorRange
from training.quantization.settings import QuantiseSettings

HEIGHT, WIDTH = 64, 96
SETTINGS = ExportSettings(CAMVID, height=HEIGHT, width=WIDTH)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
ROUNDED = "_QuantizeLinear_Output"
CPU = QuantiseSettings.checked(
    {"form": "cpu", "calibration": {"frames": {"kind": "unlabeled", "folder": "calibration"}}}
)


def trained(architecture: str = "") -> Student:
    """Return a student that rounds, whose ranges differ from what calibration would find on `IMAGES`."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneRecipe(architecture=architecture)) if architecture else None
    student = build_student("n", len(CAMVID.segmentation), len(CAMVID.detection), backbone)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    aware = quantization_aware(student.eval(), QuantizationAwareRecipe())
    calibrate(aware, [torch.from_numpy(IMAGES).permute(0, 3, 1, 2)])
    with torch.no_grad():
        for module in aware.modules():
            if isinstance(module, ActivationQuantiser) and module.log_scale.requires_grad:
                module.log_scale.sub_(0.3)
    return aware


@pytest.fixture(scope="module")
def aware() -> Student:
    return trained()


@pytest.fixture(scope="module")
def exported(aware: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "aware.onnx"
    export_student(aware, path, SETTINGS, list(IMAGES[:1]))
    return path


def saved(student: Student, path: Path, **notes: Any) -> Path:
    """Write a checkpoint of a student."""
    info = CheckpointInfo("n", "", "", "", 1, "", {}, label_set=CAMVID.model_dump(mode="json"), **notes)
    state = {AVERAGED_PREFIX + name: value for name, value in student.state_dict().items()}
    torch.save({"state_dict": state, INFO_KEY: asdict(info)}, path)
    return path


def outputs_of_torch(student: Student, quantisers: dict[str, ActivationQuantiser]) -> dict[str, np.ndarray]:
    """Run the deployed student that the quantisers belong to, and return what each of them made.

    An EfficientNet-Lite pads the image before it is rounded, a file after it; the zeros below and on the right go.
    """
    made: dict[str, np.ndarray] = {}
    handles = [
        quantiser.register_forward_hook(
            lambda module, inputs, output, name=name: made.update({name: output.numpy()[..., :HEIGHT, :WIDTH]})  # type: ignore[misc]
        )
        for name, quantiser in quantisers.items()
    ]
    with torch.no_grad():
        student(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float())
    for handle in handles:
        handle.remove()
    return made


def outputs_of_layers(graph: onnx.ModelProto, rounded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run each layer of a quantised graph on the rounded inputs given, not on those of the layers before it.

    One integer more or less at a tie would otherwise grow from layer to layer.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(graph)
    fed, asked = {}, {}
    for node in opened.graph.node:
        if node.op_type == "DequantizeLinear" and (name := node.input[0].removesuffix(ROUNDED)) in rounded:
            fed[node.output[0]], asked[name] = rounded[name], f"found {name}"
            opened.graph.input.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None))
            opened.graph.output.append(onnx.helper.make_tensor_value_info(asked[name], onnx.TensorProto.FLOAT, None))
            node.output[0] = asked[name]
    assert asked.keys() == rounded.keys(), "all that is rounded in training is rounded in the file"
    found = run(opened, list(asked.values()), {"images": IMAGES, **fed})
    return dict(zip(asked, found, strict=True))


def run(graph: onnx.ModelProto, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Run a graph as it is written, without the integer kernels that optimisations choose."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(names, inputs))


def check_what_is_trained_is_what_runs(aware: Student, exported: Path) -> onnx.ModelProto:
    deployed = DeployedStudent(aware, HEIGHT, WIDTH, SETTINGS.rows)
    quantisers = rounded_tensors(deployed.student, exported)
    # The changes that make the file faster give the same integers; test_image_input.py and test_upsampling.py say so.
    graph = Quantiser(exported, list(IMAGES), CPU, all_ranges(quantisers, exported)).rounded()
    expected = outputs_of_torch(deployed.student, quantisers)
    for name, found in outputs_of_layers(graph, expected).items():
        steps = np.abs(found - expected[name]) / float(quantisers[name].scale().detach())
        assert steps.max() < 1.01, f"{name}: more than one integer off"
        assert (steps > 0.5).mean() < 0.005, f"{name}: off at more than ties"

    shared = {node.output[0] for node in graph.graph.node if node.op_type in ("Concat", "MaxPool", "Resize")}
    rounded = {node.input[0] for node in graph.graph.node if node.op_type == "QuantizeLinear"}
    assert rounded - expected.keys() <= shared, "all that is rounded in the file is rounded in training"
    return graph


def test_what_is_trained_is_what_runs(aware: Student, exported: Path) -> None:
    graph = check_what_is_trained_is_what_runs(aware, exported)

    deployed = DeployedStudent(aware, HEIGHT, WIDTH, SETTINGS.rows)
    with torch.no_grad():
        expected = dict(zip(deployed.output_names, deployed(torch.from_numpy(IMAGES)), strict=True))
    (class_map,) = run(graph, ["class_map"], {"images": IMAGES})
    assert (class_map == expected["class_map"].numpy()).mean() > 0.9


@pytest.mark.slow
def test_other_backbones_run_as_they_are_trained(tmp_path: Path) -> None:
    # ReLU6, padding on one side, depthwise convolutions, residual sums, and a mean that is subtracted from the image.
    student = trained("efficientnet_lite0")
    export_student(student, tmp_path / "lite.onnx", SETTINGS, list(IMAGES[:1]))
    check_what_is_trained_is_what_runs(student, tmp_path / "lite.onnx")


def test_the_ranges_of_a_checkpoint_are_found_by_name(aware: Student, exported: Path, tmp_path: Path) -> None:
    noted = QuantizationAwareRecipe().model_dump(mode="json")
    checkpoint = saved(aware, tmp_path / "aware.ckpt", quantization_aware=noted)
    ranges = learned_ranges(checkpoint, exported)
    assert len(ranges) > 30
    (first,) = [node for node in onnx.load(exported).graph.node if node.name == "student.backbone.stages.0.0.0/Conv"]
    pixels = ranges[first.input[0]]
    assert (pixels.lowest, pixels.highest) == (0.0, pytest.approx(255.0))
    scale = float(aware.segmentation.classifier.output.scale().detach())  # type: ignore[union-attr, operator]
    (last,) = [node for node in onnx.load(exported).graph.node if node.name == "student.segmentation.classifier/Conv"]
    found = ranges[last.output[0]]
    assert isinstance(found, TensorRange)
    assert (found.highest - found.lowest) / 255 == pytest.approx(scale)


def test_what_has_no_ranges_is_refused(aware: Student, exported: Path, tmp_path: Path) -> None:
    plain = saved(build_student("n", len(CAMVID.segmentation), len(CAMVID.detection)), tmp_path / "plain.ckpt")
    with pytest.raises(CheckpointError, match=r"plain\.ckpt: expected a network that was trained for 8 bits"):
        learned_ranges(plain, exported)
    other = trained()
    with torch.no_grad():
        other.neck.laterals[0].weight.mul_(1.01)  # type: ignore[operator, union-attr]
    deployed = DeployedStudent(other, HEIGHT, WIDTH, SETTINGS.rows).student
    with pytest.raises(CheckpointError, match=r"differ at student\.neck\.laterals\.0\.weight; export the checkpoint"):
        rounded_tensors(deployed, exported)


def test_export_writes_the_network_in_fp32_and_says_so(
    aware: Student, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noted = QuantizationAwareRecipe().model_dump(mode="json")
    checkpoint = saved(aware, tmp_path / "aware.ckpt", quantization_aware=noted)
    words = ["export", str(checkpoint), "-o", str(tmp_path / "out.onnx"), "--height", "64", "--width", "96"]
    assert main(words) == 0
    assert "trained for 8 bits, and so are its figures; this file has its weights in fp32" in capsys.readouterr().out
    graph = onnx.load(tmp_path / "out.onnx").graph
    assert not [node.name for node in graph.node if "Quantize" in node.op_type or node.op_type == "Round"]
    assert learned_ranges(checkpoint, tmp_path / "out.onnx")
