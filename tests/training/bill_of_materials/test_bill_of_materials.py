"""`python -m training bill-of-materials`: it follows the schema, and says of packages and models what they say."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tiny_student import write_tiny_student

from ros_kd_perception.model.contract_file import ContractFile
from ros_kd_perception.system.shipped_files import SHIPPED_INT8_STUDENT, SHIPPED_STUDENT
from training.__main__ import main
from training.bill_of_materials.bill import validated
from training.errors import DataError

SHIPPED = tuple(ROOT / name for name in (SHIPPED_STUDENT, SHIPPED_INT8_STUDENT) if (ROOT / name).is_file())


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bill") / "bill.json"
    assert main(["bill-of-materials", "-o", str(path)]) == 0
    return path.read_text()


@pytest.fixture(scope="module")
def bill(text: str) -> Any:
    return json.loads(text)


def by_name(bill: Any) -> dict[str, Any]:
    return {component["name"]: component for component in bill["components"]}


def test_it_follows_the_schema(text: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_what_does_not_follow_the_schema_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="expected the bill to follow the schema"):
        validated(text.replace('"machine-learning-model"', '"network"'))


def test_it_is_of_this_version_and_the_same_every_time(
    text: str, bill: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    own = bill["metadata"]["component"]
    assert (own["name"], own["version"]) == ("ros_kd_perception", version("ros_kd_perception"))
    assert own["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    assert main(["bill-of-materials"]) == 0
    assert capsys.readouterr().out == text


def test_it_has_the_packages_of_a_vehicle_with_their_versions_and_nothing_of_training(bill: Any) -> None:
    packages = by_name(bill)
    for name in ("numpy", "onnxruntime", "opencv-python-headless", "rosbags", "cryptography", "cffi"):
        assert packages[name]["version"] == version(name)
        assert packages[name]["purl"] == f"pkg:pypi/{name}@{version(name)}"
        assert packages[name]["licenses"], name
    assert not {"torch", "lightning", "pytest", "onnx"} & packages.keys()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.name))
def test_models_name_what_they_learnt_from_and_under_which_licence(bill: Any, path: Path) -> None:
    file = ContractFile.read(path)
    model = by_name(bill)[path.name]
    provenance = file.contract.provenance
    assert model["hashes"] == [{"alg": "SHA-256", "content": file.file.sha256}]
    assert model["licenses"] == [{"license": {"name": provenance["use"]}}]
    components = {component["bom-ref"]: component for component in bill["components"]}
    (needs,) = [each["dependsOn"] for each in bill["dependencies"] if each["ref"] == model["bom-ref"]]
    learnt_from = [components[ref] for ref in needs]
    assert {each["type"] for each in learnt_from} == {"data"}
    assert {each["name"]: each["licenses"][0]["license"]["name"] for each in learnt_from} == provenance["licences"]
    if parent := file.contract.derived.get("from_sha256"):
        (ancestor,) = model["pedigree"]["ancestors"]
        assert ancestor["hashes"][0]["content"] == parent


def test_every_dependency_is_in_it(bill: Any) -> None:
    known = {component["bom-ref"] for component in (*bill["components"], bill["metadata"]["component"])}
    for dependency in bill["dependencies"]:
        assert {dependency["ref"], *dependency.get("dependsOn", ())} <= known
    (own,) = [d["dependsOn"] for d in bill["dependencies"] if d["ref"] == bill["metadata"]["component"]["bom-ref"]]
    assert {f"model {path.name}" for path in SHIPPED} <= set(own)


def test_a_model_that_says_nothing_of_its_origin_is_named_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    assert main(["bill-of-materials", str(path)]) == 0
    tiny = by_name(json.loads(capsys.readouterr().out))["tiny.onnx"]
    assert tiny["licenses"] == [{"license": {"name": "not stated"}}]


def test_a_file_that_is_no_model_ends_it_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    assert main(["bill-of-materials", str(tmp_path / "noise.onnx")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
