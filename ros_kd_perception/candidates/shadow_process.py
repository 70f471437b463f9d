"""ShadowProcess: runs a candidate model beside the active one on the same frames, in a child process.

The child runs at the lowest priority. A thread of that priority would not do: if the machine suspends it while it holds
the GIL, the active model waits too. The child uses one CPU thread, whatever device the active model uses, and shares
neither memory nor GPU with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from ros_kd_perception.candidates.agreement import Agreement, ClassNames
from ros_kd_perception.candidates.memory_limit import limit_of_model, limited_memory
from ros_kd_perception.model.contract import DETECTION, SEGMENTATION
from ros_kd_perception.structures import Detections, Frame, Perception, UInt8Array
from ros_kd_perception.system import child_processes
from ros_kd_perception.system.priority import be_first_when_memory_runs_out, lower_this_thread

ANSWER_TIMEOUT_S = 60.0
"""Time to answer one frame, or to open the model. It is long, because on a busy machine the child gets little CPU."""

_LENGTH_BYTES = 8


class ShadowFailed(RuntimeError):
    """The shadow model was refused, or its process has ended. The text is one sentence."""


class ShadowProcess:
    """Opens a model in a child process and compares it with the active model, one frame at a time.

    Create it and call `wait_until_ready` and `compare` from one thread. The child ends with that thread, also if this
    process crashes.

    Args:
        path: Path of the model.
        signature_key: Path of a public key that must have signed the model. Empty accepts an unsigned one.

    Raises:
        ShadowFailed: The process cannot be started.
    """

    def __init__(self, path: str, signature_key: str = "") -> None:
        self.path = path
        self._closed = False
        self._tasks: list[str] = []
        try:
            self._child = subprocess.Popen(
                [*child_processes.command("candidates.shadow_process"), path, signature_key],
                env=child_processes.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except OSError as error:
            raise ShadowFailed(f"expected to start a process for the shadow model, got: {error}") from None

    def wait_until_ready(self) -> str:
        """Wait until the model is verified and return its name and version.

        Raises:
            ShadowFailed: The model was refused, or the process took too much memory, ended or hangs.
        """
        with limited_memory(self._child, limit_of_model(self.path)) as memory:
            try:
                answer = self._answer()
            except ShadowFailed:
                if memory.exceeded_bytes:
                    raise ShadowFailed(memory.refusal(self.path)) from None
                raise
        if "refused" in answer:
            raise ShadowFailed(str(answer["refused"]))
        self._tasks = answer["tasks"]
        return str(answer["ready"])

    def compare(self, frame: Frame, perception: Perception, names: ClassNames) -> Agreement:
        """Run the shadow model on a frame and compare its results with those of the active model.

        Args:
            frame: The frame.
            perception: The active model's results for this frame.
            names: The active model's class names.

        Raises:
            ShadowFailed: The models have no task in common, or the process has ended or hangs.
        """
        arrays, header = [frame.image_bgr], {"image": frame.image_bgr.shape, "names": names.to_json()}
        if (class_map := perception.class_map) is not None and SEGMENTATION in self._tasks:
            header["class_map"] = class_map.shape
            arrays.append(class_map)
        if (found := perception.detections) is not None and DETECTION in self._tasks:
            header["detections"] = {
                "boxes_xyxy": found.boxes_xyxy.tolist(),
                "scores": found.scores.tolist(),
                "labels": found.labels.tolist(),
            }
        if len(header) == 2:
            raise ShadowFailed(
                f"expected the shadow model {self.path} to share a task with the active model, it does "
                f"{' and '.join(self._tasks)} only; set shadow_model to another one"
            )
        return Agreement(**self._answer((header, arrays)))

    def close(self) -> None:
        """End the process. A thread that waits for an answer gets a `ShadowFailed`.

        May be called from any thread and more than once.
        """
        self._closed = True
        with contextlib.suppress(OSError):
            self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError, ValueError):  # flushing a buffer to the ended process fails
                if stream is not None:
                    stream.close()

    def _answer(self, question: tuple[dict[str, Any], Sequence[UInt8Array]] | None = None) -> dict[str, Any]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        watchdog = threading.Timer(ANSWER_TIMEOUT_S, self._child.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            if question is not None:
                _write(self._child.stdin, *question)
            line = self._child.stdout.readline(1 << 16)
        except (OSError, ValueError):
            line = b""
        finally:
            watchdog.cancel()
        if not line:
            raise ShadowFailed(
                "the shadow was ended"
                if self._closed
                else f"expected the process of the shadow model {self.path} to answer within {ANSWER_TIMEOUT_S:g} s, "
                f"it did not answer or has ended (exit status {self._child.poll()}); set shadow_model again to retry"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def _write(stream: BinaryIO | Any, header: dict[str, Any], arrays: Sequence[UInt8Array]) -> None:
    text = json.dumps(header, allow_nan=False).encode()
    stream.write(len(text).to_bytes(_LENGTH_BYTES, "little"))
    stream.write(text)
    for array in arrays:
        stream.write(np.ascontiguousarray(array).data)
    stream.flush()


def _read(stream: BinaryIO) -> tuple[dict[str, Any], list[UInt8Array]] | None:
    length = stream.read(_LENGTH_BYTES)
    if len(length) < _LENGTH_BYTES:
        return None
    header: dict[str, Any] = json.loads(stream.read(int.from_bytes(length, "little")))
    arrays = []
    for key in ("image", "class_map"):
        if (shape := header.get(key)) is None:
            continue
        arrays.append(np.frombuffer(stream.read(int(np.prod(shape))), np.uint8).reshape(shape))
    return header, arrays


def _detections(found: dict[str, Any] | None) -> Detections | None:
    if found is None:
        return None
    return Detections(
        np.asarray(found["boxes_xyxy"], np.float32).reshape(-1, 4),
        np.asarray(found["scores"], np.float32),
        np.asarray(found["labels"], np.int32),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the child process: write one line of JSON when the model is open and one for each frame, until stdin ends."""
    lower_this_thread()  # before ONNX Runtime starts threads, which inherit the priority
    be_first_when_memory_runs_out()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl+C the node ends this child itself
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # keep what libraries print out of the answers
    from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
    from ros_kd_perception.perceiver import Perceiver

    parser = argparse.ArgumentParser(description="Compare a model with the node's active model. Started by the node.")
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument("signature_key", nargs="?", default="", help="public key that must have signed it")
    options = parser.parse_args(arguments)
    try:
        model = OnnxModel.open(options.model, device="cpu", intra_op_threads=1, signature_key=options.signature_key)
    except ModelError as error:
        print(json.dumps({"refused": " ".join(str(error).split())}, allow_nan=False), file=answers)
        return 1
    perceiver, names = Perceiver(model), ClassNames.of(model.contract)
    perceiver.warm_up()
    ready = {"ready": f"{model.contract.name} {model.contract.version}", "tasks": model.contract.tasks}
    print(json.dumps(ready, allow_nan=False), file=answers)
    while (question := _read(sys.stdin.buffer)) is not None:
        header, (image, *class_maps) = question
        active = (class_maps[0] if class_maps else None, _detections(header.get("detections")))
        seen = perceiver.perceive([Frame("shadow", 0, "", image)])[0]
        agreement = Agreement.of(active, seen, ClassNames.from_json(header["names"]), names)
        print(json.dumps(vars(agreement), allow_nan=False), file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
