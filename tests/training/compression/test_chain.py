"""A whole chain on a tiny network: pruned, distilled, quantised, measured and written with its proof."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from chain_parent import SMOKE, validation_on, write_parent

from ros_kd_perception.model.onnx_model import OnnxModel
from training.__main__ import main


def write_chain(folder: Path, samples: Path, budget: str = "{miou: 1.0, ap50: 1.0, agreement: 0.0}") -> Path:
    overrides = [
        "size=n", "epochs=1", "data.samples_per_epoch=4", f"data.train.0.folder={samples}", *validation_on(samples),
        "distillation={terms: [{kind: temperature_kl}]}",
    ]  # fmt: skip
    path = folder / "chain.yaml"
    path.write_text(f"""
name: tiny
parent: {folder}/parent.safetensors
steps:
  - {{kind: prune, share: 0.7}}
  - {{kind: distil, recipe: {SMOKE}, overrides: {json.dumps(overrides)}}}
  - kind: quantise
    calibration: {{frames: {{kind: rendered, folder: {samples}}}, count: 8}}
scores:
  - {{name: rendered, frames: {{kind: rendered, folder: {samples}, limit: 2}}}}
budget: {budget}
output: {folder}/small.onnx
student_name: small
version: 1.2.0
folder: {folder}/chains
""")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, rendered_samples: Path) -> Path:
    """Return a folder in which a chain has been run."""
    folder = tmp_path_factory.mktemp("chain")
    write_parent(folder / "parent.safetensors", rendered_samples)
    assert main(["compress", str(write_chain(folder, rendered_samples)), "--accelerator", "cpu"]) == 0
    return folder


def made(folder: Path) -> dict[str, int]:
    """Return when each file of the steps was written."""
    files = (folder / "chains" / "tiny").glob("*_*/**/*")
    return {str(path): path.stat().st_mtime_ns for path in files if path.is_file()}


def test_the_result_says_what_it_was_made_from_and_what_it_lost(folder: Path) -> None:
    contract = OnnxModel.open(folder / "small.onnx", device="cpu").contract
    assert (contract.name, contract.version, contract.precision) == ("small", "1.2.0", "int8")
    derived = contract.derived
    assert derived["from_sha256"] == hashlib.sha256((folder / "parent.safetensors").read_bytes()).hexdigest()
    assert derived["from_name"] == "parent.safetensors"
    assert [step.split()[0] for step in derived["steps"]] == ["prune", "distil", "int8"]
    assert derived["data_sha256"]
    assert set(derived["loss"]) <= {"miou", "ap50"}
    assert derived["loss"]["miou"] == pytest.approx(
        contract.metrics["rendered"]["miou"] - derived["parent"]["miou"], abs=1e-5
    )
    assert derived["frames"]["miou"] == "rendered"
    assert 0 <= derived["agreement"] <= 1


def test_the_report_has_a_row_for_the_parent_and_for_every_step(folder: Path) -> None:
    report = folder / "chains" / "tiny"
    assert (report / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "What was cut" in (report / "report.html").read_text(encoding="utf-8")
    rows = json.loads((report / "report.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["parent", "prune", "distil", "quantise"]
    parent, prune, distil, quantise = rows
    assert prune["multiply_accumulates"] <= 0.7 * parent["multiply_accumulates"]
    assert distil["multiply_accumulates"] == prune["multiply_accumulates"]
    assert quantise["size_bytes"] < distil["size_bytes"]


def test_what_is_finished_is_not_done_again(folder: Path, rendered_samples: Path) -> None:
    before = made(folder)
    assert main(["compress", str(write_chain(folder, rendered_samples)), "--accelerator", "cpu"]) == 0
    assert made(folder) == before


def test_a_chain_goes_on_after_the_last_finished_step(folder: Path, rendered_samples: Path) -> None:
    before = made(folder)
    (folder / "chains" / "tiny" / "3_quantise" / "done.json").unlink()
    assert main(["compress", str(write_chain(folder, rendered_samples)), "--accelerator", "cpu"]) == 0
    changed = {Path(path).parent.name for path, when in made(folder).items() if before.get(path) != when}
    assert changed == {"3_quantise"}


def test_a_result_that_lost_too_much_is_not_written(
    folder: Path, rendered_samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = (folder / "small.onnx").read_bytes()
    strict = write_chain(folder, rendered_samples, "{miou: 1.0, ap50: 1.0, agreement: 1.0}")
    assert main(["compress", str(strict), "--accelerator", "cpu"]) == 1
    said = capsys.readouterr().err
    assert "was not written, for the result agrees with the parent in" in said
    assert "the nearest that it meets is 0." in said
    assert (folder / "small.onnx").read_bytes() == written


def test_frames_of_other_classes_are_refused_before_the_first_step(
    folder: Path, rendered_samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = write_chain(folder, rendered_samples)
    chain.write_text(chain.read_text().replace("limit: 2}", "limit: 2, labels: kitti}"))
    assert main(["compress", str(chain), "--accelerator", "cpu"]) == 2
    said = capsys.readouterr()
    assert "expected ids of the label set kitti" in said.err
    assert "step 1" not in said.out


def test_missing_frames_are_said_before_the_first_step(
    tmp_path: Path, rendered_samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parent(tmp_path / "parent.safetensors", rendered_samples)
    chain = write_chain(tmp_path, rendered_samples)
    chain.write_text(chain.read_text().replace(f"folder: {rendered_samples}, limit", f"folder: {tmp_path}/none, limit"))
    assert main(["compress", str(chain)]) == 2
    assert "none: expected" in capsys.readouterr().err
    assert not (tmp_path / "chains").exists()
