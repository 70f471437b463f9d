"""Writes an ONNX model with its contract, its golden frames and the hash of its graph."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

from ros_kd_perception.model.contract import CONTRACT_KEY, ModelContract
from ros_kd_perception.model.contract_file import GRAPH_SHA256_KEY
from ros_kd_perception.model.golden import GOLDEN_KEY


def save_model(model: onnx.ModelProto, path: Path, contract: ModelContract, golden: str = "") -> None:
    """Write `model` to `path`, without its other metadata.

    Args:
        model: The network; it is not changed.
        path: Path of the file, which is overwritten: pass a temporary name.
        contract: The contract of the network.
        golden: Text of `golden_to_text`. Empty for a file that is opened only to compute its golden outputs.
    """
    metadata = {
        CONTRACT_KEY: contract.to_json(),
        GRAPH_SHA256_KEY: hashlib.sha256(model.graph.SerializeToString()).hexdigest(),
    }
    if golden:
        metadata[GOLDEN_KEY] = golden
    named = onnx.ModelProto()
    named.CopyFrom(model)
    onnx.helper.set_model_props(named, metadata)
    onnx.save(named, str(path))
