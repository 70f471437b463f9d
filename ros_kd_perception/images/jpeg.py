"""JPEG frames: what the header claims is judged before anything is decoded, and damage is told from untidiness."""

from __future__ import annotations

from ros_kd_perception.images.jpeg_decoder import decode_jpeg, extra_bytes
from ros_kd_perception.images.jpeg_filler import FEW_EXTRA_BYTES, extraneous_bytes_are_harmless, without_filler
from ros_kd_perception.images.jpeg_header import read_frame_header, with_tidy_header
from ros_kd_perception.images.jpeg_scan import UnreadableScan
from ros_kd_perception.structures import BadFrame, UInt8Array

_END_MARKER = b"\xff\xd9"
_SCAN_MARKER = b"\xff\xda"
# A progressive JPEG has about ten scans; thousands of empty ones would decode for minutes.
_MAX_SCANS = 64
# Each scan goes over all pixels: 64 scans of 8192x8192 are 400 kB, and kept a thread busy for half a minute.
_MAX_SCANNED_PIXELS = 1 << 28


def check_whole_jpeg(content: bytes) -> None:
    """Refuse a JPEG that is cut off: decoders fill in grey and call it an image.

    Raises:
        BadFrame: `bad_data`, or `too_large` for more scans than the size allows.
    """
    # Past the frame header, for the end of an EXIF thumbnail stands before it; inside a scan 0xff is always followed by
    # a zero or a restart marker, so an end marker there is the end.
    header = read_frame_header(content)
    if content.rfind(_END_MARKER, header.end) < 0:
        raise BadFrame("bad_data", f"expected a JPEG with an end marker, got {len(content)} bytes without: cut off")
    scans = content.count(_SCAN_MARKER, header.end)
    if scans > _MAX_SCANS:
        raise BadFrame("bad_data", f"expected a JPEG of at most {_MAX_SCANS} scans, got {scans}")
    if scans * header.height * header.width > _MAX_SCANNED_PIXELS:
        raise BadFrame(
            "too_large",
            f"expected a JPEG of at most {_MAX_SCANNED_PIXELS} px over all its scans, got {scans} scans of "
            f"{header.width}x{header.height}",
        )


def decode_undamaged_jpeg(content: bytes) -> UInt8Array:
    """Decode a JPEG: uint8 `[height, width, 3]` BGR.

    Raises:
        BadFrame: `bad_data` where the decoder gives up or notices damage. Filler that a camera leaves in the file is
            none.
    """
    image, complaint = decode_jpeg(content)
    if complaint and (tidy := with_tidy_header(content)) != content:
        content = tidy
        image, complaint = decode_jpeg(content)
    if complaint and not _is_filler(content, complaint):
        raise BadFrame("bad_data", f"expected an undamaged JPEG, got one of which the decoder says: {complaint}")
    return image


def _is_filler(content: bytes, complaint: str) -> bool:
    """Whether a complaint is of filler, and there is no damage behind it."""
    extra = extra_bytes(complaint)
    if extra is None:
        return False
    if extra[0] <= FEW_EXTRA_BYTES:
        return True
    try:
        return extraneous_bytes_are_harmless(content)
    except UnreadableScan:
        shorter = without_filler(content, *extra)
        return shorter is not None and not decode_jpeg(shorter)[1]
