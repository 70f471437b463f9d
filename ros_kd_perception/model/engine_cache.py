"""The cache folders that stay on a machine between runs, such as that of TensorRT engines and timings.

TensorRT loads and runs a cached engine without a check, so only this user may be able to write to its folder.
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
    """Create the folder of the engine and timing caches, named by a hash of the identity.

    Args:
        identity: Everything that an engine depends on, such as the GPU and the TensorRT version. An engine for another
            GPU or version would be wrong or would be refused.

    Raises:
        PermissionError: The folder belongs to another user, or others may write to it.
        OSError: The folder cannot be created.
    """
    folder = own_cache_folder(f"tensorrt-{hashlib.sha256(chr(10).join(identity).encode()).hexdigest()[:24]}")
    with contextlib.suppress(OSError):  # for people who look into the cache; no code reads it
        (folder / "made_for.txt").write_text("\n".join(identity) + "\n")
    return folder


def own_cache_folder(name: str) -> Path:
    """Create a folder below `$XDG_CACHE_HOME` (or `~/.cache`) that only this user may write to.

    Raises:
        PermissionError: The folder belongs to another user, or others may write to it.
        OSError: The folder cannot be created, or this operating system has no owners of folders.
    """
    if not hasattr(os, "getuid"):
        raise OSError("expected an operating system with owners of folders (os.getuid), this one has none")
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ros_kd_perception"
    except RuntimeError as error:  # a user without a home folder, for example in a container
        raise OSError(f"expected a home folder for the cache, got: {error}; set XDG_CACHE_HOME") from None
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = base / name
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"expected {folder} to belong to this user alone; remove it")
    return folder


def gpu_identity(proc: Path = Path("/proc")) -> str:
    """Return the GPU's model and driver version from the files below `/proc`, or `unknown` without these files."""
    facts = []
    for path in (*sorted(proc.glob("driver/nvidia/gpus/*/information")), proc / "device-tree/model"):
        text = _text_of(path)
        model = re.search(r"^Model:\s*(.+)$", text, re.MULTILINE)
        facts.append(model.group(1).strip() if model else text.strip("\0 \n"))
    facts.append(_text_of(proc / "driver/nvidia/version").partition("\n")[0])
    return "; ".join(fact for fact in facts if fact) or "unknown"


def tensorrt_version() -> str:
    """Return the version of the TensorRT library that ONNX Runtime would load, or `unknown` if none is found."""
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
