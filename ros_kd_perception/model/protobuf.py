"""Walks the wire format of protobuf, with a bounded number of fields. `onnx_file` says what the fields mean."""

from __future__ import annotations

from collections.abc import Iterator

MAX_FIELDS = 2_000_000

EXPORT_AGAIN = "export the model again with `python -m training export`, or adopt it again with `adopt`"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class ModelFileError(ValueError):
    """The file is refused. The text is one sentence: what was expected, what was found and what to do."""


class FieldCounter:
    """Counts the fields of a whole file. A field takes some microseconds, so a limit on them bounds the time."""

    def __init__(self) -> None:
        self._fields = 0

    def count_field(self) -> None:
        """Count one more field. Raise a ModelFileError if there are too many."""
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise ModelFileError(f"expected at most {MAX_FIELDS} fields, found more; {EXPORT_AGAIN}")


def fields_of(data: memoryview, counter: FieldCounter) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the field numbers and values of one message. Values are integers, or the bytes of fields with a length.

    Raises:
        ModelFileError: The bytes are not a protobuf message, or the file has too many fields.
    """
    position, end = 0, len(data)
    while position < end:
        counter.count_field()
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if number == 0 or tag >= 1 << 32:
            raise _not_onnx()
        value: int | memoryview
        if kind == _VARINT:
            value, position = _varint(data, position)
        elif kind == _BYTES:
            length, position = _varint(data, position)
            if length > end - position:
                raise _not_onnx()
            value = data[position : position + length]
            position += length
        elif kind in (_FIXED32, _FIXED64):
            width = 4 if kind == _FIXED32 else 8
            if width > end - position:
                raise _not_onnx()
            value = int.from_bytes(data[position : position + width], "little")
            position += width
        else:
            raise _not_onnx()  # protobuf groups, which ONNX does not use
        yield number, value


def messages_at(data: memoryview, path: tuple[int, ...], counter: FieldCounter) -> Iterator[memoryview]:
    """Yield each message at the end of a path of field numbers."""
    for number, value in fields_of(data, counter):
        if number == path[0]:
            if len(path) == 1:
                yield message_of(value)
            else:
                yield from messages_at(message_of(value), path[1:], counter)


def integers_of(value: int | memoryview, counter: FieldCounter) -> Iterator[int]:
    """Yield the values of a repeated integer field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    position = 0
    while position < len(value):
        counter.count_field()
        item, position = _varint(value, position)
        yield item


def message_of(value: int | memoryview) -> memoryview:
    """Return the bytes of a field that holds a message, a text or packed numbers."""
    if isinstance(value, int):
        raise _not_onnx()
    return value


def text_of(value: int | memoryview) -> str:
    """Return the first 256 bytes of a text."""
    return bytes(message_of(value)[:256]).decode("utf-8", "replace")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & ((1 << 64) - 1), position + index + 1
    raise _not_onnx()


def _not_onnx() -> ModelFileError:
    return ModelFileError(
        f"expected to be an ONNX model, got a file that is cut off, damaged or of another kind; {EXPORT_AGAIN}"
    )
