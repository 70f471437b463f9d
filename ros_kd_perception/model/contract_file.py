"""ContractFile: an exported file with its contract and golden frames, checked without ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ros_kd_perception.model.contract import CONTRACT_KEY, ContractError, ModelContract
from ros_kd_perception.model.golden import GOLDEN_KEY, GoldenFrame, golden_from_text
from ros_kd_perception.model.onnx_file import GraphFacts, ModelFile, read_model_file

GRAPH_SHA256_KEY = "ros_kd_perception.graph_sha256"
"""Metadata key of the hex digest of the graph's bytes. Files that were exported before it existed do not have it."""


@dataclass(frozen=True)
class ContractFile:
    """An ONNX file whose contract fits its graph. No session was opened.

    Attributes:
        path: Path of the file.
        file: Its bytes, hash and metadata.
        contract: Its contract.
    """

    path: Path
    file: ModelFile
    contract: ModelContract

    @classmethod
    def read(cls, path: Path, signature_key: str = "") -> ContractFile:
        """Read and check a file.

        Args:
            path: The file.
            signature_key: Path of a public key that must have signed it. Empty accepts an unsigned file.

        Raises:
            ModelFileError: The file is missing, unreadable, unsafe, or not signed with the key.
            ContractError: It has no contract or an invalid one, its graph has changed since the export, or its
                precision is not the one of the contract. The text starts with the path.
        """
        file = read_model_file(path, signature_key)
        try:
            if CONTRACT_KEY not in file.metadata:
                raise ContractError(
                    f"expected a contract under the metadata key {CONTRACT_KEY}, found the keys "
                    f"{sorted(file.metadata)[:8]}; only models written by `python -m training export` or `adopt` can "
                    "be run"
                )
            contract = ModelContract.from_json(file.metadata[CONTRACT_KEY])
            _check_unchanged(file)
            _check_precision(contract.precision, file.graph)
        except ContractError as error:
            raise ContractError(f"{path}: {error}") from None
        return cls(path, file, contract)

    def golden_frames(self) -> list[GoldenFrame]:
        """Return the golden frames.

        Raises:
            ContractError: There are none, or they do not fit the contract. The text does not name the file.
        """
        if GOLDEN_KEY not in self.file.metadata:
            raise ContractError(
                f"expected golden frames under the metadata key {GOLDEN_KEY}, found none; export the model again"
            )
        return golden_from_text(self.file.metadata[GOLDEN_KEY], self.contract)


def _check_unchanged(file: ModelFile) -> None:
    # Golden frames do not reach every weight: in five of the 35 layers of the shipped student, a permutation of all
    # weights leaves their outputs as they are.
    recorded = file.metadata.get(GRAPH_SHA256_KEY, file.graph.sha256)
    if recorded != file.graph.sha256:
        raise ContractError(
            f"expected layers and weights of sha256 {recorded[:12]} as its export recorded, got "
            f"{file.graph.sha256[:12]}: the file was changed after its export; export the model again"
        )


def _check_precision(precision: str, graph: GraphFacts) -> None:
    found = "no QuantizeLinear, DequantizeLinear or other operator of integers"
    if graph.integer_operators:
        found = f"{graph.integer_operators} operators that quantise or compute in integers"
    if (precision == "int8") != bool(graph.integer_operators):
        raise ContractError(
            f"expected a network of {precision} as its contract says, found {found}; export or quantise the model again"
        )
    if precision == "fp16" and not graph.float16_weights:
        raise ContractError(
            "expected a network of fp16 as its contract says, found no weights of half precision; export or convert "
            "the model again"
        )
