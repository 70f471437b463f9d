"""FrameLog: notes every extracted frame at once, so that an interrupted extraction goes on where it stopped.

The log, `.frames.jsonl` in the folder of the frames, exists until the extraction is complete; then `frames.json` takes
its place.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ros_kd_perception.system.output_paths import make_folder, remove_if_empty
from training.data.frame_choice import Decided
from training.data.image_listing import FRAMES_FILE
from training.errors import DataError
from training.whole_files import write_text

IMAGES_FOLDER = "images"
LOG_FILE = ".frames.jsonl"
MAX_FILE_BYTES = 1 << 32


@dataclass(frozen=True)
class FrameRecord:
    """An extracted frame.

    Attributes:
        name: File stem, unique in the folder.
        file: Path of the image, relative to the folder.
        camera: Name of the camera.
        number: Place among the frames of the camera.
        topic: Topic of the image.
        frame_id: Frame id of the message's header.
        stamp_ns: Header stamp in nanoseconds.
        log_time_ns: When the recorder received it, in nanoseconds.
        width: Width in pixels.
        height: Height in pixels.
        sha256: SHA-256 of the image file.
        notes: What the annotator of the extraction notes of the frame, such as its boxes. Under `files` it has the
            SHA-256 of each further file by its path.
    """

    name: str
    file: str
    camera: str
    number: int
    topic: str
    frame_id: str
    stamp_ns: int
    log_time_ns: int
    width: int
    height: int
    sha256: str
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameList:
    """All frames of a finished extraction.

    Attributes:
        key: Digest of the bag, the choice of frames and the annotator.
        frames: The frames in the order of the bag.
        bad: Number of frames that cannot be decoded or are too small.
        similar: Number of frames left out because they hardly differ from the last one kept.
    """

    key: str
    frames: tuple[FrameRecord, ...]
    bad: int
    similar: int

    @classmethod
    def read(cls, folder: Path) -> FrameList | None:
        """Return the frames of a folder; None if it holds no finished extraction.

        Raises:
            DataError: frames.json is damaged.
        """
        path = folder / FRAMES_FILE
        if not path.is_file():
            return None
        try:
            content = json.loads(_read_limited(path))
            records = tuple(FrameRecord(**entry) for entry in content["frames"])
            return cls(str(content["key"]), records, int(content["bad"]), int(content["similar"]))
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(
                f"{path}: expected the list of an extraction's frames, got {error!r}; delete the folder and "
                "extract again"
            ) from error

    def write(self, folder: Path, bag: Path) -> None:
        """Write frames.json without the notes of the annotator."""
        entries = [asdict(record) for record in self.frames]
        for entry in entries:
            del entry["notes"]
        content = {"bag": bag.name, "key": self.key, "bad": self.bad, "similar": self.similar, "frames": entries}
        write_text(folder / FRAMES_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")


class FrameLog:
    """The log of an extraction that is not complete. Only one process writes into a folder at a time.

    Attributes:
        decided: The frames that were kept or found bad, in the order of the bag.
        records: Those that were kept.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Open the log of a folder, or begin one.

        An entry whose files are missing or damaged ends the log: power was lost before they reached the disk.

        Raises:
            DataError: The folder holds other files, or an extraction of another bag or choice, or another process
                writes into it.
        """
        self.decided: list[Decided] = []
        self.records: list[FrameRecord] = []
        self._path = folder / LOG_FILE
        self._check_folder(folder)
        make_folder(folder / IMAGES_FOLDER)
        self._file: IO[bytes] = self._path.open("a+b")
        try:
            self._lock(folder)
            self._read(folder, key)
        except BaseException:
            self._file.close()
            raise

    @property
    def bad(self) -> int:
        """Number of frames that cannot be trained on."""
        return len(self.decided) - len(self.records)

    def _check_folder(self, folder: Path) -> None:
        """Refuse a folder with files of others."""
        if folder.is_dir() and not self._path.exists() and any(folder.iterdir()):
            raise DataError(
                f"{folder}: expected a new or empty folder, or one of an interrupted extraction, it holds "
                f"{sorted(path.name for path in folder.iterdir())[0]}; choose another"
            )

    def _lock(self, folder: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{folder}: another process is extracting frames into it; wait for it, or choose another folder"
            ) from None
        except OSError:
            pass  # a network file system without locks

    def _read(self, folder: Path, key: str) -> None:
        self._file.seek(0)
        lines = self._file.read(MAX_FILE_BYTES).splitlines(keepends=True)
        end = 0
        for line in lines:
            entry = _entry(line)
            if entry is None or (end and not self._take(folder, entry)):
                break
            if not end and entry.get("key") != key:
                raise DataError(
                    f"{folder}: expected an interrupted extraction of this bag and choice of frames, it is of others; "
                    "choose another folder, or delete it"
                )
            end += len(line)
        self._file.truncate(end)
        if not end:
            self._write({"key": key})
        for path in (folder / IMAGES_FOLDER).glob(".*.tmp"):
            path.unlink()

    def _take(self, folder: Path, entry: dict[str, Any]) -> bool:
        """Take over an entry of an earlier run; return False if its files are not whole."""
        with suppress(KeyError, TypeError, OSError):
            if "bad" in entry:
                self.decided.append(Decided(entry["camera"], entry["number"], kept=False))
                return True
            record = FrameRecord(**entry)
            digests = {record.file: record.sha256, **record.notes.get("files", {})}
            if all(hashlib.sha256((folder / file).read_bytes()).hexdigest() == digests[file] for file in digests):
                self.records.append(record)
                self.decided.append(Decided(record.camera, record.number, kept=True))
                return True
        return False

    def add(self, record: FrameRecord) -> None:
        """Note a frame whose files are written."""
        self._write(asdict(record))
        self.records.append(record)
        self.decided.append(Decided(record.camera, record.number, kept=True))

    def add_bad(self, camera: str, number: int, reason: str) -> None:
        """Note a frame that cannot be trained on."""
        self._write({"camera": camera, "number": number, "bad": reason})
        self.decided.append(Decided(camera, number, kept=False))

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def remove(self) -> None:
        """Delete the log, after everything is written; with nothing written, the folders, too."""
        self._path.unlink()
        if not self.records:
            remove_if_empty([self._path.parent / IMAGES_FOLDER, self._path.parent])

    def __enter__(self) -> FrameLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and self._path.exists() and not self.decided and self._is_alone():
            self.remove()
        self._file.close()

    def _is_alone(self) -> bool:
        """Whether the folder holds no file but the log: a first frame that failed leaves nothing to go on from."""
        return all(path == self._path or path.is_dir() for path in self._path.parent.rglob("*"))


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return the entry in a line of the log; None if the line is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _read_limited(path: Path) -> str:
    if os.stat(path).st_size > MAX_FILE_BYTES:
        raise ValueError(f"expected at most {MAX_FILE_BYTES} bytes")
    return path.read_text(encoding="utf-8")
