"""What is kept on a machine between runs: the engines and timings of TensorRT, and what they depend on.

An engine is code for the GPU, loaded without a question asked, so its folder must belong to the user alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
from pathlib import Path

_TENSORRT_LIBRARIES = tuple(f"libnvinfer.so.{major}" for major in (10, 11, 12, 8))


def prepare_cache_folder(identity: tuple[str, ...]) -> Path:
    """Make the folder of the engine and timing caches, named by a hash of the identity.

    That is whatever an engine depends on: one that was made for another GPU or version would be wrong or refused.

    Raises:
        PermissionError: the folder belongs to somebody else, or others may write to it.
        OSError: it cannot be made.
    """
    folder = own_cache_folder(f"tensorrt-{hashlib.sha256(chr(10).join(identity).encode()).hexdigest()[:24]}")
    with contextlib.suppress(OSError):  # for those who look; nothing reads it
        (folder / "made_for.txt").write_text("\n".join(identity) + "\n")
    return folder


def own_cache_folder(name: str) -> Path:
    """Make a folder below `$XDG_CACHE_HOME` (or `~/.cache`) which nobody but this user may write.

    Raises:
        PermissionError: the folder belongs to somebody else, or others may write to it.
        OSError: it cannot be made, or this system does not tell whose it is.
    """
    if not hasattr(os, "getuid"):
        raise OSError("expected a system that tells whose a folder is, this one does not")
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ros_kd_perception"
    except RuntimeError as error:  # a user without a home, in a container say
        raise OSError(f"expected a home folder for what is kept between runs, got: {error}") from None
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = base / name
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"expected {folder} to belong to this user alone; remove it")
    return folder


def gpu_identity(proc: Path = Path("/proc")) -> str:
    """Model of the GPU and version of its driver, as the system's files say; `unknown` where there are none."""
    facts = []
    for path in (*sorted(proc.glob("driver/nvidia/gpus/*/information")), proc / "device-tree/model"):
        text = _text_of(path)
        model = re.search(r"^Model:\s*(.+)$", text, re.MULTILINE)
        facts.append(model.group(1).strip() if model else text.strip("\0 \n"))
    facts.append(_text_of(proc / "driver/nvidia/version").partition("\n")[0])
    return "; ".join(fact for fact in facts if fact) or "unknown"


def tensorrt_version() -> str:
    """Version of the TensorRT library that ONNX Runtime would load, `unknown` if none is found."""
    for name in _TENSORRT_LIBRARIES:
        try:
            return str(ctypes.CDLL(name).getInferLibVersion())
        except (OSError, AttributeError):
            continue
    return "unknown"


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""
