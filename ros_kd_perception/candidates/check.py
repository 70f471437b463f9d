"""Opens a model in a child process before the node uses it, possibly while the node drives with another model.

If the model crashes ONNX Runtime, hangs or exhausts memory, only the child ends and the model is refused. The child may
also take long: building a TensorRT engine takes minutes, and the node later loads the engine from the cache.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ros_kd_perception.candidates.memory_limit import limit_of_model, limited_memory
from ros_kd_perception.system import child_processes

TIMEOUT_S = 300.0
TENSORRT_TIMEOUT_S = 1800.0
"""Building an engine on a small machine takes a quarter of an hour."""

_POLL_S = 0.05
_GRACE_S = 5.0
_ACCEPTED = "sha256"
_AS_ASKED, _ELSEWHERE, _NOT_MEASURED = "as_asked", "elsewhere", "not_measured"


class CandidateRefused(ValueError):
    """The candidate did not pass. The text is one sentence."""


@dataclass(frozen=True)
class CandidatePassed:
    """A model that opened in the child process.

    Attributes:
        sha256: Hex digest of the file.
        as_asked: Whether the whole network ran on the requested device. If not, that device is still untested.
        time_share_of_fp32: Time of a quantised file on this CPU, divided by the time of the same file in floats. None
            for other files, and on a GPU.
    """

    sha256: str
    as_asked: bool
    time_share_of_fp32: float | None = None

    @property
    def speed(self) -> str:
        """The time share as a sentence. Empty if it was not measured."""
        share = self.time_share_of_fp32
        if share is None:
            return ""
        sentence = f"INT8 runs in {share:.2f} of the time of the same file in fp32 here"
        return f"{sentence}; a model of fp32 is faster on this CPU" if self.is_slower else sentence

    @property
    def is_slower(self) -> bool:
        """Whether a quantised file is slower here than in floats."""
        return self.time_share_of_fp32 is not None and self.time_share_of_fp32 >= 1


def check_in_child(
    path: str,
    options: Mapping[str, Any],
    cancelled: Callable[[], bool] = lambda: False,
    *,
    low_priority: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> CandidatePassed:
    """Open a model and run its golden frames in a child process.

    Args:
        path: Path of the `.onnx` file.
        options: Keyword arguments for `OnnxModel.open`.
        cancelled: Called every 50 ms. Returning True ends the child.
        low_priority: Run the child behind everything else on the machine. For use while another model drives.
        timeout_s: Longest time that the child may take.

    Returns:
        The hash of the file, whether it ran on the requested device, and how fast a quantised file is.

    Raises:
        CandidateRefused: The model was refused, crashed, took too long or too much memory, or the check was cancelled.
    """
    request = json.dumps({"path": path, "options": dict(options), "low_priority": low_priority}, allow_nan=False)
    try:
        child = subprocess.Popen(
            [*child_processes.command("candidates.check"), request],
            env=child_processes.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="backslashreplace",  # the child may name a path that is not UTF-8
        )
    except OSError as error:
        raise CandidateRefused(f"expected to start a process that opens {path}, got: {error}") from None
    with child, limited_memory(child, limit_of_model(path, options.get("device", "auto"))) as memory:
        try:
            _wait(child, path, cancelled, timeout_s)
        finally:
            _end(child)
        answer = child.stdout.read(65536) if child.stdout is not None else ""
    if memory.exceeded_bytes:
        raise CandidateRefused(memory.refusal(path))
    return _judge(path, child.returncode, answer)


def _wait(child: subprocess.Popen[str], path: str, cancelled: Callable[[], bool], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            child.wait(_POLL_S)
            return
        except subprocess.TimeoutExpired:
            pass
        if cancelled():
            raise CandidateRefused(f"the trial of {path} was cancelled")
        if time.monotonic() > deadline_s:
            raise CandidateRefused(
                f"expected {path} to open within {timeout_s:g} s, it did not; run it with `replay_bag` on another "
                "machine to see why"
            )


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()


def _judge(path: str, status: int, answer: str) -> CandidatePassed:
    lines = answer.strip().splitlines()
    words = lines[-1].split() if lines else []
    if status == 0 and len(words) == 4 and words[0] == _ACCEPTED:
        return CandidatePassed(words[1], words[2] == _AS_ASKED, None if words[3] == _NOT_MEASURED else float(words[3]))
    if status == 1 and lines:
        raise CandidateRefused(lines[-1])
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    raise CandidateRefused(
        f"expected {path} to open in a child process, which ended with {how}; ONNX Runtime on this machine cannot run "
        "the model, export it again or use another device"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Open the model in the child process.

    Print the file's hash, and the speed of a quantised file, and return 0 if the model opens. Print one sentence and
    return 1 if it is refused.
    """
    parser = argparse.ArgumentParser(
        description="Open a model and run its golden frames. The node runs this for each candidate model."
    )
    parser.add_argument(
        "request", help='JSON: {"path": ..., "options": {arguments of OnnxModel.open}, "low_priority": bool}'
    )
    request = json.loads(parser.parse_args(arguments).request)
    from ros_kd_perception.system.priority import be_first_when_memory_runs_out, lower_this_thread
    from ros_kd_perception.system.standard_output import escape_unknown_characters

    if request["low_priority"]:
        lower_this_thread()  # before the other imports, which need half a second of CPU time
    be_first_when_memory_runs_out()
    escape_unknown_characters()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl+C the node ends this child itself
    from ros_kd_perception.model.int8_speed import time_share_of_fp32
    from ros_kd_perception.model.onnx_model import ModelError, OnnxModel

    try:
        # Report nothing here: the process that opens the file afterwards reports the provider.
        model = OnnxModel.open(request["path"], **request["options"], tell=lambda _: None)
        share = time_share_of_fp32(model, request["path"])
    except (ModelError, ImportError) as error:
        print(" ".join(str(error).split()))
        return 1
    provider = model.provider
    where = _ELSEWHERE if provider.fallback or provider.unproven else _AS_ASKED
    print(_ACCEPTED, model.sha256, where, _NOT_MEASURED if share is None else f"{share:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
