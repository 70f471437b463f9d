"""Write frames and results as a recording for the Rerun viewer (.rrd), which gets its name when it is complete."""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ros_kd_perception.drawing.jpeg import jpeg_of
from ros_kd_perception.drawing.overlay import TINT
from ros_kd_perception.model.contract import ClassInfo, ModelContract
from ros_kd_perception.structures import Detections, Frame, Perception
from ros_kd_perception.system.interruption import begun_output
from ros_kd_perception.system.missing_package import MissingPackage
from ros_kd_perception.system.output_paths import new_file_mode

TIMELINE = "stamp"
"""The header stamps of the frames."""

_PIPE_BYTES = 1 << 16


class RerunError(ValueError):
    """A recording cannot be written. The text is one sentence that says what to do."""


class RerunFile:
    """Writes the image, the mask and the boxes of each frame below the name of its camera.

    | entity | content |
    |---|---|
    | `<camera>/image` | the image as JPEG |
    | `<camera>/mask` | class ids, with the names and colours of the classes |
    | `<camera>/boxes` | boxes with class, name, score and, if objects are tracked, id |
    """

    def __init__(
        self, path: str | Path, cameras: Collection[str], contract: ModelContract, *, overwrite: bool = False
    ) -> None:
        """Start a recording.

        Args:
            path: File with the suffix .rrd in an existing folder.
            cameras: Names of the cameras. Each gets a view.
            contract: Names and colours of the classes.
            overwrite: Whether to replace an existing file when the new one is complete.

        Raises:
            RerunError: The suffix is different, the file exists, or the folder cannot be written to.
            MissingPackage: rerun-sdk is not installed.
        """
        self.path = Path(path)
        if self.path.suffix != ".rrd":
            raise RerunError(f"expected a Rerun recording to be written to a .rrd file, got {path}")
        if self.path.exists() and not (overwrite and self.path.is_file()):
            raise RerunError(f"expected a name for the new recording that is free, {path} exists; choose another")
        self._rerun = rerun_sdk()
        self._contract = contract
        self._frames = 0
        self._is_complete = False
        self._stream = self._rerun.RecordingStream("ros_kd_perception", recording_id=str(uuid.uuid4()))
        if not self._stream.is_enabled():
            raise RerunError("expected Rerun to be on, got RERUN=off in the environment; remove this variable")
        try:
            with begun_output() as undo:
                handle, name = tempfile.mkstemp(".partial.rrd", f".{self.path.stem}.", self.path.parent)
                self._partial = Path(name)
                undo.callback(self._partial.unlink, missing_ok=True)
                self._copy = _PipeToFile(handle)
                undo.callback(self.abort)
                self._begin(cameras)
        except OSError as error:
            raise RerunError(f"expected to write {path}, got: {error.strerror}; choose another folder") from None

    def _begin(self, cameras: Collection[str]) -> None:
        try:
            self._stream.save(self._copy.path, default_blueprint=self._views(cameras))
            self._copy.close_entry()
            for camera in cameras:
                self._log_classes(camera)
        except Exception as error:
            raise self._failed(error) from None

    def add(self, frame: Frame, perception: Perception) -> None:
        """Append a frame and its result at the time of its stamp.

        Raises:
            RerunError: The disk is full.
        """
        rerun, camera, contract = self._rerun, frame.camera, self._contract
        try:
            self._stream.set_time(TIMELINE, timestamp=np.datetime64(frame.stamp_ns, "ns"))
            jpeg = jpeg_of(frame.image_bgr).tobytes()
            self._stream.log(f"{camera}/image", rerun.EncodedImage(contents=jpeg, media_type="image/jpeg"))
            if perception.class_map is not None:
                self._stream.log(f"{camera}/mask", rerun.SegmentationImage(perception.class_map, opacity=TINT))
            if perception.detections is not None:
                boxes = self._boxes(perception.detections, contract.detection_classes)
                self._stream.log(f"{camera}/boxes", boxes)
            self._frames += 1
            self._copy.check()
        except Exception as error:
            raise self._failed(error) from None

    def complete(self) -> None:
        """Write everything that is missing, still under the temporary name. `close` has only to rename the file then.

        Raises:
            RerunError: The disk is full.
        """
        if self._is_complete:
            return
        try:
            self._stream.flush()
            self._stream.disconnect()
            self._copy.finish()
        except Exception as error:
            raise self._failed(error) from None
        self._is_complete = True

    def close(self) -> None:
        """Complete the recording and give it its name. Without frames, no file is written.

        Raises:
            RerunError: The recording cannot be completed. Nothing is left behind.
        """
        if not self._frames:
            self.abort()
            return
        try:
            self.complete()
            self._partial.chmod(new_file_mode())
            self._partial.replace(self.path)
        except Exception as error:
            raise self._failed(error) from None
        finally:
            self._partial.unlink(missing_ok=True)

    def abort(self) -> None:
        """Discard the recording."""
        self._stream.disconnect()
        with suppress(OSError):
            self._copy.finish()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> RerunFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _views(self, cameras: Collection[str]) -> Any:
        views = importlib.import_module("rerun.blueprint")
        return views.Blueprint(views.Grid(*[views.Spatial2DView(origin=f"/{c}", name=c) for c in cameras]))

    def _log_classes(self, camera: str) -> None:
        contract = self._contract
        tables = {"mask": contract.segmentation_classes, "boxes": contract.detection_classes}
        for entity, classes in tables.items():
            if classes:
                rows = [(info.id, info.name, (*info.color_rgb, 255)) for info in classes]
                if entity == "mask":
                    rows.append((contract.unlabeled_id, "unlabeled", (0, 0, 0, 0)))
                context = self._rerun.AnnotationContext(rows)
                self._stream.log(f"{camera}/{entity}", context, static=True)

    def _boxes(self, found: Detections, classes: tuple[ClassInfo, ...]) -> Any:
        names = {info.id: info.name for info in classes}
        ids = [0] * len(found) if found.track_ids is None else found.track_ids.tolist()
        labels = [
            f"{names.get(label, 'unknown')} {score:.2f}" + (f" #{track_id}" if track_id else "")
            for label, score, track_id in zip(found.labels.tolist(), found.scores.tolist(), ids, strict=True)
        ]
        boxes_xyxy = found.boxes_xyxy
        sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        return self._rerun.Boxes2D(mins=boxes_xyxy[:, :2], sizes=sizes, labels=labels, class_ids=found.labels)

    def _failed(self, error: Exception) -> RerunError:
        if isinstance(error, RerunError):
            return error
        if isinstance(error, OSError) and error.strerror:
            return RerunError(f"expected to write {self.path}, got: {error.strerror}; make room and try again")
        text = " ".join(str(error).split())[:200]
        return RerunError(f"expected to write {self.path}, got: {text}; replay without this recording")


class _PipeToFile:
    """Writes what comes out of a pipe to a file, in a thread of its own.

    The SDK writes into the pipe. Version 0.41.0 may wait for ever if it writes to a file itself and the disk is full.
    After an error, the pipe is emptied all the same, so that the SDK never waits.

    Args:
        file: Descriptor of the file, which is closed in the end.
    """

    def __init__(self, file: int) -> None:
        self._exit, self._entry = os.pipe()
        self._file = file
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._copy, name="Rerun file", daemon=True)
        self._thread.start()

    @property
    def path(self) -> str:
        """Path under which the SDK opens the pipe."""
        return f"/dev/fd/{self._entry}"

    def close_entry(self) -> None:
        """Leave the pipe to the SDK. It ends when the SDK closes it."""
        entry, self._entry = self._entry, -1
        if entry >= 0:
            os.close(entry)

    def check(self) -> None:
        """Raise the OSError of a write that failed."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait until everything is written.

        Raises:
            OSError: A write failed.
        """
        self.close_entry()
        self._thread.join()
        self.check()

    def _copy(self) -> None:
        with open(self._exit, "rb", buffering=0) as pipe:
            try:
                with open(self._file, "wb", buffering=0) as file:
                    while data := memoryview(pipe.read(_PIPE_BYTES)):
                        while data:
                            data = data[file.write(data) :]
            except OSError as error:
                self._error = error
                while pipe.read(_PIPE_BYTES):
                    pass


def rerun_sdk() -> Any:
    """Import the Rerun SDK.

    Raises:
        MissingPackage: It is not installed.
    """
    try:
        return importlib.import_module("rerun")
    except ImportError as error:
        raise MissingPackage(
            f"expected the Python package rerun-sdk for writing a Rerun recording, got: {error}; install the [rerun] "
            "extra of ros_kd_perception, on Python 3.11 or later"
        ) from None
