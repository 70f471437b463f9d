"""A candidate model sees what the active one sees, in a process of its own at the lowest priority.

A process rather than a thread: one that has the interpreter when the machine lets it wait would make the active model
wait with it. It runs on one thread of the CPU, whatever the active one runs on, and has neither its memory nor its GPU.
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

from ros_kd_perception.candidates.agreement import Agreement, ClassNames, map_agreement, match_boxes
from ros_kd_perception.candidates.memory_limit import limit_of_model, limited_memory
from ros_kd_perception.images.decoder_warnings import standard_error
from ros_kd_perception.structures import Detections, Frame, Perception, UInt8Array
from ros_kd_perception.system import child_processes
from ros_kd_perception.system.priority import be_first_when_memory_runs_out, lower_this_thread

ANSWER_TIMEOUT_S = 60.0
"""Of a frame, and of opening the model: the lowest priority gets little of a busy machine."""

_LENGTH_BYTES = 8


class ShadowFailed(RuntimeError):
    """The shadow model was refused, or its process is gone; the text is one sentence."""


class ShadowProcess:
    """Opens a model in a child process and asks it about frames, one at a time, from one thread.

    The process ends with that thread, whatever becomes of this one.

    Args:
        path: of the model.

    Raises:
        ShadowFailed: no process can be started.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._closed = False
        try:
            with standard_error() as errors:
                self._child = subprocess.Popen(
                    [*child_processes.command("candidates.shadow_process"), path],
                    env=child_processes.environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
        except OSError as error:
            raise ShadowFailed(f"expected to start a process for the shadow model, got: {error}") from None

    def wait_until_ready(self) -> str:
        """Name and version of the model once it is verified.

        Raises:
            ShadowFailed: it was refused, or the process took too much memory, died or hangs.
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
        return str(answer["ready"])

    def compare(self, frame: Frame, perception: Perception, names: ClassNames) -> Agreement:
        """What the shadow makes of a frame, beside what the active model has seen in it.

        Raises:
            ShadowFailed: the process died or hangs.
        """
        found = perception.detections
        header = {
            "image": frame.image_bgr.shape,
            "class_map": perception.class_map.shape,
            "boxes": found.boxes_xyxy.tolist(),
            "scores": found.scores.tolist(),
            "labels": found.labels.tolist(),
            "names": names.to_json(),
        }
        return Agreement(**self._answer((header, (frame.image_bgr, perception.class_map))))

    def close(self) -> None:
        """End the process; whoever waits for an answer of it gets an error. Safe from any thread, and twice."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError, ValueError):  # what is still in a buffer goes nowhere
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
                f"it did not or died (exit status {self._child.poll()}); set shadow_model again to try once more"
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
        shape = header[key]
        arrays.append(np.frombuffer(stream.read(int(np.prod(shape))), np.uint8).reshape(shape))
    return header, arrays


def main(arguments: Sequence[str] | None = None) -> int:
    """The child: answers one line of JSON when the model is open, and one for each frame, until stdin ends."""
    lower_this_thread()  # before ONNX Runtime starts threads, which inherit it
    be_first_when_memory_runs_out()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the node, which ends its child itself
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
    from ros_kd_perception.perceiver import Perceiver

    parser = argparse.ArgumentParser(description="Compare a model with another one's results; a part of the node.")
    parser.add_argument("model", help="an .onnx file")
    path = parser.parse_args(arguments).model
    try:
        model = OnnxModel.open(path, device="cpu", intra_op_threads=1)
    except ModelError as error:
        print(json.dumps({"refused": " ".join(str(error).split())}, allow_nan=False), file=answers)
        return 1
    perceiver, names = Perceiver(model), ClassNames.of(model.contract)
    perceiver.warm_up()
    print(json.dumps({"ready": f"{model.contract.name} {model.contract.version}"}, allow_nan=False), file=answers)
    while (question := _read(sys.stdin.buffer)) is not None:
        header, (image, class_map) = question
        active = Detections(
            np.asarray(header["boxes"], np.float32).reshape(-1, 4),
            np.asarray(header["scores"], np.float32),
            np.asarray(header["labels"], np.int32),
        )
        active_names = ClassNames.from_json(header["names"])
        seen = perceiver.perceive([Frame("shadow", 0, "", image)])[0]
        pairs = match_boxes(active, seen.detections, active_names, names)
        agreement = Agreement(
            class_map_agreement=map_agreement(class_map, seen.class_map, active_names, names),
            active_boxes=len(active.labels),
            shadow_boxes=len(seen.detections.labels),
            matched_boxes=len(pairs),
            mean_iou=sum(pairs) / len(pairs) if pairs else None,
            inference_ms=seen.timing.inference_ms,
        )
        print(json.dumps(vars(agreement), allow_nan=False), file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
