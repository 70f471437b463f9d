"""Decode JPEG frames: check the header before decoding, refuse damaged files, accept harmless filler bytes."""

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
# Each scan visits all pixels. 64 scans of 8192x8192 px are a file of 400 kB that took half a minute to decode.
_MAX_SCANNED_PIXELS = 1 << 28


def check_whole_jpeg(content: bytes) -> None:
    """Refuse a JPEG that is cut off. Decoders fill the missing part with grey.

    Raises:
        BadFrame: `bad_data` for a file without an end marker, `too_large` for more scans than its size allows.
    """
    # Search behind the frame header: an EXIF thumbnail before it has its own end marker. Inside a scan, 0xff is always
    # followed by a zero or a restart marker, so an end marker there is the end of the file.
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
    """Decode a JPEG.

    Returns:
        uint8 `[height, width, 3]` BGR.

    Raises:
        BadFrame: `bad_data`, if the decoder fails or reports damage. Filler bytes of a camera are not damage.
    """
    image, complaint = decode_jpeg(content)
    if complaint and (tidy := with_tidy_header(content)) != content:
        content = tidy
        image, complaint = decode_jpeg(content)
    if complaint and not _is_filler(content, complaint):
        raise BadFrame("bad_data", f"expected an undamaged JPEG, the decoder reports: {complaint}")
    return image


def _is_filler(content: bytes, complaint: str) -> bool:
    """Return whether a complaint is about filler bytes, and the file has no damage behind them."""
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
