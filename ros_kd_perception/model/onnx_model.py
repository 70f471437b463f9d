"""OnnxModel: opens an exported or adopted model, verifies it and runs it. `execution_provider` opens the session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ros_kd_perception.model.contract import DYNAMIC_BATCH, ContractError, ModelContract
from ros_kd_perception.model.contract_file import ContractFile
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
    open_session,
    tell_on_stderr,
)
from ros_kd_perception.model.golden import GoldenResult
from ros_kd_perception.model.golden_check import GoldenRunError, run_golden_frames
from ros_kd_perception.model.network_outputs import FIELD_OF_OUTPUT, OUTPUT_TYPES, NetworkOutputs
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.model.session import BoundSession, OneByOne, PlainSession, SessionRunner
from ros_kd_perception.structures import UInt8Array

__all__ = ["DEVICES", "PRECISIONS", "GoldenResult", "ModelError", "NetworkOutputs", "OnnxModel", "ProviderReport"]


class ModelError(ValueError):
    """The model cannot be used. The text is one sentence: what was expected, what was found and what to do."""


class OnnxModel:
    """A verified model, ready to run. Create it with `OnnxModel.open`.

    Attributes:
        contract: Description of inputs, outputs and classes, read from the file.
        sha256: Hex digest of the file.
        provider: The execution provider that really runs the network.
        max_batch: Frames to run at once. It is 1 on a CPU, where running one after the other is faster, and for a file
            that runs one frame only.
        golden: How far the golden frames were off when the model was opened. None if they were not run.
        signed_by: Name of the key whose signature was verified: the hex sha256 of its file. Empty without a key.
    """

    def __init__(
        self, runner: SessionRunner, contract: ModelContract, sha256: str, provider: ProviderReport, max_batch: int = 1
    ) -> None:
        self._runner = runner
        self._fields = [FIELD_OF_OUTPUT[name] for name in contract.output_shapes()]
        self.contract = contract
        self.sha256 = sha256
        self.provider = provider
        self.max_batch = max_batch
        self.golden: GoldenResult | None = None
        self.signed_by = ""

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
        signature_key: str = "",
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
            signature_key: Path of a public key, in PEM. The bytes that run must be signed with its private key, in a
                file beside the model (`student.onnx.sig`). Empty accepts an unsigned file.
            tell: Called once for each model that opens. It must report what does not run as requested, so that a
                fallback is never silent.

        Raises:
            ModelError: The file is missing, unsafe, not signed as asked for, not the expected one or not ONNX; it has
                no contract or does not match it; the device or precision is not available; or a golden frame fails.
        """
        _check_choice("device", device, DEVICES)
        _check_choice("precision", precision, PRECISIONS)
        try:
            source = ContractFile.read(Path(path), signature_key)
        except (ModelFileError, ContractError) as error:
            raise ModelError(str(error)) from None
        file, contract = source.file, source.contract
        if sha256 not in ("", file.sha256):
            raise ModelError(
                f"expected {path} to be the file that was tried a moment ago, it has changed since; open it again"
            )
        try:
            size = contract.input
            request = SessionRequest(
                file.content,
                file.sha256,
                device,
                precision,
                contract.precision,
                (size.height, size.width, 3),
                max_batch if size.batch == DYNAMIC_BATCH else 1,
                intra_op_threads,
            )
            model = cls._open(request, contract, require_gpu, cuda_graph=True)
            if verify_golden:
                model = model._verified(request, source, require_gpu, low_priority=low_priority)
        except ContractError as error:
            raise ModelError(f"{path}: {error}") from None
        except ProviderError as error:
            raise ModelError(
                f"expected {path} to be an ONNX model that {RUNTIME} loads, got: {error}; export the "
                "model again, or install a newer ONNX Runtime if the file is newer than it"
            ) from None
        model.signed_by = file.signed_by
        tell(model.provider)
        return model

    def _verified(
        self, request: SessionRequest, source: ContractFile, require_gpu: bool, *, low_priority: bool
    ) -> OnnxModel:
        golden = source.golden_frames()
        try:
            self.golden = run_golden_frames(self, golden, low_priority=low_priority and not self.provider.on_gpu)
        except GoldenRunError:
            if self.provider.cuda_graph != "on":
                raise
            # Some networks cannot be recorded as a CUDA graph, and the first run is what shows it. Try again without.
            model = self._open(request, self.contract, require_gpu, cuda_graph=False)
            model.golden = run_golden_frames(model, golden, low_priority=False)
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
        runner = _runner(session, contract, request, provider)
        if contract.input.batch != DYNAMIC_BATCH:
            runner = OneByOne(runner)
        return cls(runner, contract, request.sha256, provider, request.max_batch if provider.on_gpu else 1)

    def run(self, images: UInt8Array) -> NetworkOutputs:
        """Run the network on uint8 `[N, H, W, 3]` network inputs, C-contiguous, in the contract's channel order."""
        return NetworkOutputs(**dict(zip(self._fields, self._runner.run(images), strict=True)))


def _runner(session: Any, contract: ModelContract, request: SessionRequest, provider: ProviderReport) -> SessionRunner:
    shapes = contract.output_shapes()
    if not provider.on_gpu:
        return PlainSession(session, list(shapes))
    return BoundSession(
        session,
        request.input_shape,
        {name: (OUTPUT_TYPES[name][1], shape) for name, shape in shapes.items()},
        max_batch=request.max_batch,
        cuda_graph=provider.cuda_graph == "on",
    )


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ModelError(f"expected {name} to be one of {', '.join(choices)}, got {value!r}")


def _check_signature(session: Any, contract: ModelContract) -> None:
    inputs, outputs = session.get_inputs(), {node.name: node for node in session.get_outputs()}
    size = contract.input
    expected = [INPUT_NAME, "tensor(uint8)", [size.height, size.width, 3]]
    found = [[node.name, node.type, list(node.shape[1:])] for node in inputs]
    if found != [expected] or not _batch_fits(inputs[0].shape[0], size.batch):
        batch = "a dynamic batch" if size.batch == DYNAMIC_BATCH else f"a batch of {size.batch}"
        raise ContractError(
            f"expected one input {expected} with {batch} as its contract says, got "
            f"{[[node.name, node.type, list(node.shape)] for node in inputs]}; export the model again"
        )
    if foreign := sorted((outputs.keys() & OUTPUT_TYPES.keys()) - contract.output_shapes().keys()):
        raise ContractError(
            f"expected only outputs of {' and '.join(contract.tasks)} as its contract says, got {', '.join(foreign)} "
            "too; export the model again"
        )
    for name, shape in contract.output_shapes().items():
        node, kind = outputs.get(name), OUTPUT_TYPES[name][0]
        if node is None or node.type != kind or not _shape_fits(node.shape, shape):
            got = "none" if node is None else f"{node.type} {node.shape}"
            raise ContractError(
                f"expected an output {name} of {kind} [N, {', '.join(map(str, shape))}] as its contract says, "
                f"got {got}; export the model again"
            )


def _batch_fits(found: Any, expected: str | int) -> bool:
    return not isinstance(found, int) if expected == DYNAMIC_BATCH else found == expected or not isinstance(found, int)


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
