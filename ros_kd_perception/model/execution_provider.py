"""What a `device` means: the execution provider of ONNX Runtime, its options, and the proof of what really runs.

Options are those of https://onnxruntime.ai/docs/execution-providers (CUDA, TensorRT).
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ros_kd_perception.model.engine_cache import gpu_identity, prepare_cache_folder, tensorrt_version
from ros_kd_perception.model.onnx_file import MAX_MEMORY_BYTES
from ros_kd_perception.model.onnx_runtime import onnxruntime

DEVICES = ("auto", "tensorrt", "cuda", "cpu")
PRECISIONS = ("auto", "fp32", "fp16", "int8")
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
INPUT_NAME = "images"
RUNTIME = f"ONNX Runtime {onnxruntime.__version__}"

_PROVIDER_OF_DEVICE = {"tensorrt": TENSORRT, "cuda": CUDA, "cpu": CPU}
# Where the time of a network goes: one of these on the CPU is a fallback, a Shape or Gather there is none.
_HEAVY = {"Conv", "ConvTranspose", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger", "MatMul", "FusedMatMul"}
_HEAVY |= {"Gemm", "FusedGemm", "QGemm", "QLinearMatMul", "MatMulInteger", "Attention", "MultiHeadAttention"}
# Evaluates what depends on constants alone while the session is built, outside of the arena that is limited: a file of
# 2 kB can have it hold any number of gigabytes. Left out, such nodes run with the rest, inside; the exporter folds.
_UNBOUNDED_OPTIMIZERS = ["ConstantFolding"]
_memory_lock = threading.Lock()
_memory_is_limited = False


class ProviderError(ValueError):
    """No session can be made; the text is the reason, the first line of what ONNX Runtime says."""


@dataclass(frozen=True)
class ProviderReport:
    """What was asked for and what runs.

    Attributes:
        asked: the provider that `device` stands for.
        used: the one that runs the network.
        fallback: why the two differ, or which part of the network is elsewhere; empty if neither.
        nodes: how many nodes of the optimised graph each provider runs; None where this ONNX Runtime does not tell.
        cuda_graph: `on`, or why not; empty on other devices.
        engine_cache: folder of the TensorRT engine and timing caches; empty without TensorRT.
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
        """A sentence if not all of it runs where it was asked for; empty if it does."""
        return f"{self.asked} was asked for, {self.used} runs: {self.fallback}" if self.fallback else ""

    @property
    def what_runs(self) -> str:
        """The provider that runs the network, or the sentence on why it is not the one that was asked for."""
        return self.fell_back or self.used

    @property
    def unproven(self) -> str:
        """A sentence if a part of the network may run on the CPU without anybody being told; empty if not."""
        if not self.on_gpu or self.nodes is not None:
            return ""
        return f"placement cannot be proven by {RUNTIME}: a part of the network may run on the CPU; it takes 1.24 or so"

    def placement(self) -> str:
        """The node counts as text."""
        if self.nodes is None:
            return f"unknown: {RUNTIME} does not tell"
        return ", ".join(f"{name} {count}" for name, count in sorted(self.nodes.items()))


@dataclass(frozen=True)
class SessionRequest:
    """What a session is wanted for.

    Attributes:
        content: the ONNX file.
        sha256: hex digest of it.
        device: one of `DEVICES`.
        precision: one of `PRECISIONS`.
        file_precision: the precision of the file.
        input_shape: height, width and channels of one network input.
        max_batch: frames that run at once on a GPU.
        intra_op_threads: 0 lets ONNX Runtime choose.
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
    """Open a session on the provider that is asked for, or on the CPU with the reason why.

    Args:
        request: what is wanted.
        cuda_graph: record the launches of a frame once and replay them, on `cuda`, where the graph allows.

    Raises:
        ProviderError: the CPU cannot run it either.
    """
    asked = wanted_provider(request.device, onnxruntime.get_available_providers())
    if asked == CPU:
        session = _session(request, [CPU])
        return session, ProviderReport(CPU, CPU, nodes=node_counts(session))
    if asked not in onnxruntime.get_available_providers():
        return _on_cpu(request, asked, f"{asked} is not part of the installed ONNX Runtime")
    if hasattr(onnxruntime, "preload_dlls"):  # from 1.21; CUDA and cuDNN of pip packages are found only so
        onnxruntime.preload_dlls()
    try:
        cache = _engine_cache(request) if asked == TENSORRT else None
    except OSError as error:
        return _on_cpu(request, asked, f"the engine cache cannot be used: {error}")
    graph_state = "on" if asked == CUDA and cuda_graph else ""
    try:
        if graph_state:
            try:
                session = _session(request, gpu_providers(asked, request, cache, cuda_graph=True))
            except ProviderError as error:
                graph_state = f"off: {error}"
                session = _session(request, gpu_providers(asked, request, cache, cuda_graph=False))
        else:
            session = _session(request, gpu_providers(asked, request, cache, cuda_graph=False))
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
    """Print on standard error what does not run as it was asked for; nothing where all does."""
    for sentence in filter(None, (report.fell_back, report.unproven)):
        print(sentence, file=sys.stderr)


def available_providers() -> list[str]:
    """The execution providers of the installed ONNX Runtime, whether or not the machine has their devices."""
    return list(onnxruntime.get_available_providers())


def wanted_provider(device: str, available: list[str]) -> str:
    """The provider that a device stands for; `auto` is CUDA where the installed ONNX Runtime has it."""
    if device != "auto":
        return _PROVIDER_OF_DEVICE[device]
    return CUDA if CUDA in available else CPU


def gpu_providers(
    asked: str, request: SessionRequest, cache: Path | None, *, cuda_graph: bool
) -> list[tuple[str, dict[str, str]] | str]:
    """Providers in order of preference with their options, for a GPU."""
    cuda = (CUDA, cuda_options(request.precision, cuda_graph=cuda_graph))
    if asked != TENSORRT or cache is None:
        return [cuda, CPU]
    return [
        (TENSORRT, tensorrt_options(request, cache)),
        (CUDA, cuda_options(request.precision, cuda_graph=False)),
        CPU,
    ]


def cuda_options(precision: str, *, cuda_graph: bool) -> dict[str, str]:
    """Options of the CUDA provider; fp32 that was asked for in so many words is not TF32."""
    options = {
        "gpu_mem_limit": str(MAX_MEMORY_BYTES),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",  # shapes are fixed, so the search is paid once, while warming up
        "enable_cuda_graph": "1" if cuda_graph else "0",
    }
    if precision == "fp32":
        options["use_tf32"] = "0"
    return options


def tensorrt_options(request: SessionRequest, cache: Path) -> dict[str, str]:
    """Options of the TensorRT provider: one engine for batches of 1 to `max_batch`, kept in the cache folder."""
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
    """Nodes of the optimised graph by provider; None where this ONNX Runtime (before 1.24 or so) does not tell."""
    assigned = _assigned_nodes(session)
    return None if assigned is None else dict(Counter(provider for provider, _ in assigned))


def heavy_node_counts(session: onnxruntime.InferenceSession) -> dict[str, int]:
    """Convolutions and matrix products by provider; empty where it is not told."""
    return dict(Counter(provider for provider, operator in _assigned_nodes(session) or () if operator in _HEAVY))


def misplaced(asked: str, heavy: Mapping[str, int], nodes: Mapping[str, int] | None) -> str:
    """A sentence if heavy nodes run elsewhere than on the provider that was asked for, else empty."""
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


def _on_cpu(request: SessionRequest, asked: str, reason: str) -> tuple[onnxruntime.InferenceSession, ProviderReport]:
    session = _session(request, [CPU])
    return session, ProviderReport(asked, CPU, reason, node_counts(session))


def _session(request: SessionRequest, providers: list[Any]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = request.intra_op_threads
    options.log_severity_level = 3
    # Threads that spin between frames burn four times the CPU of the work itself at the same latency.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # On a GPU too: what its provider leaves to the CPU takes its memory there.
    _limit_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        # From bytes rather than the path: what was hashed is what runs. Without ONNX Runtime's own fallback, which
        # would go over to the CPU in the middle of a drive and say so on stdout.
        session = onnxruntime.InferenceSession(
            request.content,
            options,
            providers=providers,
            disabled_optimizers=_UNBOUNDED_OPTIMIZERS,
            enable_fallback=0,
        )
    except Exception as error:
        # ONNX Runtime raises a class of its own for each status; none tells more than its first line.
        raise ProviderError(first_line(error)) from None
    session.disable_fallback()
    return session


def first_line(error: BaseException) -> str:
    """What an error says, in one line of at most 200 characters: where it happened and, at the end, why."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if len(line) <= 200 else f"{line[:90]} ... {line[-100:]}"


def _limit_memory() -> None:
    """Have all sessions of this process share one arena of `MAX_MEMORY_BYTES` on the CPU."""
    global _memory_is_limited  # ONNX Runtime's environment is one for the process, too
    with _memory_lock:
        if _memory_is_limited:
            return
        memory = onnxruntime.OrtMemoryInfo(
            "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
        )
        default = -1
        arena = onnxruntime.OrtArenaCfg(
            {
                "max_mem": MAX_MEMORY_BYTES,
                "arena_extend_strategy": default,
                "initial_chunk_size_bytes": default,
                "max_dead_bytes_per_chunk": default,
            }
        )
        onnxruntime.create_and_register_allocator(memory, arena)
        _memory_is_limited = True


def _assigned_nodes(session: onnxruntime.InferenceSession) -> list[tuple[str, str]] | None:
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    return [
        (subgraph.ep_name, node.op_type)
        for subgraph in session.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
    ]
