"""Starts ONNX Runtime sessions: with bounded memory, idle threads that sleep, and exact sums of 8-bit integers."""

from __future__ import annotations

import threading
from typing import Any

from ros_kd_perception.model.onnx_file import MAX_MEMORY_BYTES
from ros_kd_perception.model.onnx_runtime import onnxruntime
from ros_kd_perception.system.cpu_kernels import int8_kernels

CPU = "CPUExecutionProvider"
# ConstantFolding runs nodes with constant inputs while the session is built, outside the limited arena: a file of 2 kB
# can make it allocate any number of gigabytes. Without it, these nodes run with the others, inside the arena. The
# exporter has already folded the constants.
_UNBOUNDED_OPTIMIZERS = ["ConstantFolding"]
# WeightBiasQuantization makes 8-bit integers of weights that a quantised file keeps in fp32, without a word, and int32
# of biases, which TensorRT does not read.
_CHANGING_OPTIMIZERS = ["WeightBiasQuantization"]
_memory_lock = threading.Lock()
_memory_is_limited = False


class ProviderError(ValueError):
    """No session can be created. The text is the first line of ONNX Runtime's error."""


def start_session(content: bytes, providers: list[Any], intra_op_threads: int = 0) -> onnxruntime.InferenceSession:
    """Open a session on the first of some providers that works, within the memory limit of this process.

    Args:
        content: The bytes of a checked ONNX file.
        providers: Providers with their options, in order of preference.
        intra_op_threads: Threads of one operator. 0 lets ONNX Runtime choose.

    Raises:
        ProviderError: ONNX Runtime cannot open the file.
    """
    options = _session_options(intra_op_threads)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if int8_kernels().overflow:
        # Products of unsigned and signed bytes overflow here. Unsigned weights give the exact sums, more slowly.
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Needed on a GPU too: nodes that its provider leaves to the CPU allocate from the CPU's arena.
    _limit_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    return _open(content, options, providers, [*_UNBOUNDED_OPTIMIZERS, *_CHANGING_OPTIMIZERS])


def start_float_twin(content: bytes) -> onnxruntime.InferenceSession:
    """Open a quantised file on one thread of the CPU as the same network in floats, to compare their speed.

    Its outputs mean nothing: without QuantizeLinear, values are no longer cut at zero, as a ReLU does it. Constants are
    folded, as in a file of fp32, so memory is not limited here: call it in a process whose memory is.

    Raises:
        ProviderError: ONNX Runtime cannot open the file.
    """
    options = _session_options(1)
    for entry in ("session.disable_quant_qdq", "session.enable_quant_qdq_cleanup"):
        options.add_session_config_entry(entry, "1")
    return _open(content, options, [CPU], [])


def first_line(error: BaseException) -> str:
    """Return the first line of an error, shortened in the middle to about 200 characters.

    The start of ONNX Runtime's first line says where the error happened and the end says why.
    """
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if len(line) <= 200 else f"{line[:90]} ... {line[-100:]}"


def _session_options(intra_op_threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = intra_op_threads
    options.log_severity_level = 3
    # Threads that spin between frames use four times the CPU time of the work itself, and the latency is the same.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _open(
    content: bytes, options: onnxruntime.SessionOptions, providers: list[Any], disabled_optimizers: list[str]
) -> onnxruntime.InferenceSession:
    try:
        # Pass the bytes rather than the path, so that the hashed bytes are the ones that run. Disable the fallback of
        # ONNX Runtime: it switches to the CPU in the middle of a drive and only prints a line on stdout.
        session = onnxruntime.InferenceSession(
            content,
            options,
            providers=providers,
            disabled_optimizers=disabled_optimizers,
            enable_fallback=0,
        )
    except Exception as error:
        # ONNX Runtime has an exception class for each status. Only the first line of the text is useful.
        raise ProviderError(first_line(error)) from None
    session.disable_fallback()
    return session


def _limit_memory() -> None:
    """Make all sessions of this process share one CPU arena of `MAX_MEMORY_BYTES`."""
    global _memory_is_limited  # ONNX Runtime has one environment for the whole process
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
