"""Writes what a comparison found into a folder that appears only when it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import cv2

from ros_kd_perception.differences.classes import ComparedClasses
from ros_kd_perception.differences.figures_json import document_of, write_json
from ros_kd_perception.differences.moments import Moment
from ros_kd_perception.differences.pictures import draw_row
from ros_kd_perception.differences.report import page_of
from ros_kd_perception.differences.result import Result
from ros_kd_perception.system.interruption import begun_output
from ros_kd_perception.system.output_paths import OutputPathError, make_folder, remove_if_empty

JSON_FILE, REPORT_FILE, VIDEO_FILE = "differences.json", "report.html", "differences.mp4"

_JPEG_QUALITY = 88


class OutputFolder:
    """A folder with a temporary name until it is complete. An exception in the `with` block leaves nothing behind.

    Attributes:
        path: The final name.
        partial: The folder to write into.
    """

    def __init__(self, path: Path, *, replace: bool = False) -> None:
        """Make the folder under its temporary name.

        Args:
            path: A free name, or an empty folder.
            replace: Whether a folder of an earlier comparison may be replaced.

        Raises:
            OutputPathError: The name is taken, or the folder cannot be written to.
        """
        self.path = path
        check_free_folder(path, replace=replace)
        # The default permissions, which a folder of `tempfile` does not have.
        self.partial = path.absolute().with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with begun_output() as undo:
                self._new_parents = make_folder(path.absolute().parent)
                undo.callback(remove_if_empty, self._new_parents)
                shutil.rmtree(self.partial, ignore_errors=True)
                self.partial.mkdir()
                undo.callback(self.partial.rmdir)
        except OSError as error:
            raise OutputPathError(f"expected to write {path}, got: {error.strerror}; choose another folder") from None

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder its name. After an error, remove it.

        Raises:
            OutputPathError: The folder cannot be completed.
        """
        try:
            if kind is None:
                self._complete()
        except OSError as failure:
            raise OutputPathError(
                f"expected to complete {self.path}, got: {failure.strerror}; make room or choose another folder"
            ) from None
        finally:
            shutil.rmtree(self.partial, ignore_errors=True)
            remove_if_empty(self._new_parents)

    def _complete(self) -> None:
        if not self.path.exists():
            self.partial.rename(self.path)
            return
        if not any(self.path.iterdir()):
            self.partial.replace(self.path)
            return
        before = self.partial.with_suffix(".before")
        self.path.rename(before)
        try:
            self.partial.rename(self.path)
        except BaseException:  # for example Ctrl-C between the two renames
            if not self.path.exists():
                before.rename(self.path)
            raise
        shutil.rmtree(before, ignore_errors=True)


def check_free_folder(path: Path, *, replace: bool) -> None:
    """Refuse a name that is taken, except by an empty folder or, with `replace`, by an earlier comparison.

    Raises:
        OutputPathError: The name is taken.
    """
    if not path.exists() and not path.is_symlink():
        return
    if path.is_dir():
        if not any(path.iterdir()):
            return
        if (path / JSON_FILE).is_file():
            if replace:
                return
            raise OutputPathError(
                f"expected a free name for the output, {path} has an earlier comparison; choose another name, or "
                "replace it with --force"
            )
    raise OutputPathError(f"expected a free name for the output, {path} exists; choose another name, or remove it")


def write_result(folder: OutputFolder, result: Result) -> None:
    """Write figures, pictures and report into the folder.

    Raises:
        OutputPathError: The disk is full or fails.
    """
    try:
        pictures = _write_pictures(folder.partial, result)
        figures, verdict, judged = result.figures, result.verdict, result.judged
        moments = {name: moment for name, (moment, _) in pictures.items()}
        document = document_of(figures, verdict, judged, result.sides, moments)
        document["conditions"] = dict(result.conditions)
        # Bytes of a path that are not UTF-8 are escaped. In JSON, the escape stands for the same path.
        with (folder.partial / JSON_FILE).open("w", encoding="utf-8", errors="backslashreplace") as file:
            write_json(file, document, figures)
        page = page_of(figures, verdict, judged, result.sides, pictures, result.conditions)
        (folder.partial / REPORT_FILE).write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputPathError(
            f"expected to write {folder.path}, got: {error.strerror}; make room and try again"
        ) from None


def _write_pictures(folder: Path, result: Result) -> Mapping[str, tuple[Moment, bytes]]:
    pictures = {}
    digits = max(2, len(str(len(result.moments))))
    for number, moment in enumerate(result.moments, 1):
        name = f"worst_{number:0{digits}}.jpg"
        jpeg = jpeg_of(moment, result.figures.classes)
        (folder / name).write_bytes(jpeg)
        pictures[name] = (moment, jpeg)
    return pictures


def jpeg_of(moment: Moment, classes: ComparedClasses) -> bytes:
    """Draw a moment: the old side, the new side and what differs."""
    row = draw_row(moment.small, classes, (f"OLD  {moment.title}", "NEW", "what differs"))
    done, content = cv2.imencode(".jpg", row, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    if not done:
        raise OSError(0, "OpenCV cannot encode a JPEG")
    return content.tobytes()
