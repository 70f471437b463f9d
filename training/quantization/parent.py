"""Reads the file that a smaller one is made from."""

from __future__ import annotations

from pathlib import Path

import onnx

from ros_kd_perception.model.contract import CONTRACT_KEY, ModelContract
from ros_kd_perception.model.onnx_file import INTEGER_OPERATORS, ModelFileError, read_model_file


def read_parent(path: Path) -> tuple[onnx.ModelProto, ModelContract, str]:
    """Return graph, contract and sha256 of a file to quantise.

    Raises:
        ModelFileError: It is not a file of `export` or `adopt`, or not in fp32.
        ContractError: Its contract is malformed.
    """
    file = read_model_file(path)
    if CONTRACT_KEY not in file.metadata:
        raise ModelFileError(
            f"{path}: expected a file that `python -m training export` or `adopt` wrote, it has no contract; export or "
            "adopt it first"
        )
    contract = ModelContract.from_json(file.metadata[CONTRACT_KEY])
    graph = onnx.ModelProto.FromString(file.content)
    integers = any(node.op_type in INTEGER_OPERATORS for node in graph.graph.node)
    if contract.precision != "fp32" or integers:
        raise ModelFileError(
            f"{path}: expected a file in fp32 to quantise, got one in {contract.precision}"
            f"{' with quantised layers' if integers else ''}; name the file that it was made from"
        )
    return graph, contract, file.sha256
