"""Write pictures to an .mp4 file that gets its name only when it is complete.

PyAV encodes H.264, which browsers and all players show. Its wheels contain the encoder, those of OpenCV do not. Without
PyAV, OpenCV encodes MPEG-4 Part 2, which VLC and mpv play and browsers do not. Its VP9 would take
170 ms for a picture of 1280x720 px.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from ros_kd_perception.structures import UInt8Array
from ros_kd_perception.system.interruption import begun_output
from ros_kd_perception.system.output_paths import new_file_mode

CODECS = ("libx264", "libopenh264")
_X264_OPTIONS = {"preset": "veryfast", "crf": "24"}


class VideoError(ValueError):
    """A video cannot be written. The text is one sentence that says what to do."""


class VideoWriter:
    """Writes pictures of one size into a video. The same pictures give the same bytes.

    Attributes:
        path: The file to write.
        is_h264: Whether browsers will show the video; False without PyAV.
    """

    def __init__(self, path: str | Path, frames_per_second: int, *, overwrite: bool = False) -> None:
        """Start a video.

        Args:
            path: File with the suffix .mp4 in an existing folder.
            frames_per_second: Frame rate, 1..240.
            overwrite: Whether to replace an existing file when the new one is complete.

        Raises:
            VideoError: The suffix is different, the file exists, or the folder cannot be written to.
        """
        self.path = Path(path)
        if self.path.suffix != ".mp4":
            raise VideoError(f"expected a name that ends in .mp4, got {path}; choose one")
        if not 1 <= frames_per_second <= 240:
            raise VideoError(f"expected {path} to have 1 to 240 frames/s, got {frames_per_second}")
        if self.path.exists() and not (overwrite and self.path.is_file()):
            raise VideoError(f"expected a name for the new video that is free, {path} exists; choose another")
        self._frames_per_second = frames_per_second
        self._sink: _H264Sink | _Mpeg4Sink | None = None
        self._is_complete = False
        self.is_h264 = _h264_codec() is not None
        try:
            with begun_output() as undo:
                handle, name = tempfile.mkstemp(".partial.mp4", f".{self.path.stem}.", self.path.parent)
                self._partial = Path(name)
                undo.callback(self._partial.unlink)
                os.close(handle)
        except OSError as error:
            raise VideoError(f"expected to write {path}, got: {error.strerror}; choose another folder") from None

    def write(self, picture_bgr: UInt8Array) -> None:
        """Append a picture. An odd last row or column is cut off, because 4:2:0 video needs even sizes.

        Args:
            picture_bgr: uint8 `[height, width, 3]`.

        Raises:
            VideoError: The size differs from that of the first picture, or the disk is full.
        """
        height, width = picture_bgr.shape[0] & ~1, picture_bgr.shape[1] & ~1
        if min(height, width) < 2:
            raise VideoError(f"expected pictures of at least 2x2 px for a video, got {picture_bgr.shape}")
        if self._sink is None:
            codec = _h264_codec()
            rate = self._frames_per_second
            self._sink = (
                _H264Sink(self._partial, codec, rate, height, width)
                if codec
                else _Mpeg4Sink(self._partial, rate, height, width)
            )
        if (height, width) != self._sink.size:
            raise VideoError(f"expected every picture of {self.path} to be of {self._sink.size}, got {(height, width)}")
        try:
            self._sink.write(np.ascontiguousarray(picture_bgr[:height, :width]))
        except OSError as error:
            raise VideoError(f"expected to write {self.path}, got: {error}; make room and try again") from None

    def complete(self) -> None:
        """Write everything that is missing, still under the temporary name. `close` has only to rename the file then.

        Raises:
            VideoError: The disk is full.
        """
        if self._sink is None or self._is_complete:
            return
        try:
            self._sink.close()
        except OSError as error:
            raise VideoError(f"expected to write {self.path}, got: {error}; make room and try again") from None
        self._is_complete = True

    def close(self) -> None:
        """Complete the video and give it its name. Without pictures, no file is written."""
        if self._sink is None:
            self.abort()
            return
        try:
            self.complete()
            self._partial.chmod(new_file_mode())  # mkstemp lets only the owner read
            self._partial.replace(self.path)
        except OSError as error:
            raise VideoError(f"expected to write {self.path}, got: {error}; make room and try again") from None
        finally:
            self._partial.unlink(missing_ok=True)

    def abort(self) -> None:
        """Discard the video."""
        if self._sink is not None:
            with suppress(Exception):  # a broken encoder may also fail to close
                self._sink.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class _H264Sink:
    def __init__(self, path: Path, codec: str, frames_per_second: int, height: int, width: int) -> None:
        av = importlib.import_module("av")
        self.size = (height, width)
        self._frame_of = av.VideoFrame.from_ndarray
        # With the index at the start, a browser begins to play before it has the whole file.
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        options = _X264_OPTIONS if codec == "libx264" else {}
        self._stream = self._container.add_stream(codec, rate=frames_per_second, options=options)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
        self._stream.thread_count = 1  # more threads change the bytes, and the network needs the cores

    def write(self, picture_bgr: UInt8Array) -> None:
        self._container.mux(self._stream.encode(self._frame_of(picture_bgr, format="bgr24")))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


class _Mpeg4Sink:
    def __init__(self, path: Path, frames_per_second: int, height: int, width: int) -> None:
        self.size = (height, width)
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._path = path
        self._pictures = 0
        self._writer = cv2.VideoWriter(str(path), code, float(frames_per_second), (width, height))
        if not self._writer.isOpened():
            raise VideoError(
                f"expected OpenCV {cv2.__version__} to write MPEG-4, it cannot; install PyAV: pip install av"
            )

    def write(self, picture_bgr: UInt8Array) -> None:
        self._writer.write(picture_bgr)
        self._pictures += 1

    def close(self) -> None:
        self._writer.release()
        # OpenCV does not say when it cannot write, so ask the file.
        reader = cv2.VideoCapture(str(self._path))
        found = round(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        if found < self._pictures:
            raise OSError(f"a file with {found} of {self._pictures} pictures")


def _h264_codec() -> str | None:
    try:
        av = importlib.import_module("av")
    except ImportError:
        return None
    return next((codec for codec in CODECS if codec in av.codecs_available), None)
