"""OnnxModel: opens an exported student, verifies it and runs it. `execution_provider` opens the session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ros_kd_perception.model.contract import CONTRACT_KEY, ContractError, ModelContract
from ros_kd_perception.model.execution_provider import (
    CPU,
    DEVICES,
    INPUT_NAME,
    PRECISIONS,
    RUNTIME,
    TENSORRT,
    ProviderError,
    ProviderReport,
    SessionRequest,
    first_line,
    open_session,
    tell_on_stderr,
)
from ros_kd_perception.model.golden import GOLDEN_KEY, SCORE_TOLERANCE, GoldenFrame, GoldenResult, golden_from_text
from ros_kd_perception.model.onnx_file import ModelFileError, read_model_file
from ros_kd_perception.model.session import BoundSession, PlainSession, SessionRunner
from ros_kd_perception.structures import Detections, Float32Array, Int32Array, UInt8Array
from ros_kd_perception.system.priority import run_at_low_priority

__all__ = ["DEVICES", "PRECISIONS", "GoldenResult", "ModelError", "NetworkOutputs", "OnnxModel", "ProviderReport"]

_OUTPUT_TYPES: dict[str, tuple[str, type[np.generic]]] = {
    "class_map": ("tensor(uint8)", np.uint8),
    "boxes": ("tensor(float)", np.float32),
    "scores": ("tensor(float)", np.float32),
    "labels": ("tensor(int32)", np.int32),
    "uncertainty": ("tensor(float)", np.float32),
}


class ModelError(ValueError):
    """The model cannot be used. The text is one sentence: what was expected, what was found and what to do."""


@dataclass(frozen=True)
class NetworkOutputs:
    """The outputs of one run of the network for N frames.

    Attributes:
        class_map: uint8 `[N, H/s, W/s]`.
        boxes_xyxy: float32 `[N, K, 4]`, network-input pixels, best score first.
        scores: float32 `[N, K]`.
        labels: int32 `[N, K]`.
        uncertainty: float32 `[N, H/32, W/32]`.
    """

    class_map: UInt8Array
    boxes_xyxy: Float32Array
    scores: Float32Array
    labels: Int32Array
    uncertainty: Float32Array


class OnnxModel:
    """A verified model, ready to run. Create it with `OnnxModel.open`.

    Attributes:
        contract: Description of inputs, outputs and classes, read from the file.
        sha256: Hex digest of the file.
        provider: The execution provider that really runs the network.
        max_batch: Frames to run at once. It is 1 on a CPU, where running one after the other is faster.
        golden: How far the golden frames were off when the model was opened. None if they were not run.
    """

    def __init__(
        self, runner: SessionRunner, contract: ModelContract, sha256: str, provider: ProviderReport, max_batch: int = 1
    ) -> None:
        self._runner = runner
        self.contract = contract
        self.sha256 = sha256
        self.provider = provider
        self.max_batch = max_batch
        self.golden: GoldenResult | None = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        require_gpu: bool = False,
        intra_op_threads: int = 0,
        max_batch: int = 1,
        verify_golden: bool = True,
        low_priority: bool = False,
        sha256: str = "",
        tell: Callable[[ProviderReport], None] = tell_on_stderr,
    ) -> OnnxModel:
        """Open an exported student, check it against its contract and run its golden frames.

        Args:
            path: The `.onnx` file.
            device: `auto` (CUDA if it works, else the CPU), `tensorrt`, `cuda` or `cpu`.
            precision: `auto` (as exported), `fp32`, `fp16` or `int8`. fp16 with an fp32 file needs `tensorrt`.
            require_gpu: Refuse the model if a heavy part of the network would run on the CPU.
            intra_op_threads: Threads of one operator. 0 lets ONNX Runtime choose.
            max_batch: Largest number of frames in one run on a GPU. A CPU runs one frame at a time.
            verify_golden: Run the golden frames. Turn it off only in tools that inspect a model without running it.
            low_priority: On a CPU, run the golden frames at a low priority, behind everything else on the machine.
            sha256: Expected hex digest of the file. Empty accepts any file.
            tell: Called once for each model that opens. It must report what does not run as requested, so that a
                fallback is never silent.

        Raises:
            ModelError: The file is missing, unsafe, not the expected one or not ONNX; it has no contract or does not
                match it; the device or precision is not available; or a golden frame fails.
        """
        _check_choice("device", device, DEVICES)
        _check_choice("precision", precision, PRECISIONS)
        try:
            file = read_model_file(Path(path))
        except ModelFileError as error:
            raise ModelError(str(error)) from None
        if sha256 not in ("", file.sha256):
            raise ModelError(
                f"expected {path} to be the file that was tried a moment ago, it has changed since; open it again"
            )
        try:
            contract = _read_contract(file.metadata)
            size = contract.input
            request = SessionRequest(
                file.content,
                file.sha256,
                device,
                precision,
                contract.precision,
                (size.height, size.width, 3),
                max_batch,
                intra_op_threads,
            )
            model = cls._open(request, contract, require_gpu, cuda_graph=True)
            if verify_golden:
                model = model._verified(request, file.metadata, require_gpu, low_priority=low_priority)
        except ContractError as error:
            raise ModelError(f"{path}: {error}") from None
        except ProviderError as error:
            raise ModelError(
                f"expected {path} to be an ONNX model that {RUNTIME} loads, got: {error}; export the "
                "model again, or install a newer ONNX Runtime if the file is newer than it"
            ) from None
        tell(model.provider)
        return model

    def _verified(
        self, request: SessionRequest, metadata: Mapping[str, str], require_gpu: bool, *, low_priority: bool
    ) -> OnnxModel:
        golden = _read_golden(metadata, self.contract)
        try:
            self.golden = _verify_golden(self, golden, low_priority=low_priority and not self.provider.on_gpu)
        except _RunError:
            if self.provider.cuda_graph != "on":
                raise
            # Some networks cannot be recorded as a CUDA graph, and the first run is what shows it. Try again without.
            model = self._open(request, self.contract, require_gpu, cuda_graph=False)
            model.golden = _verify_golden(model, golden, low_priority=False)
            return model
        return self

    @classmethod
    def _open(
        cls, request: SessionRequest, contract: ModelContract, require_gpu: bool, *, cuda_graph: bool
    ) -> OnnxModel:
        session, provider = open_session(request, cuda_graph=cuda_graph)
        if require_gpu:
            _check_on_gpu(provider)
        _check_signature(session, contract)
        _check_precision(contract, request.precision, provider)
        if not provider.on_gpu:
            return cls(PlainSession(session, list(_OUTPUT_TYPES)), contract, request.sha256, provider)
        shapes = contract.output_shapes()
        runner = BoundSession(
            session,
            request.input_shape,
            {name: (dtype, shapes[name]) for name, (_, dtype) in _OUTPUT_TYPES.items()},
            max_batch=request.max_batch,
            cuda_graph=provider.cuda_graph == "on",
        )
        return cls(runner, contract, request.sha256, provider, request.max_batch)

    def run(self, images: UInt8Array) -> NetworkOutputs:
        """Run the network on uint8 `[N, H, W, 3]` network inputs, C-contiguous, in the contract's channel order."""
        return NetworkOutputs(*self._runner.run(images))


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ModelError(f"expected {name} to be one of {', '.join(choices)}, got {value!r}")


def _read_contract(metadata: Mapping[str, str]) -> ModelContract:
    if CONTRACT_KEY not in metadata:
        raise ContractError(
            f"expected a contract under the metadata key {CONTRACT_KEY}, found the keys {sorted(metadata)[:8]}; "
            "only students written by `python -m training export` can be run"
        )
    return ModelContract.from_json(metadata[CONTRACT_KEY])


def _read_golden(metadata: Mapping[str, str], contract: ModelContract) -> list[GoldenFrame]:
    if GOLDEN_KEY not in metadata:
        raise ContractError(
            f"expected golden frames under the metadata key {GOLDEN_KEY}, found none; export the model again"
        )
    return golden_from_text(metadata[GOLDEN_KEY], contract)


def _check_signature(session: Any, contract: ModelContract) -> None:
    inputs, outputs = session.get_inputs(), {node.name: node for node in session.get_outputs()}
    size = contract.input
    expected = [INPUT_NAME, "tensor(uint8)", [size.height, size.width, 3]]
    found = [[node.name, node.type, list(node.shape[1:])] for node in inputs]
    if found != [expected] or isinstance(inputs[0].shape[0], int):
        raise ContractError(
            f"expected one input {expected} with a dynamic batch as its contract says, got "
            f"{[[node.name, node.type, list(node.shape)] for node in inputs]}; export the model again"
        )
    for name, shape in contract.output_shapes().items():
        node, kind = outputs.get(name), _OUTPUT_TYPES[name][0]
        if node is None or node.type != kind or not _shape_fits(node.shape, shape):
            got = "none" if node is None else f"{node.type} {node.shape}"
            raise ContractError(
                f"expected an output {name} of {kind} [N, {', '.join(map(str, shape))}] as its contract says, "
                f"got {got}; export the model again"
            )


def _shape_fits(found: Sequence[Any], expected: tuple[int, ...]) -> bool:
    # An axis without a fixed size in the file passes here. The golden frames check its size.
    return len(found) == len(expected) + 1 and all(
        not isinstance(f, int) or f == e for f, e in zip(found[1:], expected, strict=True)
    )


def _check_on_gpu(provider: ProviderReport) -> None:
    if provider.used == CPU or provider.fallback:
        raise ContractError(
            f"expected a GPU to run the whole network (require_gpu is set), got "
            f"{'the CPU' if provider.used == CPU else 'a part'}"
            f"{': ' + provider.fallback if provider.fallback else ''}; install the [gpu] extra and its CUDA "
            "libraries, or unset require_gpu"
        )
    if provider.unproven:
        raise ContractError(
            f"expected proof that a GPU runs the whole network (require_gpu is set), got none: {provider.unproven}; "
            "install a newer onnxruntime-gpu, or unset require_gpu"
        )


def _check_precision(contract: ModelContract, precision: str, provider: ProviderReport) -> None:
    if precision in ("auto", contract.precision):
        return
    if precision == "fp16" and contract.precision == "fp32" and provider.used == TENSORRT:
        return
    raise ContractError(
        f"expected precision {precision} on {provider.used}, the file is {contract.precision}; "
        "set precision to auto, or export the model in that precision"
    )


class _RunError(ContractError):
    """The network failed to run a golden frame."""


def _verify_golden(model: OnnxModel, golden: list[GoldenFrame], *, low_priority: bool) -> GoldenResult:
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
                found = Detections(outputs.boxes_xyxy[row], outputs.scores[row], outputs.labels[row])
                result = frame.compare(outputs.class_map[row], found, contract)
                if not result.within(limits):
                    raise ContractError(
                        f"expected golden frame {(first + row) % len(golden)} on {model.provider.used} to agree in at "
                        f"least {limits.class_map_agreement_min:.2%} of its class map, with box IoU of at least "
                        f"{limits.box_iou_min}, scores within {SCORE_TOLERANCE} and no other boxes, got "
                        f"{result.words()}; use another device or precision, or export the model again"
                    )
                worst = worst.worse(result)
    return worst


def _run_golden(model: OnnxModel, images: UInt8Array, index: int, low_priority: bool) -> NetworkOutputs:
    try:
        # Lower the priority for the run alone, because the run releases the GIL. A thread that holds the GIL at a low
        # priority would make the other threads wait with it.
        return run_at_low_priority(lambda: model.run(images)) if low_priority else model.run(images)
    except Exception as error:
        raise _RunError(
            f"expected golden frame {index} to run on {model.provider.used}, got: {first_line(error)}; "
            "export the model again"
        ) from None


def _check_shapes(outputs: NetworkOutputs, contract: ModelContract, count: int) -> None:
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "class_map": outputs.class_map,
        "boxes": outputs.boxes_xyxy,
        "scores": outputs.scores,
        "labels": outputs.labels,
        "uncertainty": outputs.uncertainty,
    }
    for name, shape in contract.output_shapes().items():
        if arrays[name].shape != (count, *shape):
            raise ContractError(
                f"expected {name} of {count} frame(s) to have the shape {(count, *shape)} as its contract says, "
                f"got {arrays[name].shape}; export the model again"
            )


def _check_finite(outputs: NetworkOutputs, provider: str) -> None:
    # Check this before all comparisons, because every comparison with NaN is false.
    for name, values in (
        ("boxes", outputs.boxes_xyxy),
        ("scores", outputs.scores),
        ("uncertainty", outputs.uncertainty),
    ):
        wrong = int(values.size - np.isfinite(values).sum())
        if wrong:
            raise ContractError(
                f"expected finite {name} for the golden frames on {provider}, got {wrong} of {values.size} that are "
                "NaN or infinite; use another device or precision, or export the model again"
            )
