"""Parse the `format` field of a CompressedImage: its codec and the encoding of the compressed picture.

compressed_image_transport writes `<source encoding>; <codec> compressed <target encoding>`. It leaves the target out
if it compressed the samples without a conversion, which it does for grey images and Bayer mosaics. Many drivers write
only the codec.
"""

from __future__ import annotations

from dataclasses import dataclass

from ros_kd_perception.images.pixel_formats import check_holds_light
from ros_kd_perception.structures import BadFrame


@dataclass(frozen=True)
class CompressedFormat:
    """Content of a `format` field.

    Attributes:
        codec: `jpeg` or `png`.
        encoding: Encoding of the compressed picture in lower case, for example `bgr8` or `bayer_rggb8`. Empty if
            `format` names only the codec.
    """

    codec: str
    encoding: str


def parse_format(declared: str) -> CompressedFormat:
    """Parse a `format` field. Case and blanks do not matter.

    Raises:
        BadFrame: `unknown_encoding`, for a codec other than JPEG and PNG or for an encoding of depths.
    """
    source, semicolon, rest = declared.partition(";")
    _, _, after = rest.lower().partition("compressed")
    source, target = source.strip() if semicolon else "", "".join(after.split()[:1])
    for encoding in (source, target):
        check_holds_light(encoding)
    return CompressedFormat(_codec(declared), target or source.lower())


def _codec(declared: str) -> str:
    text = declared.lower()
    if "compresseddepth" not in text:
        if "jpeg" in text or "jpg" in text:
            return "jpeg"
        if "png" in text:
            return "png"
    raise BadFrame(
        "unknown_encoding", f"expected the format of a compressed image to be jpeg or png, got {declared[:60]!r}"
    )
