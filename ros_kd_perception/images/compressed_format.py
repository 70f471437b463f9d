"""What the `format` of a CompressedImage says of its data: the codec, and the encoding of the picture inside.

compressed_image_transport writes `<source encoding>; <codec> compressed <target encoding>` and leaves the target out
where it packed the source's samples as they are: grey, and the mosaic of a Bayer sensor. Many drivers write the codec
alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from ros_kd_perception.images.pixel_formats import check_holds_light
from ros_kd_perception.structures import BadFrame


@dataclass(frozen=True)
class CompressedFormat:
    """What is inside.

    Attributes:
        codec: `jpeg` or `png`.
        encoding: of the picture in lower case, such as `bgr8` or `bayer_rggb8`; empty where it is not said.
    """

    codec: str
    encoding: str


def parse_format(declared: str) -> CompressedFormat:
    """Read a `format`, whatever its case and blanks.

    Raises:
        BadFrame: `unknown_encoding` for depths, as of raw images, and for another codec.
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
