"""OnnxModel: an exported student, verified and ready to run. The only place that opens an ONNX Runtime session."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

try:
    import onnxruntime
except ImportError as error:
    raise ImportError(
        "expected ONNX Runtime on this machine, found none; install one of ros_kd_perception's extras, [cpu] or [gpu]"
    ) from error

from ros_kd_perception.golden_frames import GOLDEN_KEY, class_map_agreement, golden_from_text, worst_box_iou
from ros_kd_perception.model_contract import CONTRACT_KEY, ContractError, ModelContract
from ros_kd_perception.structures import Detections, Float32Array, Int32Array, UInt8Array

DEVICES = ("auto", "tensorrt", "cuda", "cpu")
PRECISIONS = ("auto", "fp32", "fp16", "int8")
MAX_MODEL_BYTES = 1 << 30

_PROVIDER_OF_DEVICE = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_INPUT_NAME = "images"
_OUTPUT_TYPES = {
    "class_map": "tensor(uint8)",
    "boxes": "tensor(float)",
    "scores": "tensor(float)",
    "labels": "tensor(int32)",
    "uncertainty": "tensor(float)",
}


class ModelError(ValueError):
    """A model that cannot be used; the text is one sentence with what was expected, what came and what to do."""


@dataclass(frozen=True)
class NetworkOutputs:
    """What one run of the network returns for N frames; boxes in network-input pixels, best score first.

    Attributes:
        class_map: uint8 `[N, H/s, W/s]`.
        boxes_xyxy: float32 `[N, K, 4]`.
        scores: float32 `[N, K]`.
        labels: int32 `[N, K]`.
        uncertainty: float32 `[N, H/32, W/32]`.
    """

    class_map: UInt8Array
    boxes_xyxy: Float32Array
    scores: Float32Array
    labels: Int32Array
    uncertainty: Float32Array


@dataclass(frozen=True)
class ProviderReport:
    """Which execution provider was asked for and which one runs; `fallback` says why they differ, empty if not."""

    asked: str
    used: str
    fallback: str = ""


class OnnxModel:
    """A verified session together with its contract.

    Attributes:
        contract: what the file promises.
        sha256: hex digest of the file.
        provider: what really runs.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, contract: ModelContract, sha256: str, provider: ProviderReport
    ) -> None:
        self._session = session
        self.contract = contract
        self.sha256 = sha256
        self.provider = provider

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        require_gpu: bool = False,
        intra_op_threads: int = 0,
        verify_golden: bool = True,
    ) -> OnnxModel:
        """Open an exported student, check it against its contract and re-run its golden frames.

        Args:
            path: the `.onnx` file.
            device: `auto` (CUDA where it works, else CPU), `tensorrt`, `cuda` or `cpu`.
            precision: `auto` (as exported) or the one that is wanted; fp16 of an fp32 file needs `tensorrt`.
            require_gpu: a run on the CPU is then an error.
            intra_op_threads: 0 lets ONNX Runtime choose.
            verify_golden: off only for tools that look at a model that they do not run.

        Raises:
            ModelError: missing, not ONNX, without contract, at odds with it, wrong device, golden frames failing.
        """
        _check_choice("device", device, DEVICES)
        _check_choice("precision", precision, PRECISIONS)
        content = _read(Path(path))
        session, provider = _open_session(Path(path), content, device, precision, intra_op_threads)
        if require_gpu and provider.used == "CPUExecutionProvider":
            raise ModelError(
                f"expected a GPU to run {path} (require_gpu is set), got the CPU"
                f"{': ' + provider.fallback if provider.fallback else ''}; install the [gpu] extra and its CUDA "
                "libraries, or unset require_gpu"
            )
        metadata = session.get_modelmeta().custom_metadata_map
        try:
            contract = _read_contract(metadata)
            _check_signature(session, contract)
            _check_precision(contract, precision, provider)
            model = cls(session, contract, hashlib.sha256(content).hexdigest(), provider)
            if verify_golden:
                _verify_golden(model, metadata)
        except ContractError as error:
            raise ModelError(f"{path}: {error}") from None
        return model

    def run(self, images: UInt8Array) -> NetworkOutputs:
        """Run the network on uint8 `[N, H, W, 3]` network inputs, C-contiguous, channels as the contract says."""
        outputs: Sequence[Any] = self._session.run(list(_OUTPUT_TYPES), {_INPUT_NAME: images})
        return NetworkOutputs(*outputs)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ModelError(f"expected {name} to be one of {', '.join(choices)}, got {value!r}")


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ModelError(f"expected an ONNX file at {path}, found none; export one with `python -m training export`")
    size = path.stat().st_size
    if not 0 < size <= MAX_MODEL_BYTES:
        raise ModelError(f"expected {path} to hold 1 to {MAX_MODEL_BYTES} bytes, it has {size}; export the model again")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"expected to read {path}, got: {error.strerror}; check its permissions") from None


def _open_session(
    path: Path, content: bytes, device: str, precision: str, intra_op_threads: int
) -> tuple[onnxruntime.InferenceSession, ProviderReport]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = intra_op_threads
    options.log_severity_level = 3
    # Threads that spin between frames burn four times the CPU of the work itself at the same latency.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    asked = _wanted_provider(device)
    fallback = ""
    if asked not in onnxruntime.get_available_providers():
        fallback = f"{asked} is not part of the installed ONNX Runtime"
        providers: list[Any] = ["CPUExecutionProvider"]
    else:
        providers = [(asked, _provider_options(asked, precision))]
        if asked != "CPUExecutionProvider":
            providers.append("CPUExecutionProvider")
            if hasattr(onnxruntime, "preload_dlls"):  # from 1.21; CUDA and cuDNN of pip packages are found only so
                onnxruntime.preload_dlls()
    try:
        # From bytes rather than the path: what was hashed is what runs.
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:
        # ONNX Runtime raises a class of its own for each status; none tells more than its first line.
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise ModelError(
            f"expected {path} to be an ONNX model that ONNX Runtime {onnxruntime.__version__} loads, got: {reason}; "
            "export the model again"
        ) from None
    used = session.get_providers()[0]
    if used != asked and not fallback:
        fallback = f"{asked} did not start; see ONNX Runtime's log for the missing library"
    return session, ProviderReport(asked, used, fallback if used != asked else "")


def _wanted_provider(device: str) -> str:
    if device != "auto":
        return _PROVIDER_OF_DEVICE[device]
    available = onnxruntime.get_available_providers()
    return next(p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available)


def _provider_options(provider: str, precision: str) -> dict[str, str]:
    if provider == "TensorrtExecutionProvider" and precision == "fp16":
        return {"trt_fp16_enable": "1"}
    return {}


def _read_contract(metadata: Mapping[str, str]) -> ModelContract:
    if CONTRACT_KEY not in metadata:
        raise ContractError(
            f"expected a contract under the metadata key {CONTRACT_KEY}, found the keys {sorted(metadata)[:8]}; "
            "only students written by `python -m training export` can be run"
        )
    return ModelContract.from_json(metadata[CONTRACT_KEY])


def _check_signature(session: onnxruntime.InferenceSession, contract: ModelContract) -> None:
    inputs, outputs = session.get_inputs(), {node.name: node for node in session.get_outputs()}
    size = contract.input
    expected = [_INPUT_NAME, "tensor(uint8)", [size.height, size.width, 3]]
    found = [[node.name, node.type, list(node.shape[1:])] for node in inputs]
    if found != [expected] or isinstance(inputs[0].shape[0], int):
        raise ContractError(
            f"expected one input {expected} with a dynamic batch as its contract says, got "
            f"{[[node.name, node.type, list(node.shape)] for node in inputs]}; export the model again"
        )
    for name, shape in contract.output_shapes().items():
        node = outputs.get(name)
        if node is None or node.type != _OUTPUT_TYPES[name] or not _shape_fits(node.shape, shape):
            got = "none" if node is None else f"{node.type} {node.shape}"
            raise ContractError(
                f"expected an output {name} of {_OUTPUT_TYPES[name]} [N, {', '.join(map(str, shape))}] as its contract "
                f"says, got {got}; export the model again"
            )


def _shape_fits(found: Sequence[Any], expected: tuple[int, ...]) -> bool:
    # Axes that the exporter left symbolic are settled by the golden frames.
    return len(found) == len(expected) + 1 and all(
        not isinstance(f, int) or f == e for f, e in zip(found[1:], expected, strict=True)
    )


def _check_precision(contract: ModelContract, precision: str, provider: ProviderReport) -> None:
    if precision in ("auto", contract.precision):
        return
    if precision == "fp16" and contract.precision == "fp32" and provider.used == "TensorrtExecutionProvider":
        return
    raise ContractError(
        f"expected precision {precision} on {provider.used}, the file is {contract.precision}; "
        "set precision to auto, or export the model in that precision"
    )


def _verify_golden(model: OnnxModel, metadata: Mapping[str, str]) -> None:
    if GOLDEN_KEY not in metadata:
        raise ContractError(
            f"expected golden frames under the metadata key {GOLDEN_KEY}, found none; export the model again"
        )
    contract = model.contract
    for index, golden in enumerate(golden_from_text(metadata[GOLDEN_KEY], contract)):
        try:
            outputs = model.run(golden.image[None])
        except Exception as error:
            raise ContractError(
                f"expected golden frame {index} to run on {model.provider.used}, got: "
                f"{str(error).splitlines()[0][:160]}; export the model again"
            ) from None
        _check_shapes(outputs, contract)
        agreement = class_map_agreement(golden.class_map, outputs.class_map[0])
        iou = worst_box_iou(golden.detections, Detections(outputs.boxes_xyxy[0], outputs.scores[0], outputs.labels[0]))
        limits = contract.golden
        if not (agreement >= limits.class_map_agreement_min and iou >= limits.box_iou_min):
            raise ContractError(
                f"expected golden frame {index} on {model.provider.used} to agree in at least "
                f"{limits.class_map_agreement_min:.2%} of its class map with boxes of IoU {limits.box_iou_min} up, "
                f"got {agreement:.2%} and IoU {iou:.3f}; use another device or precision, or export the model again"
            )


def _check_shapes(outputs: NetworkOutputs, contract: ModelContract) -> None:
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "class_map": outputs.class_map,
        "boxes": outputs.boxes_xyxy,
        "scores": outputs.scores,
        "labels": outputs.labels,
        "uncertainty": outputs.uncertainty,
    }
    for name, shape in contract.output_shapes().items():
        if arrays[name].shape != (1, *shape):
            raise ContractError(
                f"expected {name} of one frame to have the shape {(1, *shape)} as its contract says, "
                f"got {arrays[name].shape}; export the model again"
            )
