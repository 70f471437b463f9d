"""Choose the size of the demo's shared memory segments: as large as fit. Refuse the demo if too little is free."""

from __future__ import annotations

import re
from pathlib import Path

from ros_kd_perception.system.orphaned_memory import SHARED_MEMORY
from ros_kd_perception.system.segment_room import NoSharedMemory, fitting_segment_bytes, free_bytes, room_bytes

PROCESSES = 3
"""Node, player and recorder. Each has a segment of its own."""

USUAL_SEGMENT_BYTES = 32 << 20
SEGMENT_IMAGES, LEAST_SEGMENT_IMAGES = 5, 2
"""Number of the largest images that a segment should hold, and the smallest number if there is no more room.

Of twelve 3840x2160 images (24.9 MB each) at 3 Hz, 8 were perceived with segments of one image, 10 with 1.3 and 2, and
11 with 5. Of ninety 1280x720 images at 30 Hz in all, 86 to 88 were perceived with segments of 3 to 16 MiB, and 90 with
32 MiB.
"""

_SEGMENT_SIZE = re.compile(r"(?<=<segment_size>)\d+(?=</segment_size>)")


def segment_bytes(largest_message_bytes: int, folder: Path = SHARED_MEMORY) -> int:
    """Choose the size of each segment from the free memory.

    Args:
        largest_message_bytes: Size of the largest camera message or mask.
        folder: Folder of the shared memory.

    Raises:
        NoSharedMemory: There is none, or too little; the text is one sentence with what to do.
    """
    wanted = max(USUAL_SEGMENT_BYTES, SEGMENT_IMAGES * largest_message_bytes)
    least = LEAST_SEGMENT_IMAGES * largest_message_bytes
    try:
        free = free_bytes(folder)
    except NoSharedMemory as error:
        raise NoSharedMemory(_sentence(least, str(error))) from None
    fitting = fitting_segment_bytes(free, PROCESSES)
    if fitting < least:
        raise NoSharedMemory(_sentence(least, f"only {free / 1e6:.0f} MB are free"))
    return min(wanted, fitting)


def write_profile(usual: Path, path: Path, segment_size_bytes: int) -> Path:
    """Write Fast DDS settings with another segment size.

    Args:
        usual: The settings that come with the package.
        path: Path of the new file.
        segment_size_bytes: Size of the segment of each process.
    """
    text, count = _SEGMENT_SIZE.subn(str(segment_size_bytes), usual.read_text(encoding="utf-8"))
    assert count == 1, f"{usual} has {count} segment sizes"
    path.write_text(text, encoding="utf-8")
    return path


def _sentence(least_bytes: int, found: str) -> str:
    needed_bytes = PROCESSES * room_bytes(least_bytes)
    return (
        f"expected {needed_bytes / 1e6:.0f} MB or more of shared memory for images of this size, but {found}; "
        f"give a container more with --shm-size={2 * needed_bytes / 1e6:.0f}m, or use --ipc=host, "
        "or play a bag of smaller images"
    )
