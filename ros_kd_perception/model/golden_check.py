"""Runs the golden frames of a model and compares the outputs with the expected ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ros_kd_perception.model.contract import ContractError, ModelContract
from ros_kd_perception.model.execution_provider import ProviderReport, first_line
from ros_kd_perception.model.golden import GoldenFrame, GoldenResult, golden_limits_in_words
from ros_kd_perception.model.network_outputs import FIELD_OF_OUTPUT, NetworkOutputs
from ros_kd_perception.structures import UInt8Array
from ros_kd_perception.system.priority import run_at_low_priority


class GoldenRunError(ContractError):
    """The network failed to run a golden frame."""


class GoldenModel(Protocol):
    """What is needed of an open model."""

    contract: ModelContract
    provider: ProviderReport
    max_batch: int

    def run(self, images: UInt8Array) -> NetworkOutputs:
        """Run the network on uint8 `[N, H, W, 3]`."""


def run_golden_frames(model: GoldenModel, golden: Sequence[GoldenFrame], *, low_priority: bool) -> GoldenResult:
    """Run the golden frames alone and in full batches.

    Args:
        model: The model to verify.
        golden: Its golden frames.
        low_priority: Run them behind everything else on the machine.

    Raises:
        GoldenRunError: The network failed to run a frame.
        ContractError: An output has another shape than the contract says, is not finite, or differs too much.
    """
    contract, limits = model.contract, model.contract.golden
    worst = GoldenResult()
    # If frames run in batches, check a single frame and a full batch: both must give the expected outputs.
    for count in sorted({1, model.max_batch}):
        for first in range(0, len(golden), count):
            batch = [golden[(first + index) % len(golden)] for index in range(count)]
            outputs = _run_golden(model, np.stack([frame.image for frame in batch]), first, low_priority)
            _check_shapes(outputs, contract, count)
            _check_finite(outputs, model.provider.used)
            for row, frame in enumerate(batch):
                result = frame.compare(outputs.cells(row), outputs.rows(row), contract)
                if not result.within(limits):
                    raise ContractError(
                        f"expected golden frame {(first + row) % len(golden)} on {model.provider.used} to agree "
                        f"{golden_limits_in_words(contract)}, got {result.words(contract)}; use another device or "
                        "precision, or export the model again"
                    )
                worst = worst.worse(result)
    return worst


def _run_golden(model: GoldenModel, images: UInt8Array, index: int, low_priority: bool) -> NetworkOutputs:
    try:
        # Lower the priority for the run alone, because the run releases the GIL. A thread that holds the GIL at a low
        # priority would make the other threads wait with it.
        return run_at_low_priority(lambda: model.run(images)) if low_priority else model.run(images)
    except Exception as error:
        raise GoldenRunError(
            f"expected golden frame {index} to run on {model.provider.used}, got: {first_line(error)}; "
            "export the model again"
        ) from None


def _check_shapes(outputs: NetworkOutputs, contract: ModelContract, count: int) -> None:
    for name, shape in contract.output_shapes().items():
        found = getattr(outputs, FIELD_OF_OUTPUT[name]).shape
        if found != (count, *shape):
            raise ContractError(
                f"expected {name} of {count} frame(s) to have the shape {(count, *shape)} as its contract says, "
                f"got {found}; export the model again"
            )


def _check_finite(outputs: NetworkOutputs, provider: str) -> None:
    # Check this before all comparisons, because every comparison with NaN is false.
    for name, values in (
        ("boxes", outputs.boxes_xyxy),
        ("scores", outputs.scores),
        ("uncertainty", outputs.uncertainty),
    ):
        if values is None:
            continue
        wrong = int(values.size - np.isfinite(values).sum())
        if wrong:
            raise ContractError(
                f"expected finite {name} for the golden frames on {provider}, got {wrong} of {values.size} that are "
                "NaN or infinite; use another device or precision, or export the model again"
            )
