"""Writes files that were made from an exported file: quantised, or in half precision."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from ros_kd_perception.model.contract import SEGMENTATION, ModelContract
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.structures import UInt8Array
from ros_kd_perception.system.output_paths import make_folder
from training.export.contract_metadata import save_model
from training.export.export import golden_frame, golden_text
from training.export.settings import golden_limits


def write_derived_file(
    graph: onnx.ModelProto, output: Path, contract: ModelContract, golden_images: Sequence[UInt8Array]
) -> None:
    """Write a graph with its contract and with golden outputs of its own precision.

    Args:
        graph: The graph. Its metadata are replaced.
        output: Path of the file. An existing file is replaced only after the new one has been opened and verified.
        contract: The contract of the new file.
        golden_images: Network inputs, uint8 [H, W, 3], in the channel order of the contract. As many as fit go into
            the file, from the first on. They must not come from licensed data.

    Raises:
        ModelError: ONNX Runtime cannot run the graph, or its inputs and outputs are not those of the contract.
        ValueError: There are no golden images, or the first one is too large.
    """
    model = open_graph(graph, contract)
    golden = [golden_frame(model, image) for image in golden_images]
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        make_folder(output.parent)
        save_model(graph, temporary, contract, golden_text(golden))
        OnnxModel.open(temporary, device="cpu")
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


def open_graph(graph: onnx.ModelProto, contract: ModelContract, threads: int = 0) -> OnnxModel:
    """Open a graph that no file holds yet, on the CPU.

    Args:
        graph: The graph.
        contract: Its contract.
        threads: Threads of one operator. 0 lets ONNX Runtime choose.

    Raises:
        ModelError: ONNX Runtime cannot run the graph, or its inputs and outputs are not those of the contract.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        save_model(graph, path, contract)
        return OnnxModel.open(path, device="cpu", intra_op_threads=threads, verify_golden=False)


def derived_contract(parent: ModelContract, precision: str, derived: Mapping[str, Any]) -> ModelContract:
    """Return the contract of a file that was made from another one. It has no metrics: those are of the other file.

    Args:
        parent: The contract of the file that it was made from.
        precision: `fp32`, `fp16` or `int8`.
        derived: What it was made from, how, and what it lost; see `derived_section`.
    """
    cells = math.prod(parent.output_shapes()["class_map"]) if SEGMENTATION in parent.tasks else 0
    return replace(parent, precision=precision, derived=derived, golden=golden_limits(cells, precision), metrics={})


def derived_section(
    parent_sha256: str, parent_name: str, steps: Sequence[str], data_sha256: str = "", **measured: Any
) -> dict[str, Any]:
    """Return the section `derived` of a contract.

    Args:
        parent_sha256: Hex digest of the file that the new one was made from.
        parent_name: Name of that file.
        steps: One sentence for each step from there to the new file.
        data_sha256: Fingerprint of the calibration frames; empty = no frames were used.
        **measured: `loss`, `frames`, `parent` and `agreement`, as docs/model_contract.md describes them. What was not
            measured is left out.
    """
    data = {"data_sha256": data_sha256} if data_sha256 else {}
    return {"from_sha256": parent_sha256, "from_name": parent_name, "steps": list(steps), **data, **measured}
