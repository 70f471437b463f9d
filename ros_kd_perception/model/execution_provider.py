"""Opens an ONNX Runtime session on the execution provider of a `device`, and reports where the network really runs.

The options of the CUDA and TensorRT providers are described at https://onnxruntime.ai/docs/execution-providers.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ros_kd_perception.model.devices import DEVICES
from ros_kd_perception.model.engine_cache import gpu_identity, prepare_cache_folder, tensorrt_version
from ros_kd_perception.model.onnx_file import MAX_MEMORY_BYTES
from ros_kd_perception.model.onnx_runtime import onnxruntime
from ros_kd_perception.model.session_start import CPU, ProviderError, first_line, start_session

__all__ = [
    "CPU",
    "CUDA",
    "DEVICES",
    "INPUT_NAME",
    "PRECISIONS",
    "RUNTIME",
    "TENSORRT",
    "ProviderError",
    "ProviderReport",
    "SessionRequest",
    "available_providers",
    "first_line",
    "open_session",
    "tell_on_stderr",
    "wanted_provider",
]

PRECISIONS = ("auto", "fp32", "fp16", "int8")
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
INPUT_NAME = "images"
RUNTIME = f"ONNX Runtime {onnxruntime.__version__}"

_PROVIDER_OF_DEVICE = {"tensorrt": TENSORRT, "cuda": CUDA, "cpu": CPU}
# The operators that take most of a network's time. One of these on the CPU counts as a fallback, a Shape or Gather does
# not.
_HEAVY = {"Conv", "ConvTranspose", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger", "MatMul", "FusedMatMul"}
_HEAVY |= {"Gemm", "FusedGemm", "QGemm", "QLinearMatMul", "MatMulInteger", "Attention", "MultiHeadAttention"}


@dataclass(frozen=True)
class ProviderReport:
    """The requested execution provider and the one that runs the network.

    Attributes:
        asked: The provider of the requested `device`.
        used: The provider that runs the network.
        fallback: Why the two differ, or which part of the network runs on another provider. Empty if neither is true.
        nodes: Number of nodes of the optimised graph on each provider. None if this ONNX Runtime does not report it.
        cuda_graph: `on`, or the reason why it is off. Empty on devices other than CUDA.
        engine_cache: Folder of the TensorRT engine and timing caches. Empty without TensorRT.
    """

    asked: str
    used: str
    fallback: str = ""
    nodes: Mapping[str, int] | None = None
    cuda_graph: str = ""
    engine_cache: str = ""

    @property
    def on_gpu(self) -> bool:
        """Whether the network runs on a GPU."""
        return self.used != CPU

    @property
    def fell_back(self) -> str:
        """A sentence if a part of the network does not run on the requested provider, else empty."""
        return f"{self.asked} was asked for, {self.used} runs: {self.fallback}" if self.fallback else ""

    @property
    def what_runs(self) -> str:
        """The provider that runs the network, or a sentence why it is not the requested one."""
        return self.fell_back or self.used

    @property
    def unproven(self) -> str:
        """A sentence if a part of the network may run on the CPU and ONNX Runtime cannot report it, else empty."""
        if not self.on_gpu or self.nodes is not None:
            return ""
        return (
            f"placement cannot be proven by {RUNTIME}: a part of the network may run on the CPU; version 1.24 or newer "
            "reports it"
        )

    def placement(self) -> str:
        """Return the node counts of the providers as text."""
        if self.nodes is None:
            return f"unknown: {RUNTIME} does not report it"
        return ", ".join(f"{name} {count}" for name, count in sorted(self.nodes.items()))


@dataclass(frozen=True)
class SessionRequest:
    """Everything that `open_session` needs to know.

    Attributes:
        content: The bytes of the ONNX file.
        sha256: Hex digest of `content`.
        device: One of `DEVICES`.
        precision: The requested precision, one of `PRECISIONS`.
        file_precision: The precision of the file.
        input_shape: Height, width and channels of one network input.
        max_batch: Largest number of frames in one run on a GPU.
        intra_op_threads: Threads of one operator. 0 lets ONNX Runtime choose.
    """

    content: bytes = field(repr=False)
    sha256: str
    device: str
    precision: str
    file_precision: str
    input_shape: tuple[int, int, int]
    max_batch: int = 1
    intra_op_threads: int = 0


def open_session(
    request: SessionRequest, *, cuda_graph: bool = True
) -> tuple[onnxruntime.InferenceSession, ProviderReport]:
    """Open a session on the requested provider. If that fails, open it on the CPU and report the reason.

    Args:
        request: The model and how to run it.
        cuda_graph: On `cuda`, record the kernel launches of a frame once and replay them, if the network allows it.

    Raises:
        ProviderError: The CPU cannot run the model either.
    """
    asked = wanted_provider(request.device, onnxruntime.get_available_providers())
    if asked == CPU:
        session = _start(request, [CPU])
        return session, ProviderReport(CPU, CPU, nodes=node_counts(session))
    if asked not in onnxruntime.get_available_providers():
        return _on_cpu(request, asked, f"{asked} is not part of the installed ONNX Runtime")
    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21; the only way to find CUDA and cuDNN of pip packages
        onnxruntime.preload_dlls()
    try:
        cache = _engine_cache(request) if asked == TENSORRT else None
    except OSError as error:
        return _on_cpu(request, asked, f"the engine cache cannot be used: {error}")
    graph_state = "on" if asked == CUDA and cuda_graph else ""
    try:
        if graph_state:
            try:
                session = _start(request, gpu_providers(asked, request, cache, cuda_graph=True))
            except ProviderError as error:
                graph_state = f"off: {error}"
                session = _start(request, gpu_providers(asked, request, cache, cuda_graph=False))
        else:
            session = _start(request, gpu_providers(asked, request, cache, cuda_graph=False))
    except ProviderError as error:
        return _on_cpu(request, asked, f"{asked} did not start: {error}")
    used = session.get_providers()[0]
    nodes = node_counts(session)
    fallback = f"{asked} did not start; see ONNX Runtime's log for the missing library" if used != asked else ""
    if used == asked:
        fallback = misplaced(asked, heavy_node_counts(session), nodes)
    on_cuda = used == CUDA
    return session, ProviderReport(
        asked, used, fallback, nodes, graph_state if on_cuda else "", str(cache) if used == TENSORRT else ""
    )


def tell_on_stderr(report: ProviderReport) -> None:
    """Print to standard error what does not run as requested. Print nothing if all does."""
    for sentence in filter(None, (report.fell_back, report.unproven)):
        print(sentence, file=sys.stderr)


def available_providers() -> list[str]:
    """Return the execution providers of the installed ONNX Runtime, whether or not the machine has their devices."""
    return list(onnxruntime.get_available_providers())


def wanted_provider(device: str, available: list[str]) -> str:
    """Return the provider for a device. `auto` means CUDA if the installed ONNX Runtime has it, else the CPU."""
    if device != "auto":
        return _PROVIDER_OF_DEVICE[device]
    return CUDA if CUDA in available else CPU


def gpu_providers(
    asked: str, request: SessionRequest, cache: Path | None, *, cuda_graph: bool
) -> list[tuple[str, dict[str, str]] | str]:
    """Return the providers for a GPU with their options, in order of preference."""
    cuda = (CUDA, cuda_options(request.precision, cuda_graph=cuda_graph))
    if asked != TENSORRT or cache is None:
        return [cuda, CPU]
    return [
        (TENSORRT, tensorrt_options(request, cache)),
        (CUDA, cuda_options(request.precision, cuda_graph=False)),
        CPU,
    ]


def cuda_options(precision: str, *, cuda_graph: bool) -> dict[str, str]:
    """Return the options of the CUDA provider. A precision of `fp32` turns TF32 off, `auto` does not."""
    options = {
        "gpu_mem_limit": str(MAX_MEMORY_BYTES),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",  # shapes are fixed, so the search runs once, during the warm-up
        "enable_cuda_graph": "1" if cuda_graph else "0",
    }
    if precision == "fp32":
        options["use_tf32"] = "0"
    return options


def tensorrt_options(request: SessionRequest, cache: Path) -> dict[str, str]:
    """Return the options of the TensorRT provider: one engine for batches of 1 to `max_batch`, in the cache folder."""
    shape = "x".join(map(str, request.input_shape))
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
        "trt_max_workspace_size": str(1 << 30),
        "trt_profile_min_shapes": f"{INPUT_NAME}:1x{shape}",
        "trt_profile_opt_shapes": f"{INPUT_NAME}:{request.max_batch}x{shape}",
        "trt_profile_max_shapes": f"{INPUT_NAME}:{request.max_batch}x{shape}",
    }
    if request.precision == "fp16" or request.file_precision == "fp16":
        options["trt_fp16_enable"] = "1"
    if request.file_precision == "int8":
        options["trt_int8_enable"] = "1"
    return options


def node_counts(session: onnxruntime.InferenceSession) -> dict[str, int] | None:
    """Count the nodes of the optimised graph by provider. Return None for an ONNX Runtime older than about 1.24."""
    assigned = _assigned_nodes(session)
    return None if assigned is None else dict(Counter(provider for provider, _ in assigned))


def heavy_node_counts(session: onnxruntime.InferenceSession) -> dict[str, int]:
    """Count convolutions and matrix products by provider. Return an empty dict if ONNX Runtime does not report them."""
    return dict(Counter(provider for provider, operator in _assigned_nodes(session) or () if operator in _HEAVY))


def misplaced(asked: str, heavy: Mapping[str, int], nodes: Mapping[str, int] | None) -> str:
    """Return a sentence if heavy nodes do not run on the requested provider, else an empty string.

    Args:
        asked: The requested provider.
        heavy: Number of convolutions and matrix products on each provider.
        nodes: Number of all nodes on each provider. None if unknown.
    """
    elsewhere = {name: count for name, count in heavy.items() if name != asked}
    if elsewhere:
        total = sum(heavy.values())
        return f"{sum(elsewhere.values())} of {total} convolutions and products run on {', '.join(sorted(elsewhere))}"
    if nodes is not None and not nodes.get(asked):
        return f"{asked} took none of the {sum(nodes.values())} nodes"
    return ""


def _engine_cache(request: SessionRequest) -> Path:
    identity = (request.sha256, request.precision, f"batch {request.max_batch}", gpu_identity(), RUNTIME)
    return prepare_cache_folder((*identity, f"TensorRT {tensorrt_version()}"))


def _start(request: SessionRequest, providers: list[Any]) -> onnxruntime.InferenceSession:
    return start_session(request.content, providers, request.intra_op_threads)


def _on_cpu(request: SessionRequest, asked: str, reason: str) -> tuple[onnxruntime.InferenceSession, ProviderReport]:
    session = _start(request, [CPU])
    return session, ProviderReport(asked, CPU, reason, node_counts(session))


def _assigned_nodes(session: onnxruntime.InferenceSession) -> list[tuple[str, str]] | None:
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    return [
        (subgraph.ep_name, node.op_type)
        for subgraph in session.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
    ]
